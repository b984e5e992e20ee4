#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one line at a time (tests/mutants.txt) in a copy of the sources and runs the tests that must notice.

  tests/mutate.py [--sample N] [--only TEXT] [--seconds S] [--write]

The copy and its build, without optimisation and with five instances of combine, are in build/mutants. Exit status 1: a mutant was not
noticed, or the tests fail where nothing is broken. `--sample N` takes N of them, others on each day; `--write` makes tests/MUTATIONS.md."""

import argparse
import dataclasses
import datetime
import os
import pathlib
import random
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutants.txt"
HOME = ROOT / "build" / "mutants"
TREE, BUILD = HOME / "tree", HOME / "build"
PROGRAMS = ("unit", "backend", "multirank")
LIMIT_S = 240  # a mutant may hang: that is noticed, too


@dataclasses.dataclass
class Mutant:
    what: str
    file: str = ""
    old: str = ""
    new: str = ""
    program: str = ""
    tests: str = ""


def mutants_of(text):
    found = []
    for line in text.splitlines():
        kind, rest = line[:2], line[2:].replace("\\n", "\n")
        if kind == "= ":
            found.append(Mutant(rest))
        elif kind == "< ":
            found[-1].old = rest
        elif kind == "> ":
            found[-1].new = rest
        elif kind == "? ":
            found[-1].program, found[-1].tests = rest.split(" ", 1)
        elif line and not line.startswith("#"):
            found[-1].file = line
    return found


def objections(mutants, root=ROOT):
    for m in mutants:
        if m.program not in PROGRAMS or not (m.old and m.new and m.tests) or m.old == m.new:
            yield f"`{m.what}`: its block is not complete"
        elif (count := (root / m.file).read_text().count(m.old)) != 1:
            yield f"`{m.what}`: {m.file} has its line {count} times, not once"


def run(command, limit_s=900, **more):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False, **more)
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(command, 124, (late.stdout or b"").decode(), "")


def copy_sources():
    listed = run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"]).stdout.split()
    for name in listed:
        source, target = ROOT / name, TREE / name
        if source.is_file() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


def configure():
    options = {
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": "-O0",
        "CROSSDOCK_CUDA": "OFF",
        "CROSSDOCK_HIP": "OFF",
        "CROSSDOCK_TOOLS": "OFF",
        "CROSSDOCK_EXAMPLES": "OFF",
        "CROSSDOCK_WERROR": "OFF",
        "CROSSDOCK_INSTANCES": "bf16/none;f32/none;fp4_e2m1/none;bf16/fp8_direct_cast;bf16/fp8_blockwise",
        "CROSSDOCK_TEST_FOLDERS": ";".join(PROGRAMS),
    }
    return run(["cmake", "-S", TREE, "-B", BUILD, "-G", "Ninja", *(f"-D{key}={value}" for key, value in options.items())])


def build(*programs):
    return run(["cmake", "--build", BUILD, "--target", *(f"{program}_tests" for program in programs)])


def tested(program, tests, limit_s=LIMIT_S):
    """(whether all passed, the tests that did not)"""
    done = run([BUILD / "bin" / f"{program}_tests", f"--gtest_filter={tests}", "--gtest_fail_fast"], limit_s)
    failed = re.findall(r"^\[  FAILED  \] (\S+\.\S+?)[ ,]", done.stdout, re.MULTILINE)
    ran = "[  PASSED  ] 0 tests" not in done.stdout or failed
    if done.returncode == 0 and not ran:
        raise SystemExit(f"{program}_tests has no test {tests}")
    if done.returncode == 124:
        failed = ["none ends"]
    elif done.returncode < 0:
        failed = [f"signal {-done.returncode}"]
    return done.returncode == 0, failed[:1]


def play(mutant):
    """What came of it: "noticed", "survived" or "not built", and by what."""
    path = TREE / mutant.file
    sound = path.read_text()
    path.write_text(sound.replace(mutant.old, mutant.new))
    try:
        if build(mutant.program).returncode:
            return "not built", ""
        passed, failed = tested(mutant.program, mutant.tests)
        return ("survived", "") if passed else ("noticed", failed[0] if failed else "")
    finally:
        path.write_text(sound)


def table_of(results):
    lines = [f"| {m.what} | `{m.file}` | {outcome}{f': `{by}`' if by else ''} |" for m, outcome, by in results]
    return "\n".join(["| broken | where | outcome |", "|---|---|---|", *lines])


def page_of(results):
    noticed = sum(outcome == "noticed" for _, outcome, _ in results)
    return (
        "# Mutations\n\n"
        "One line of the sources is broken at a time (`tests/mutants.txt`), in a copy, and the tests that should notice run, on the CPU\n"
        f"without optimisation. `./dev mutate --write` has made this page: {noticed} of {len(results)} noticed.\n\n"
        f"{table_of(results)}\n\n"
        "The model has its own: each edge not waited for, each signal sent early, each rule about failures left out. `model/check.py`\n"
        "runs them every time.\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="how many of them")
    parser.add_argument("--only", default="", help="those whose name has this text")
    parser.add_argument("--seconds", type=float, default=0, help="begin no other mutant after so many seconds")
    parser.add_argument("--write", action="store_true", help="write tests/MUTATIONS.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    mutants = mutants_of(LIST.read_text())
    if problems := list(objections(mutants)):
        sys.exit("\n".join(problems))
    chosen = [m for m in mutants if arguments.only in m.what]
    if arguments.sample:
        chosen = random.Random(datetime.date.today().isoformat()).sample(chosen, min(arguments.sample, len(chosen)))
    copy_sources()
    programs = sorted({m.program for m in chosen})
    for done in (configure(), build(*programs)):
        if done.returncode:
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    for program, tests in sorted({(m.program, m.tests) for m in chosen}):
        passed, failed = tested(program, tests)
        if not passed:
            sys.exit(f"nothing is broken, and {program}_tests fail: {failed}")
    print(f"built and sound after {time.monotonic() - began:.0f} s", flush=True)
    results = []
    for mutant in chosen:
        if arguments.seconds and results and time.monotonic() - began > arguments.seconds:
            print(f"{len(chosen) - len(results)} not tried: {arguments.seconds:.0f} s are over")
            break
        results.append((mutant, *play(mutant)))
        print(f"{time.monotonic() - began:6.0f} s  {results[-1][1]:10} {mutant.what} {results[-1][2]}", flush=True)
    build(*programs)  # so that the next run begins with sound programs
    if arguments.write:
        (ROOT / "tests" / "MUTATIONS.md").write_text(page_of(results))
    missed = [m.what for m, outcome, _ in results if outcome != "noticed"]
    print(f"{len(results) - len(missed)} of {len(results)} noticed" + "".join(f"\nnot noticed: {what}" for what in missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    os.environ.pop("CROSSDOCK_PACKET_TOKENS", None)
    main()
