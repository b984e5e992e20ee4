# SPDX-License-Identifier: Apache-2.0
"""Compiles and runs every program that a document shows, and compares what it prints with what the document says.
usage: check_programs.py --root REPOSITORY --library FILE --cxx COMPILER --cc COMPILER --out FOLDER [--update]
--update writes what the programs print into the documents."""

import argparse
import os
import subprocess
import sys

import markdown

LIMIT_S = 60


class Programs:
    def __init__(self, args):
        self.args = args
        self.num_run = 0
        self.printed = {}  # by source file: compiled and run once
        os.makedirs(args.out, exist_ok=True)

    def run(self, source):
        """(what it printed, None) or (None, why not)."""
        if source not in self.printed:
            self.printed[source] = self.compile_and_run(source)
        return self.printed[source]

    def compile_and_run(self, source):
        a = self.args
        compiler = [a.cc, "-std=c11", "-pthread"] if source.endswith(".c") else [a.cxx, "-std=c++20", "-pthread"]
        program = os.path.join(a.out, os.path.basename(source) + ".out")
        folder = os.path.dirname(a.library)
        command = [
            *compiler,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-ffp-contract=off",
            source,
            "-I" + os.path.join(a.root, "include"),
            a.library,
            "-Wl,-rpath," + folder,
            "-o",
            program,
        ]
        if a.library.endswith(".a"):
            command.append("-lstdc++")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr
        self.num_run += 1
        try:
            done = subprocess.run([program], capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return None, f"did not end within {LIMIT_S} s"
        if done.returncode:
            return None, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout, None

    def source_of(self, block):
        name = f"{block.path.replace('/', '_')}_{block.line}.{block.language}"
        source = os.path.join(self.args.out, name)
        with open(source, "w", encoding="utf-8") as f:
            f.write(block.text)
        return source

    def update(self, block, printed):
        lines = markdown.read(self.args.root, block.path).split("\n")
        lines[block.line - 1 : block.line - 1 + block.text.count("\n")] = printed.rstrip("\n").split("\n")
        with open(os.path.join(self.args.root, block.path), "w", encoding="utf-8") as f:
            f.write("\n".join(lines))
        print(f"{block.path}:{block.line}: updated")

    def check_document(self, path):
        source = None
        for block in markdown.blocks_of(path, markdown.read(self.args.root, path)):
            what, _, argument = block.mark.partition(" of ")
            if what == "run":
                source = self.source_of(block)
            elif what == "output" and argument:
                source = os.path.join(self.args.root, argument)
            if what not in ("run", "output"):
                continue
            if source is None:
                yield f"{path}:{block.line}: output of no program"
                continue
            printed, problem = self.run(source)
            if problem:
                yield f"{path}:{block.line}: {problem}"
            elif what == "output" and printed != block.text and self.args.update:
                self.update(block, printed)
                yield from self.check_document(path)  # the lines of later blocks have moved
                return
            elif what == "output" and printed != block.text:
                yield f"{path}:{block.line}: the program prints\n{printed}"


def main():
    parser = argparse.ArgumentParser()
    for name in ("--root", "--library", "--cxx", "--cc", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    args.root = os.path.abspath(args.root)
    programs = Programs(args)
    problems = [p for path in markdown.documents(args.root) for p in programs.check_document(path)]
    print("\n".join([*problems, f"docs programs: {programs.num_run} run, {len(problems)} problem(s)"]))
    return 1 if problems or not programs.num_run else 0


if __name__ == "__main__":
    sys.exit(main())
