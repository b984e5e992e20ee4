#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs protocol.pml: every scenario must hold, every mutant and every trap must fail. Exit 1 on any surprise.

Needs spin and gcc. `--quick` takes a subset of some seconds, `--only TEXT` the rows whose names contain TEXT,
`--keep DIR` leaves generated files and counterexamples in DIR (replay there: `spin -t -p <the flags> protocol.pml`).
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

MODEL = pathlib.Path(__file__).resolve().parent / "protocol.pml"
CALLS = {"D": "DISPATCH", "R": "REPLAY", "P": "PUSH", "L": "PULL", "F": "FUSED", "B": "BOTH"}
LIMIT_S = 600

# name, ranks, calls of every rank ("D2": on the second buffer set; "any N": every legal script of N calls), flags.
# quick: part of --quick.
Row = collections.namedtuple("Row", "name ranks calls flags quick", defaults=("", False))
Result = collections.namedtuple("Result", "held states seconds verdict flags")

# LATE: each word arrives by itself, at any time. A reader may read a word at any time after it was written anyway, and
# a late word is then the same as a late read. Scenarios with many states therefore run without LATE.
SCENARIOS = [
    Row("calls in a row, push", 2, "D P D P D P", "LATE", quick=True),
    Row("calls in a row, pull", 2, "D L D L D L", "LATE"),
    Row("calls in a row, fused", 2, "D F D F D F", "LATE"),
    Row("calls in a row, mixed", 2, "D P D B D F", "LATE"),
    Row("dispatch without combine", 2, "D D D D D", "LATE", quick=True),
    Row("dispatch without combine, sometimes", 2, "D P D D L D", "LATE"),
    Row("combine after combine, push", 2, "D P P P D P", "LATE", quick=True),
    Row("combine after combine, pull", 2, "D L L L D L", "LATE"),
    Row("combine after combine, mixed", 2, "D F P L B D", "LATE"),
    Row("zero-copy rows rewritten, peer slow", 2, "D L D D L D", "LATE"),
    Row("replay of a kept plan", 2, "D R P R L R", "LATE"),
    Row("two in flight, combined in order", 2, "D D2 P P2 D D2", "LATE", quick=True),
    Row("two in flight, out of order", 2, "D D2 L2 L D2 P2", "LATE"),
    Row("two in flight, pipelined", 2, "D D2 P D P2 D2 L", "LATE"),
    Row("closes while a peer still reads", 2, "D L", "LATE", quick=True),
    Row("every order of 5 calls", 2, "any 5", "LATE"),
    Row("every order of 4 calls, two places", 2, "any 4", "LATE PLACES=2"),
    Row("lost at any step, push", 2, "D P D P", "LATE LOSS", quick=True),
    Row("lost at any step, pull", 2, "D L D L", "LATE LOSS"),
    Row("lost at any step, kept plan", 2, "D P P R L", "LATE LOSS"),
    Row("lost at any step, two in flight", 2, "D D2 P2 L", "LATE LOSS"),
    Row("lost at any step, every order of 3", 2, "any 3", "LATE LOSS"),
    Row("aborted at any time, every order of 4", 2, "any 4", "LATE ABORT"),
    Row("gives up too early, every order of 4", 2, "any 4", "LATE SLOW"),
    Row("calls in a row, push", 3, "D P D P", "LATE", quick=True),
    Row("calls in a row, pull", 3, "D L D L", "LATE"),
    Row("calls in a row, fused", 3, "D F D F", "LATE"),
    Row("dispatch without combine", 3, "D D D D", "LATE"),
    Row("combine after combine, push", 3, "D P P P", "LATE"),
    Row("combine after combine, pull", 3, "D L L D L", "LATE"),
    Row("zero-copy rows rewritten, peer slow", 3, "D L D D L", "LATE"),
    Row("replay of a kept plan", 3, "D R P R L", "LATE"),
    Row("two in flight, combined in order", 3, "D D2 P P2 D", "LATE"),
    Row("two in flight, out of order", 3, "D D2 L2 L D2", "LATE"),
    Row("closes while a peer still reads", 3, "D L", "LATE"),
    Row("every order of 4 calls", 3, "any 4", ""),
    Row("lost at any step, push", 3, "D P D", "LOSS VICTIMS=1"),
    Row("lost at any step, pull", 3, "D L D", "LOSS VICTIMS=1"),
    Row("lost at any step, fused", 3, "D F D", "LOSS VICTIMS=1"),
    Row("lost at any step, kept plan", 3, "D P P", "LOSS VICTIMS=1"),
    Row("lost at any step, two in flight", 3, "D D2 L2", "LOSS VICTIMS=1"),
    Row("aborted at any time", 3, "D L D", "ABORT"),
    Row("aborted at any time, kept plan", 3, "D P P", "ABORT"),
    Row("gives up too early, pull", 3, "D L D", "SLOW"),
    Row("gives up too early, fused", 3, "D F D F", "SLOW"),
    Row("every order of 3 calls", 4, "any 3", ""),
]

