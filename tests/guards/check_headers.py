# SPDX-License-Identifier: Apache-2.0
"""Each public header compiles alone, as the first line of a file, with g++ and clang++; .h files as C11 too."""

import concurrent.futures
import os
import subprocess

import common

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
CPP = [["g++", "-std=c++20", "-x", "c++"], ["clang++", "-std=c++20", "-x", "c++"]]
C = [["gcc", "-std=c11", "-x", "c"], ["clang", "-std=c11", "-x", "c"]]


def compile_alone(root, header, compiler):
    """None, or what the compiler said."""
    name = header[len("include/") :]
    command = [*compiler, *WARNINGS, "-I", os.path.join(root, "include"), "-"]
    try:
        done = subprocess.run(command, input=f'#include "{name}"\nextern int unused;\n', capture_output=True, text=True)
    except FileNotFoundError:
        return f"{header}: {compiler[0]} is not installed"
    return f"{header}: {compiler[0]} {compiler[1]} refuses it alone:\n{done.stderr}" if done.returncode else None


def main():
    root = common.repository_root()
    headers = common.files(root, ["include"], [".h", ".hpp"])
    jobs = [(header, compiler) for header in headers for compiler in CPP + (C if header.endswith(".h") else [])]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: compile_alone(root, *job), jobs)
    problems = [r for r in results if r] + ([] if headers else ["include/ has no headers"])
    common.finish("headers", problems, f"{len(headers)} headers, {len(jobs)} compilations")


if __name__ == "__main__":
    main()
