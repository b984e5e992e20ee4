# SPDX-License-Identifier: Apache-2.0
"""Checks layout, lint rules, spelling and YAML of every file of the repository; each checker first has to object to a planted fault.
`./dev lint` and `./dev test lint` install the tools, configure the preset `lint` for clang-tidy, and run this.

usage: lint.py [CHECKER...] [--seconds N] [--junit FILE]    without names: every checker
       lint.py --fix                                        lays out C, C++ and Python, as `./dev fmt` does"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guards"))
import common
import tidy

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CLANG_FORMAT = "clang-format-14"
TOOLS = os.path.join(ROOT, ".cache", "lint", "bin")  # pinned in requirements.txt
RUFF, CODESPELL, PYTHON = (os.path.join(TOOLS, name) for name in ("ruff", "codespell", "python"))
CPP_FOLDERS = ["include", "src", "oracle", "tools", "tests", "bench", "examples", "python"]
CPP_ENDINGS = [".hpp", ".h", ".cpp", ".c", ".cu", ".hip"]
NOT_TEXT = (".png", ".gz", ".npz", ".npy")
LOAD_YAML = """
import sys, yaml
for path in sys.argv[1:]:
    try:
        with open(path, encoding="utf-8") as f:
            yaml.safe_load(f)
    except yaml.YAMLError as error:
        print(path, *str(error).split())
"""


def shown(problems):
    print("".join(line + "\n" for line in problems), end="", flush=True)
    return problems


def run(*command, text=None):
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True)


def objects(*command, wrong, right):
    """Makes sure that a checker which reads stdin fails for `wrong` and passes `right`."""
    for text, expected in ((wrong, False), (right, True)):
        done = run(*command, text=text)
        assert (done.returncode == 0) == expected, f"{' '.join(command)} on {text!r}: {done.stdout}{done.stderr}"


def lines_of(done, text):
    """Lines of what a checker printed; a failed one that printed nothing is a problem too."""
    lines = [line for line in text.splitlines() if line.strip()] if done.returncode else []
    return lines or ([f"ended with {done.returncode}: {done.stderr}"] if done.returncode else [])


def cpp_files():  # lists.h is a table, aligned by hand
    return [path for path in common.files(ROOT, CPP_FOLDERS, CPP_ENDINGS) if os.path.basename(path) != "lists.h"]


def clang_format(_):
    objects(CLANG_FORMAT, "--dry-run", "-Werror", wrong="int  f( );\n", right="int f();\n")
    paths = cpp_files()
    done = run(CLANG_FORMAT, "--dry-run", "-Werror", "--ferror-limit=1", *paths)
    problems = [line for line in lines_of(done, done.stderr) if ": error: " in line] or lines_of(done, "")
    return shown(problems), f"{len(paths)} files; `./dev fmt` mends them"


def ruff_format(_):
    objects(RUFF, "format", "--check", "-", wrong="f( 1 )\n", right="f(1)\n")
    done = run(RUFF, "format", "--check", "--output-format", "concise")
    return shown([line for line in lines_of(done, done.stdout) if not line[0].isdigit()]), "`./dev fmt` mends them"


def ruff_check(_):
    objects(RUFF, "check", "-", wrong="import os\n", right="import os\n\nos.abort()\n")
    done = run(RUFF, "check", "-q", "--output-format", "concise")
    return shown(lines_of(done, done.stdout)), f"rules of pyproject.toml; `{os.path.relpath(RUFF, ROOT)} check --fix` mends some"


def spelling(_):
    objects(CODESPELL, "-", wrong="rec" + "ieve\n", right="receive\n")
    paths = [path for path in common.files(ROOT) if not path.endswith(NOT_TEXT)]
    done = run(CODESPELL, *paths)
    return shown(lines_of(done, done.stdout)), f"{len(paths)} files; words of ours stand in pyproject.toml"


def yaml(_):
    def load(*paths):
        done = run(PYTHON, "-c", LOAD_YAML, *paths)
        return lines_of(done, "") or done.stdout.splitlines()

    with tempfile.NamedTemporaryFile("w") as file:
        file.write("a: [1\n")
        file.flush()
        assert load(file.name), "a wrong file was loaded"
    paths = common.files(ROOT, endings=[".yml", ".yaml"])
    return shown(load(*paths)), f"{len(paths)} files"


def clang_tidy(arguments):
    return tidy.check(ROOT, os.path.join(ROOT, "build", "lint"), arguments.seconds)


CHECKERS = {check.__name__: check for check in (clang_format, ruff_format, ruff_check, spelling, yaml, clang_tidy)}


def write_junit(path, results):
    """As pytest writes it, for tests/report.py."""
    suite = xml.etree.ElementTree.Element("testsuite", name="lint", tests=str(len(results)))
    for name, (problems, seconds) in results.items():
        case = xml.etree.ElementTree.SubElement(suite, "testcase", classname="lint", name=name, time=f"{seconds:.1f}")
        if problems:
            xml.etree.ElementTree.SubElement(case, "failure", message=f"{len(problems)} problem(s)").text = "\n".join(problems)
    xml.etree.ElementTree.ElementTree(suite).write(path, encoding="utf-8")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkers", nargs="*", help=f"some of {', '.join(CHECKERS)}")
    parser.add_argument("--seconds", type=float, help="clang-tidy leaves out what is not done by then")
    parser.add_argument("--junit", help="file for the results")
    parser.add_argument("--fix", action="store_true", help="lay out every file")
    arguments = parser.parse_args()
    for name in arguments.checkers:
        if name not in CHECKERS:
            parser.error(f"no checker `{name}`; there are {', '.join(CHECKERS)}")
    if not os.path.exists(RUFF):
        parser.error("the tools are missing; `./dev fmt` installs them")
    return arguments


def main():
    arguments = parse()
    if arguments.fix:
        subprocess.run([CLANG_FORMAT, "-i", *cpp_files()], cwd=ROOT, check=True)
        subprocess.run([RUFF, "format", "-q"], cwd=ROOT, check=True)
        return 0
    results = {}
    for name in arguments.checkers or CHECKERS:
        began = time.monotonic()
        problems, counts = CHECKERS[name](arguments)
        results[name] = problems, time.monotonic() - began
        print(f"{name}: {len(problems)} problem(s); {counts} ({results[name][1]:.0f} s)", flush=True)
    if arguments.junit:
        write_junit(arguments.junit, results)
    return 1 if any(problems for problems, _ in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