# Without an edge, or with its signal too early, some scenario must fail; they are tried in turn.
FAULTLESS = [row for row in SCENARIOS if row.ranks == 2 and "any" not in row.calls and "LOSS" not in row.flags]
MUTANTS = [
    (Row(f"mutant: {what} {edge}", 2, "", f"{what.upper()}={edge}", quick=True), FAULTLESS)
    for what in ("without", "early")
    for edge in ("counts", "done", "enter", "ready")
]
MUTANTS += [
    (Row("mutant: without poison", 2, "", "WITHOUT=poison", quick=True), [Row("aborted", 2, "D P", "ABORT")]),
    (Row("mutant: without poison", 3, "", "WITHOUT=poison"), [Row("lost", 3, "D P", "LOSS VICTIMS=1")]),
]

# Protocols that look right and are wrong.
TRAPS = [
    Row("trap: memory freed at close", 2, "D L", "LATE FREE_AT_CLOSE=true", quick=True),
    Row("trap: fused rows after a combine", 2, "D P F", "LATE", quick=True),
    Row("trap: pull that copies its rows first", 2, "D L L", "LATE STAGED_PULL"),
    Row("trap: no second look, pull", 2, "D L D", "LATE SLOW SECOND_LOOK=false", quick=True),
    Row("trap: no second look, fused", 2, "D F D F", "LATE SLOW SECOND_LOOK=false"),
    Row("trap: poison from its origin only", 3, "D L D", "SLOW PASS_ON=false", quick=True),
    Row("trap: signals after a failure", 2, "D P D", "LATE SLOW SIGNALS_AFTER_FAILURE", quick=True),
]


def flags_of(row):
    flags = [f"-D{flag}" for flag in row.flags.split()] + [f"-DW={row.ranks}"]
    if row.calls.startswith("any "):
        return [*flags, "-DANY", f"-DOPS={row.calls[4:]}"]
    calls = row.calls.split()
    if "2" in row.calls:
        flags.append("-DPLACES=2")
    names = [CALLS[call[0]] + ("_2" if call.endswith("2") else "") for call in calls]
    return [*flags, f"-DOPS={len(calls)}", "-DSCRIPT=" + ",".join(names)]


def run(command, folder, limit_s=LIMIT_S):
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s)


def reason_of(flags, output, folder):
    """The rule that a counterexample breaks: the comment in the assertion that fails."""
    if re.search(r"pan:\d+: invalid end state", output):
        return "deadlock"
    replay = run(["spin", "-t", "-b", *flags, MODEL.name], folder).stdout
    line = re.search(r"protocol\.pml:(\d+), Error: assertion violated", replay)
    if not line:
        return "fails, and the replay does not show where"
    lines = MODEL.read_text().splitlines()
    text = lines[int(line.group(1)) - 1]
    if "TOUCH(" in text:
        text = next(define for define in lines if define.startswith("#define TOUCH("))
    comment = re.search(r"assert\(.*?/\* (.*?) \*/", text)
    return comment.group(1) if comment else f"assertion of line {line.group(1)}"


