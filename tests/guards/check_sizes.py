# SPDX-License-Identifier: Apache-2.0
"""Prints the longest files and functions and the lines of the public headers; fails over the limits."""

import ast
import re

import common

MAX_FILE, MAX_FUNCTION, MAX_PUBLIC = 500, 60, 800
NO_CONTRACT = "include/crossdock/retired_names.h"  # only says what no longer holds, and goes with version 0.2
FOLDERS = ["include", "src", "oracle", "tools", "tests", "bench", "examples", "model", "python"]
SHOWN = 3

# "file", "file: function" or "include/" -> (its own limit, why). A row that is no longer needed is a failure too.
EXCEPTIONS = {
    "include/": (1000, "the contract twice, in C++ and as the C border, with shapes, owners, errors and streams; old names until 0.2"),
    "model/protocol.pml": (650, "one model of one protocol; Promela has no modules"),
}

OPENING = re.compile(r"""[)\]\w&*>]\s*(const|noexcept|override|final|mutable|requires[^{};]*|->[^{};]*|\s)*$""")
NOT_A_FUNCTION = re.compile(r"\b(namespace|class|struct|union|enum|concept|extern)\b[^()]*$|[=,({\[]\s*$|\breturn$")
BRACED_VALUE = "value"
NAME = re.compile(r"([~\w:<>]+(?:operator\W+)?)\s*\(")
NO_NAMES = {"if", "for", "while", "switch", "catch", "sizeof", "alignas", "decltype", "requires", "noexcept", "throw"}


def cpp_functions(text):
    """(name, first line, lines) of each outermost function body; a lambda belongs to the function around it."""
    text = common.without_comments(text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.MULTILINE)
    found, open_braces, start, line = [], [], 0, 1  # open_braces: (name, line) of a function, BRACED_VALUE or None
    for i, c in enumerate(text):
        inside = any(isinstance(brace, tuple) for brace in open_braces)
        if c == "\n":
            line += 1
        elif c == "{":
            head = text[start:i].lstrip()
            if text[i - 1].isalnum() or text[i - 1] in "_>":
                open_braces.append(BRACED_VALUE)  # x{1}
                continue
            is_function = not inside and "(" in head and OPENING.search(head) and not NOT_A_FUNCTION.search(head)
            names = [n for n in NAME.findall(head) if n not in NO_NAMES] if is_function else []
            open_braces.append((names[0], line - head.count("\n")) if names else None)
            start = i + 1
        elif c == "}" and open_braces:
            brace = open_braces.pop()
            if isinstance(brace, tuple):
                found.append((brace[0], brace[1], line - brace[1] + 1))
            start = start if brace is BRACED_VALUE else i + 1
        elif c == ";" and not inside:
            start = i + 1
    return found


def python_functions(text):
    return [
        (node.name, node.lineno, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]


def over(sizes, limit, what):
    """Problems among (key, lines), longest first."""
    problems = []
    for key, lines in sizes:
        allowed = EXCEPTIONS.get(key, (limit, ""))[0]
        if lines > allowed:
            problems.append(f"{key}: {lines} lines; a {what} has at most {allowed}")
        elif key in EXCEPTIONS and lines <= limit:
            problems.append(f"{key}: {lines} lines fit the limit again; remove its row from EXCEPTIONS")
    return problems


def self_test():
    text = """namespace a {
template <class T> requires(sizeof(T) > 1)
int f(T t) noexcept {
  auto g = [&](int x) { return x; };
  if (t) { return g(1); }
  return 0;
}
struct S {
  S() : a_{1}, b_(2) {}
  bool h() const override
  { return "}" != nullptr; }
  int a_{0};
};
int table[] = {1, 2, int(3)};
TEST(Suite, name) {
}
}
"""
    found = [(name, lines) for name, _, lines in cpp_functions(text)]
    assert found == [("f", 6), ("S", 1), ("h", 2), ("TEST", 2)], found
    assert python_functions("def f():\n  return 1\n") == [("f", 1, 2)]


def main():
    self_test()
    root = common.repository_root()
    file_sizes, function_sizes = [], []
    for path in [*common.files(root, FOLDERS, (*common.CPP_ENDINGS, ".py", ".pml", ".sh")), "dev"]:
        text = common.read(root, path)
        file_sizes.append((path, text.count("\n")))
        functions = python_functions(text) if path.endswith(".py") else cpp_functions(text) if path.endswith(common.CPP_ENDINGS) else []
        function_sizes += [(f"{path}: {name}", lines) for name, _, lines in functions]
    public = sum(lines for path, lines in file_sizes if path.startswith("include/") and path != NO_CONTRACT)

    def longest(sizes):
        return sorted(sizes, key=lambda s: -s[1])

    for what, sizes in ("files", longest(file_sizes)), ("functions", longest(function_sizes)):
        print(f"longest {what}: " + ", ".join(f"{key} ({lines})" for key, lines in sizes[:SHOWN]))
    print(f"public headers: {public} lines")
    problems = over(longest(file_sizes), MAX_FILE, "file") + over(longest(function_sizes), MAX_FUNCTION, "function")
    problems += over([("include/", public)], MAX_PUBLIC, "contract")
    keys = {"include/"} | {key for key, _ in file_sizes + function_sizes}
    problems += [f"{key}: in EXCEPTIONS, but not in the repository" for key in EXCEPTIONS if key not in keys]
    common.finish("sizes", problems, f"{len(file_sizes)} files, {len(function_sizes)} functions")


if __name__ == "__main__":
    main()
