# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock: the command `crossdock`, and where C++ users of the wheel find its parts."""

import os
import sys

from crossdock import __version__, _paths, library_dir

FOLDERS = {"--cmake-dir": _paths.cmake_dir, "--include-dir": _paths.include_dir, "--library-dir": library_dir}
HELP = f"""usage: python -m crossdock [{" | ".join(FOLDERS)} | --version | ARGS of the command crossdock]"""


def main(arguments):
    if not arguments:
        print(HELP)
        return 0
    if len(arguments) == 1 and arguments[0] in FOLDERS:
        print(FOLDERS[arguments[0]]())
        return 0
    if arguments == ["--version"]:
        print(__version__)
        return 0
    try:
        command = _paths.command()
    except FileNotFoundError as error:
        print(f"crossdock: {error}", file=sys.stderr)
        return 1
    os.execve(command, [command, *arguments], {"PYTHON": sys.executable, **os.environ})  # for its verb `report`


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
