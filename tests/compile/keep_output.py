# SPDX-License-Identifier: Apache-2.0
"""Starts a compiler, and keeps what it prints beside the object that it makes, for check_bodies.py.

usage: keep_output.py COMMAND... -o OBJECT ARG...     writes OBJECT.txt; CMake puts it before the compiler"""

import re
import subprocess
import sys

command = sys.argv[1:]
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
if done.returncode:
    sys.exit(done.stdout)
for line in done.stdout.splitlines():
    if not re.match(r"ptxas info|\s+\d+ bytes stack frame", line):
        print(line)  # a warning
with open(command[command.index("-o") + 1] + ".txt", "w", encoding="utf-8") as f:
    f.write(done.stdout)
