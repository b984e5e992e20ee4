# SPDX-License-Identifier: Apache-2.0
"""Documents of the repository, and the marked blocks in them.

A mark is a comment on the line before a fenced block or a table:
  <!-- run -->           a whole program (cpp or c): it compiles and exits 0
  <!-- output -->        what the last such program prints
  <!-- output of FILE -->  what the program FILE of examples/ prints
  <!-- from FILE -->     an excerpt that stands in FILE, white space aside
  <!-- list XD_NAME -->  a table whose first column names the members of that list of lists.h, in order
  <!-- sketch -->        code that is shown, not checked
Every cpp and c block of README.md, HACKING.md and docs/ carries a mark."""

import dataclasses
import os
import re
import subprocess

MARK = re.compile(r"^<!-- (run|output(?: of \S+)?|from \S+|list \w+|sketch) -->$")
FENCE = re.compile(r"^(```+)(\w*)$")


@dataclasses.dataclass
class Block:
    path: str
    line: int  # of its first line of text
    mark: str  # "" if there is none
    language: str  # "table" for tables
    text: str


def documents(root):
    """Markdown files, relative to root."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True)
    if listing.returncode == 0:
        return [p for p in sorted(set(listing.stdout.split())) if os.path.exists(os.path.join(root, p))]
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f != "build" and not f.startswith(".")]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names if name.endswith(".md")]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def blocks_of(path, text):
    """Fenced blocks and marked tables of one document."""
    blocks, lines, mark, i = [], text.split("\n"), "", 0
    while i < len(lines):
        fence, marked = FENCE.match(lines[i]), MARK.match(lines[i])
        first = i + 1
        if fence:
            while i + 1 < len(lines) and lines[i + 1] != fence[1]:
                i += 1
            blocks.append(Block(path, first + 1, mark, fence[2], "".join(line + "\n" for line in lines[first : i + 1])))
            i += 1
        elif mark.startswith("list ") and lines[i].startswith("|"):
            while i + 1 < len(lines) and lines[i + 1].startswith("|"):
                i += 1
            blocks.append(Block(path, first, mark, "table", "\n".join(lines[first - 1 : i + 1]) + "\n"))
        elif marked or not lines[i].strip():
            mark = marked[1] if marked else mark
            i += 1
            continue
        mark = ""
        i += 1
    return blocks
