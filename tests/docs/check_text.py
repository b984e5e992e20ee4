# SPDX-License-Identifier: Apache-2.0
"""Documents agree with the sources: paths and links lead somewhere, named functions are in the named files, excerpts are
verbatim, tables of enumerations hold every member. usage: check_text.py --root REPOSITORY"""

import argparse
import functools
import os
import re
import sys

import markdown

FOLDERS = "include|src|oracle|model|tools|tests|bench|docs|examples|cmake|integrations|python/binding|python/crossdock"
# `src/codec/pack.hpp`, or `src/codec/pack.hpp: widen, narrow`. Names in <> or with * stand for what a reader will add.
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./+-]*[\w/])(?::\s+([\w:,\s~]+))?`")
# In tables of what noticed a mistake: `Suite.Test`, or `Suite/instance.Test`.
TEST = re.compile(r"`([A-Z]\w+)(?:/\w+)?\.([A-Z]\w+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchor_of(title):
    """Anchor of a heading, as the usual renderers make it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower().replace("`", "")).strip())


def anchors(text):
    return {anchor_of(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def check_links(root, path, text):
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        full = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        if not os.path.exists(os.path.join(root, full)):
            yield f"link to {target}: there is no {full}"
        elif anchor and full.endswith(".md") and anchor not in anchors(markdown.read(root, full)):
            yield f"link to {target}: {full} has no such heading"


def check_paths(root, text):
    for named, identifiers in PATH.findall(text):
        if not os.path.exists(os.path.join(root, named)):
            yield f"`{named}` is not in the repository"
            continue
        for identifier in filter(None, (i.strip() for i in identifiers.split(","))):
            if not re.search(rf"\b{re.escape(identifier.split('::')[-1])}\b", markdown.read(root, named)):
                yield f"`{named}` does not name {identifier}"


@functools.cache
def sources_of_tests(root):
    folder = os.path.join(root, "tests")
    return "".join(markdown.read(at, file) for at, _, files in os.walk(folder) for file in files if file.endswith(".cpp"))


def check_tests(root, text):
    for suite, test in TEST.findall(text):
        if not re.search(rf"\(\s*{suite},\s*{test}\s*\)", sources_of_tests(root)):
            yield f"`{suite}.{test}`: there is no such test"


def members_of(root, name):
    """First and last argument of every row of a list."""
    text = markdown.read(root, "include/crossdock/lists.h")
    rows = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", text)
    return [(row.split(",")[0], re.search(r'"([^"]*)"$', row)[1]) for row in re.findall(r"X\((.*)\)", rows[1])] if rows else None


def check_block(root, block):
    what, _, argument = block.mark.partition(" ")
    must = block.path in ("README.md", "HACKING.md") or block.path.startswith("docs/")
    if must and block.language in ("cpp", "c") and not block.mark:
        yield "a block of code without a mark; see tests/docs/markdown.py"
    if what == "from":

        def squeeze(s):
            return re.sub(r"\s+", " ", s).strip()

        if not os.path.exists(os.path.join(root, argument)):
            yield f"an excerpt from {argument}, which is not in the repository"
        elif squeeze(block.text) not in squeeze(markdown.read(root, argument)):
            yield f"an excerpt that does not stand in {argument}"
    if what == "list":
        members = members_of(root, argument)
        shown = re.findall(r"^\| `(\w+)` \|(.*)\|$", block.text, re.MULTILINE)
        if members is None:
            yield f"a table of {argument}, which is not in lists.h"
        elif [name for name, _ in shown] != [name for name, _ in members]:
            yield f"a table of {argument} shows {[n for n, _ in shown]}; the list has {[n for n, _ in members]}"
        else:
            yield from (
                f'row `{name}` of {argument} should say "{says}"'
                for (name, says), (_, row) in zip(members, shown, strict=True)
                if says.replace("`", "") not in row.replace("`", "")
            )


def check(root, path):
    text = markdown.read(root, path)
    blocks = markdown.blocks_of(path, text)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    problems = [f"{path}: {p}" for p in [*check_links(root, path, prose), *check_paths(root, prose), *check_tests(root, prose)]]
    return problems + [f"{path}:{b.line}: {p}" for b in blocks for p in check_block(root, b)]


def self_test(root):
    text = (
        "# A b\n<!-- run -->\n```cpp\nint x;\n```\n\n```c\ny\n```\n<!-- list XD_PATHS -->\n\n| a | b |\n|---|---|\n| `staged` | x |\nend\n"
    )
    blocks = markdown.blocks_of("docs/x.md", text)
    assert [(b.mark, b.language) for b in blocks] == [("run", "cpp"), ("", "c"), ("list XD_PATHS", "table")], blocks
    assert blocks[0].text == "int x;\n" and blocks[0].line == 4
    assert [len(list(check_block(root, b))) for b in blocks] == [0, 1, 1]
    assert anchors(text) == {"a-b"}
    bad = "`src/none.hpp` and `include/crossdock/types.hpp: no_such_name` and [x](nowhere.md) and [y](#none)"
    assert len([*check_paths(root, bad), *check_links(root, "README.md", bad)]) == 4
    assert len([*check_paths(root, "`include/crossdock/types.hpp: name_of,\nno_such_name`")]) == 1
    assert len([*check_tests(root, "`Abort.WithoutAReason`, `Abort.NoSuchTest`")]) == 1
    good = "`include/crossdock/types.hpp: name_of, Dtype`, `src/layout/<name>.hpp`, [x](https://example.org)"
    assert not [*check_paths(root, good), *check_links(root, "README.md", good)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    root = os.path.abspath(parser.parse_args().root)
    self_test(root)
    paths = markdown.documents(root)
    problems = [problem for path in paths for problem in check(root, path)]
    print("\n".join([*problems, f"docs text: {len(paths)} documents, {len(problems)} problem(s)"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
