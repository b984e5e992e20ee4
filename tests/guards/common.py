# SPDX-License-Identifier: Apache-2.0
"""What every guard needs: the files of the repository, C++ text without comments, and one way to report."""

import argparse
import os
import re
import subprocess
import sys

CPP_ENDINGS = (".hpp", ".h", ".cpp", ".c", ".cu", ".hip", ".def", ".inl")
NOT_OURS = {".git", "build", ".cache", ".venv", "__pycache__"}


def repository_root():
    """The value of --root, by default the repository that this file lies in."""
    parser = argparse.ArgumentParser()
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parser.add_argument("--root", default=default, help="repository to check")
    return os.path.abspath(parser.parse_args().root)


def files(root, folders=("",), endings=("",)):
    """Paths relative to root, sorted: what git tracks or would track, or, in an export, what lies there."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if listing.returncode == 0:
        found = listing.stdout.splitlines()
    else:
        found = []
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [s for s in subfolders if s not in NOT_OURS]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    prefixes = tuple(f + "/" if f else "" for f in folders)
    return sorted(f for f in set(found) if f.startswith(prefixes) and f.endswith(tuple(endings)) and os.path.isfile(os.path.join(root, f)))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


_TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s\\]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|'
    r"(?<![0-9a-zA-Z])'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)


def without_comments(text, strings=True):
    """C++ text with comments (and, unless strings is False, literals) blanked; lines keep their numbers."""

    def blank(match):
        token = match.group(0)
        if token[0] != "/" and not strings:
            return token
        return '""' + "\n" * token.count("\n") if token[0] != "/" else " " + "\n" * token.count("\n")

    return _TOKENS.sub(blank, text)


def finish(guard, problems, summary):
    """Prints what was found and ends the program: 1 if anything was."""
    for problem in problems:
        print(problem)
    print(f"{guard}: {len(problems)} problem(s); {summary}")
    sys.exit(1 if problems else 0)
