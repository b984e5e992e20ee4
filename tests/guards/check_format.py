# SPDX-License-Identifier: Apache-2.0
"""C and C++ stand as `./dev fmt` leaves them. Lists (lists.h) are tables, aligned by hand."""

import os
import subprocess

import common

FOLDERS = ["include", "src", "oracle", "tools", "tests", "bench", "examples", "python"]
ENDINGS = [".hpp", ".h", ".cpp", ".c", ".cu", ".hip"]
FORMATTER = "clang-format-14"


def check(root, paths):
    done = subprocess.run([FORMATTER, "--dry-run", "-Werror", "--ferror-limit=1", *paths], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 or done.stderr, f"{FORMATTER} ended with {done.returncode}"
    return [line for line in done.stderr.splitlines() if ": error: " in line]


def self_test(root):
    style = f"--style=file:{os.path.join(root, '.clang-format')}"
    for text, is_right in (("int f();\n", True), ("int  f( );\n", False)):
        done = subprocess.run([FORMATTER, style, "--dry-run", "-Werror"], input=text, capture_output=True, text=True)
        assert (done.returncode == 0) == is_right, done.stderr


def main():
    root = common.repository_root()
    self_test(root)
    paths = [path for path in common.files(root, FOLDERS, ENDINGS) if os.path.basename(path) != "lists.h"]
    common.finish("format", check(root, paths), f"{len(paths)} files; `./dev fmt` mends them")


if __name__ == "__main__":
    main()
