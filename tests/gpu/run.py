# SPDX-License-Identifier: Apache-2.0
"""Runs on GPUs what needs them: suites, cases, benches (./dev gpu), sanitizers, litmus loops and long replays (--long).
Prints a line a step and the end of the log of each that failed; leaves logs, results and a baseline in --out.

usage: run.py --build DIR [--out DIR] [--gpus N] [--long] [--only NAME,...] [--limit S] [--list] [--backend cuda|hip|cpu] [--baseline]"""
import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import gpus as known
import steps as plan

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TAIL = 12  # lines of a failed step's log


class Running:
    """A step under way on GPUs of its own."""

    def __init__(self, step, gpus, args):
        self.step, self.gpus, self.began = step, gpus, time.monotonic()
        self.log = os.path.join(args.out, step.name + ".log")
        words = {"bin": os.path.join(args.build, "bin"), "root": ROOT, "out": args.out}
        # Ranks that share a device need hardware queues of their own: a kernel that waits for its stream's turn would hold
        # up the peer's kernel that it waits for.
        vendor = known.vendor_of(args.backend)
        env = {**os.environ, "CROSSDOCK_BACKEND": args.backend, **vendor.queues,
               "CROSSDOCK_PLUGIN_DIR": os.path.join(args.build, "lib"),
               "PATH": os.environ.get("PATH", "") + ":/usr/local/cuda/bin:/opt/rocm/bin", **step.env,
               vendor.visible: ",".join(str(gpu) for gpu in gpus)}
        with open(self.log, "w", encoding="utf-8") as log:
            command = shlex.split(step.command.format(**words))
            log.write(" ".join(command) + "\n")
            log.flush()
            try:
                self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=args.out)
            except OSError as error:
                log.write(str(error) + "\n")
                self.process = None

    def done(self):
        if self.process is None:
            return True
        if self.process.poll() is None and self.seconds() > self.step.limit_s:
            self.process.kill()
            self.process.wait()
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(f"killed after {self.step.limit_s} s\n")
        return self.process.poll() is not None

    def seconds(self):
        return time.monotonic() - self.began

    def status(self):
        return 127 if self.process is None else self.process.returncode


def gpus_for(step, args, running):
    """GPUs that a step may have now, or None."""
    companies = {r.step.company for r in running}
    measures = {plan.QUIET, plan.ALONE}
    if running and (plan.ALONE in companies | {step.company} or (step.company in measures) != bool(companies & measures)):
        return None

    def load(gpu):
        return sum(1 if r.step.company == plan.LIGHT else 2 for r in running if gpu in r.gpus)
    room = 1 if step.company == plan.LIGHT else 0
    free = sorted((gpu for gpu in range(args.gpus) if load(gpu) <= room), key=load)
    return sorted(free[:step.gpus]) if len(free) >= step.gpus else None


def run_all(steps, args, report):
    """Starts each step as soon as it may have its GPUs, in order but for those that fit beside others."""
    waiting, running = list(steps), []
    deadline = time.monotonic() + 60 * args.minutes
    while waiting or running:
        if waiting and time.monotonic() > deadline:
            print("not started, time is up: " + ", ".join(step.name for step in waiting), flush=True)
            waiting.clear()
        for r in [r for r in running if r.done()]:
            running.remove(r)
            report(r)
        for step in list(waiting):
            if gpus := gpus_for(step, args, running):
                waiting.remove(step)
                running.append(Running(step, gpus, args))
            elif step.company in (plan.QUIET, plan.ALONE):
                break  # what comes behind it waits too, or its turn would never come
        time.sleep(0.05)


def summary_of(log):
    """What a step says of itself in a few words."""
    with open(log, encoding="utf-8", errors="replace") as f:
        text = f.read()
    for pattern in (r"\d+ cases, \d+ failed.*", r"\[  PASSED  \] \d+ tests?.*", r"ERROR SUMMARY: .*", r"\d+ tests? ran.*",
                    r"^\d+ edges.*"):
        found = re.findall(pattern, text, re.M)
        if found:
            return found[-1].strip()
    return ""


def tail_of(log):
    with open(log, encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    failures = [line for line in lines if re.search(r"^\[  FAILED  \]|^fail |Failure$|rror", line)][:TAIL]
    return "\n".join("      " + line[:300] for line in failures + lines[-TAIL:])


def write_baseline(args, names):
    """bench/baselines/h200x4.jsonl, mi300x8.jsonl and the like, from the lines of this run."""
    model = known.model_of(args.backend, names[0])
    for n in sorted({2, args.gpus}):
        lines = os.path.join(args.out, f"bench_{n}.jsonl")
        if os.path.exists(lines):
            to = os.path.join(args.out if not args.baseline else os.path.join(ROOT, "bench", "baselines"), f"{model.removesuffix('x')}x{n}.jsonl")
            shutil.copyfile(lines, to)
            print("baseline:", os.path.relpath(to, ROOT))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "gpu"))
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.0, help="no step starts later than this")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that no step may exceed, whatever its own limit")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--backend", default="", help="by default that of the GPUs that are here")
    parser.add_argument("--baseline", action="store_true")
    args = parser.parse_args()
    args.build, args.out = os.path.abspath(args.build), os.path.abspath(args.out)
    return args


def main():
    args = arguments()
    args.backend = args.backend or known.backend_here() or "cuda"
    names = known.names_of(args.backend)
    args.gpus = args.gpus or len(names) or (4 if args.list else 0)
    if args.gpus < 1 or (args.backend != "cpu" and len(names) < args.gpus and not args.list):
        sys.exit(f"{len(names)} GPUs found for backend {args.backend}, {max(args.gpus, 1)} wanted; nvidia-smi -L or rocminfo lists them")
    steps = plan.long(args.gpus, args.backend) if args.long else plan.quick(args.gpus, args.backend)
    wanted = [w for w in args.only.split(",") if w]
    steps = [s._replace(limit_s=min(s.limit_s, args.limit)) for s in steps if s.gpus <= args.gpus and (not wanted or any(s.name.startswith(w) for w in wanted))]
    if args.list:
        return print("\n".join(f"{s.name:24} {s.gpus} GPU(s)  {s.command}" for s in steps))
    os.makedirs(args.out, exist_ok=True)
    for old in os.listdir(args.out):
        if old.endswith(".jsonl"):
            os.remove(os.path.join(args.out, old))
    results, began = [], time.monotonic()

    def report(r):
        results.append({"step": r.step.name, "status": r.status(), "seconds": round(r.seconds(), 1)})
        with open(os.path.join(args.out, "results.jsonl"), "a", encoding="utf-8") as f:
            f.write(json.dumps(results[-1]) + "\n")
        verdict = "ok  " if r.status() == 0 else "FAIL"
        print(f"{verdict} {r.step.name:24} {r.seconds():6.1f} s  {summary_of(r.log)}", flush=True)
        if r.status() != 0:
            print(f"      exit {r.status()}, log {os.path.relpath(r.log, ROOT)}\n{tail_of(r.log)}", flush=True)

    run_all(steps, args, report)
    if names:
        write_baseline(args, names)
    print("all logs:", os.path.relpath(shutil.make_archive(args.out, "gztar", args.out), ROOT))
    failed = [r["step"] for r in results if r["status"] != 0]
    print(f"{len(results)} of {len(steps)} steps in {time.monotonic() - began:.0f} s, {len(failed)} failed"
          f"{': ' + ', '.join(failed) if failed else ''}")
    sys.exit(1 if failed or len(results) < len(steps) else 0)


if __name__ == "__main__":
    main()
