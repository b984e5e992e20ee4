# SPDX-License-Identifier: Apache-2.0
"""No body knows a machine. Outside src/platform and the vendors' folders of the tools there is no #if but include guards and
__cplusplus, and no `if constexpr` on platform, architecture or warp width."""

import re

import common

FOLDERS = ["src", "include", "oracle", "tools"]
MACHINES = ("src/platform/", "tools/cuda/", "tools/hip/")

CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b(.*)$")
ALLOWED = re.compile(r"^\s*\(?\s*(defined\s*\(?\s*)?__cplusplus\b[\s\d<>=L)]*$")
CONSTEXPR = re.compile(r"\bif\s+constexpr\s*\(")
MACHINE_WORDS = re.compile(
    r"kWidth|kWarp\w*|warp_?size|BackendKind|platform::|kIs(Cuda|Hip|Cpu|Gpu)\w*|is_(cuda|hip|cpu|gpu)\w*|"
    r"kArch\w*|__CUDA\w*|__HIP\w*|sm_\d+|gfx\d+",
    re.IGNORECASE,
)


def is_include_guard(lines, index, condition):
    """#ifndef NAME, the next line #define NAME, and nothing but blanks before."""
    follows = lines[index + 1].split() if index + 1 < len(lines) else []
    return not "".join(lines[:index]).strip() and follows[:2] == ["#define", condition.strip()]


def condition_of(lines, index, column):
    """Text between the parentheses of an `if constexpr (` whose `(` ends at column."""
    text, depth = "\n".join([lines[index][column:], *lines[index + 1 : index + 6]]), 1
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[:i]
    return text


def check(path, text):
    lines = common.without_comments(text).split("\n")
    problems = []
    for index, line in enumerate(lines):
        match = CONDITIONAL.match(line)
        if match and not ALLOWED.match(match.group(2)) and not is_include_guard(lines, index, match.group(2)):
            problems.append(f"{path}:{index + 1}: {line.strip()}")
        for match in CONSTEXPR.finditer(line):
            condition = condition_of(lines, index, match.end())
            if MACHINE_WORDS.search(condition):
                problems.append(f"{path}:{index + 1}: if constexpr ({condition})")
    return problems


def self_test():
    good = [
        "/* x */\n#ifndef A_H\n#define A_H\n#ifdef __cplusplus\n#endif\n#endif\n",
        "#pragma once\n// #if 0\n",
        "if constexpr (kWeights) f();\n",
    ]
    bad = [
        "#if defined(__CUDACC__)\n#endif\n",
        "#ifdef __x86_64__\n#endif\n",
        "if constexpr (M::kWidth == 1) f();\n",
        "#if 0\n#endif\n",
        "if constexpr (f(a) &&\n  is_hip_v<M>) f();\n",
    ]
    for text in good:
        assert not check("x.hpp", text), text
    for text in bad:
        assert len(check("x.hpp", text)) == 1, text


def main():
    self_test()
    root = common.repository_root()
    paths = [p for p in common.files(root, FOLDERS, common.CPP_ENDINGS) if not p.startswith(MACHINES)]
    problems = [problem for path in paths for problem in check(path, common.read(root, path))]
    common.finish("conditionals", problems, f"{len(paths)} files outside {', '.join(MACHINES)}")


if __name__ == "__main__":
    main()
