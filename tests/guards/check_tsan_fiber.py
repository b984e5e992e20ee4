# SPDX-License-Identifier: Apache-2.0
"""ThreadSanitizer on fibers reports every barrier or order that is taken out of a kernel body, and nothing else.
Compiles tsan_fiber.cpp with the fiber machine and runs each of its bodies."""

import os
import subprocess
import tempfile

import common

RACE = 66  # exit status of a program in which ThreadSanitizer has reported something
SOURCES = ["tests/guards/tsan_fiber.cpp", "tests/fiber/fiber.cpp", "tests/fiber/fiber_launch.cpp"]
FLAGS = ["-std=c++20", "-O1", "-g1", "-fsanitize=thread", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pthread"]


def build(root, program):
    command = [os.environ.get("CXX", "c++"), *FLAGS, "-Iinclude", "-Isrc", "-Itests", *SOURCES, "-o", program]
    subprocess.run(command, cwd=root, check=True)


def run(program, *arguments):
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def main():
    root = common.repository_root()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "tsan_fiber")
        build(root, program)
        names = run(program).stdout.split()
        for name in names:
            ended = run(program, name)
            raced = ended.returncode == RACE and "WARNING: ThreadSanitizer: data race" in ended.stderr
            if name == "correct" and ended.returncode != 0:
                problems.append(f"{name}: exit status {ended.returncode}\n{ended.stderr}")
            if name != "correct" and not raced:
                problems.append(f"{name}: not reported as a data race (exit status {ended.returncode})")
    if len(names) < 2:
        problems.append("the program lists no bodies")
    common.finish("tsan_fiber", problems, f"{len(names)} bodies")


if __name__ == "__main__":
    main()