def check(row, root):
    """Builds and runs one verifier. `held` is None if it did not finish."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=re.sub(r"[^a-zA-Z0-9]+", "-", f"{row.name}-{row.ranks}-"), dir=root))
    (folder / MODEL.name).write_bytes(MODEL.read_bytes())
    flags, started = flags_of(row), time.monotonic()
    # spin does not support partial order reduction with `unless`, which LOSS uses.
    # An optimised build and -DCOLLAPSE cost more time than they save.
    build = ["gcc", "-O0", "-w", "-DSAFETY", "-DMEMLIM=3000"]
    build += ["-DNOREDUCE"] if "LOSS" in row.flags else []
    try:
        for command in (["spin", "-a", *flags, MODEL.name], [*build, "-o", "pan", "pan.c"]):
            done = run(command, folder)
            if done.returncode != 0 or not (folder / "pan.c").exists():
                return Result(None, 0, 0, "does not build: " + done.stdout.strip()[-300:], flags)
        output = run(["./pan", "-m50000", "-w20"], folder).stdout
    except subprocess.TimeoutExpired:
        return Result(None, 0, time.monotonic() - started, f"not finished after {LIMIT_S} s", flags)
    states = re.search(r"(\d+) states, stored", output)
    errors = re.search(r"errors: (\d+)", output)
    if not states or not errors or "max search depth too small" in output:
        return Result(None, 0, time.monotonic() - started, "search not complete: " + output.strip()[-300:], flags)
    held = errors.group(1) == "0"
    if held and "Search not completed" in output:
        return Result(None, 0, time.monotonic() - started, "search not complete", flags)
    verdict = "holds" if held else reason_of(flags, output, folder)
    return Result(held, int(states.group(1)), time.monotonic() - started, verdict, flags)


def check_mutant(mutant, candidates, root):
    """Tries scenarios until one fails."""
    tried, result = 0, None
    for row in candidates:
        tried += 1
        result = check(row._replace(flags=f"{row.flags} {mutant.flags}"), root)
        if result.held is not True:
            break
    where = f"{row.calls}" if result.held is False else f"none of {tried} scenarios notices"
    return mutant._replace(calls=where), result


def print_row(row, result, as_expected):
    states = f"{result.states:,}" if result.states else "-"
    mark = "" if as_expected else "   <-- SURPRISE"
    name = row.name + (" *" if "LATE" in row.flags and ":" not in row.name else "")
    verdict = result.verdict + mark
    print(f"{name:<42} {row.ranks}  {row.calls:<17} {states:>12} {result.seconds:7.1f}  {verdict}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a subset of at most 20 seconds")
    parser.add_argument("--only", metavar="TEXT", default="", help="rows whose names contain TEXT")
    parser.add_argument("--keep", metavar="DIR", help="keep what was generated in DIR")
    args = parser.parse_args()
    for tool in ("spin", "gcc"):
        if not shutil.which(tool):
            print(f"{tool} is missing (Debian: apt-get install spin gcc)", file=sys.stderr)
            return 1

    def wanted(row):
        return args.only.lower() in row.name.lower() and (row.quick or not args.quick)

    scenarios, traps = filter(wanted, SCENARIOS), filter(wanted, TRAPS)
    mutants = [(row, candidates) for row, candidates in MUTANTS if wanted(row)]
    started, surprises, rows = time.monotonic(), [], 0
    root = args.keep or tempfile.mkdtemp(prefix="crossdock-model-")
    os.makedirs(root, exist_ok=True)
    print(f"{'scenario (* each word travels by itself)':<42} W  {'calls':<17} {'states':>12} {'seconds':>7}  verdict")
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        jobs = [(True, pool.submit(lambda row=row: (row, check(row, root)))) for row in scenarios]
        jobs += [(False, pool.submit(check_mutant, row, candidates, root)) for row, candidates in mutants]
        jobs += [(False, pool.submit(lambda row=row: (row, check(row, root)))) for row in traps]
        for must_hold, job in jobs:
            row, result = job.result()
            rows += 1
            if result.held is not must_hold:
                surprises.append((row, result))
            print_row(row, result, result.held is must_hold)
    if not args.keep:
        shutil.rmtree(root)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{rows} rows, {time.monotonic() - started:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time")
    for row, result in surprises:
        print(f"SURPRISE: {row.name}, W={row.ranks}: {result.verdict}\n  flags: {' '.join(result.flags)}")
    if rows == 0:
        print("no row has such a name", file=sys.stderr)
    return 1 if surprises or rows == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
