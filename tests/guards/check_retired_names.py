# SPDX-License-Identifier: Apache-2.0
"""No file uses an identifier that has a successor: retired_names.txt lists both.

Only whole identifiers count, in code, comments and texts alike. Exempt are files that describe the past (CHANGELOG,
docs/adr, bench/ladder) and those that answer old names with an error, with their tests: `retired_names` in the name."""

import os
import re

import common

LIST = "tests/guards/retired_names.txt"
FOLDERS = ("src", "include", "python", "tools", "oracle", "examples", "tests", "docs", "integrations", "model", "cmake")
EXEMPT_FOLDERS = ("docs/adr/",)
# (file, name): names that are another project's own (FlyDSL's), or that a test expects to be refused.
FOREIGN = {
    ("tools/problem/cases.cpp", "max_tokens"),
    ("docs/cases.md", "max_tokens"),
    ("tests/cli/cli_test.py", "max_tokens"),
    ("tests/cases/verbs_test.py", "combine_wire"),
}
BINARY = (".png", ".svg", ".gz", ".npz", ".npy", ".jsonl")


def names_of(text):
    """({old: new}, problems) of the list."""
    names, problems = {}, []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] == words[1]:
            problems.append(f"{LIST}:{number}: `{line}` is not an old name and a new one")
        elif words[0] in names:
            problems.append(f"{LIST}:{number}: `{words[0]}` stands twice")
        else:
            names[words[0]] = words[1]
    problems += [f"{LIST}: `{old}` leads to `{new}`, which is retired too" for old, new in names.items() if new in names]
    return names, problems


def pattern_of(names):
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(r"(?<![A-Za-z0-9_])(" + "|".join(map(re.escape, longest_first)) + r")(?![A-Za-z0-9_])")


def is_exempt(path):
    return path.startswith(EXEMPT_FOLDERS) or "retired_names" in os.path.basename(path) or path.endswith(BINARY)


def check(path, text, names, pattern):
    return [
        f"{path}:{number}: `{match[1]}` is `{names[match[1]]}`"
        for number, line in enumerate(text.split("\n"), 1)
        for match in pattern.finditer(line)
        if (path, match[1]) not in FOREIGN
    ]


def self_test():
    names, problems = names_of("# a comment\nold_name new_name\n\nlib.old lib.new\n")
    assert names == {"old_name": "new_name", "lib.old": "lib.new"} and not problems
    pattern = pattern_of(names)
    for planted in ("old_name", "x.old_name = 1", "// see old_name()", "`old_name`", "old_name old_name", "lib.old(x)"):
        assert check("x", planted, names, pattern), planted
    assert check("x", "a\nold_name", names, pattern) == ["x:2: `old_name` is `new_name`"]
    for sound in ("new_name", "old_names", "my_old_name", "old name", "libXold", "lib.older"):
        assert not check("x", sound, names, pattern), sound
    for text in ("old_name", "a b c", "a a", "a b\na c", "a b\nb c"):
        assert names_of(text)[1], text
    assert is_exempt("docs/adr/0001-x.md") and is_exempt("include/crossdock/retired_names.h")
    assert not is_exempt("docs/journey.md") and not is_exempt("tests/unit/names_test.cpp")


def main():
    self_test()
    root = common.repository_root()
    names, problems = names_of(common.read(root, LIST))
    pattern = pattern_of(names)
    paths = [path for path in common.files(root, FOLDERS) if not is_exempt(path)]
    paths += [path for path in ("README.md", "HACKING.md", "CMakeLists.txt") if os.path.isfile(os.path.join(root, path))]
    for path in paths:
        problems += check(path, common.read(root, path), names, pattern)
    common.finish("retired names", problems, f"{len(names)} names, {len(paths)} files")


if __name__ == "__main__":
    main()
