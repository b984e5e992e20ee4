# SPDX-License-Identifier: Apache-2.0
"""Runs on GPUs what needs them: suites, cases, benches (./dev gpu); instead of these sanitizers, litmus loops, long replays and
lost processes (--long), or all that the whole host must show, checks before figures (--all). Prints a line a step and the end of the log
of each that failed; leaves logs, results, the table of faults and a baseline in --out.

usage: run.py --build DIR [--out DIR] [--gpus N] [--long | --all] [--only NAME,...] [--limit S] [--list] [--backend cuda|hip|cpu]
              [--baseline]"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
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
        env = {
            **os.environ,
            "CROSSDOCK_BACKEND": args.backend,
            **vendor.queues,
            "CROSSDOCK_PLUGIN_DIR": os.path.join(args.build, "lib"),
            "PATH": os.environ.get("PATH", "") + ":/usr/local/cuda/bin:/opt/rocm/bin",
            **step.env,
            vendor.visible: ",".join(args.devices[gpu] for gpu in gpus),
        }
        with open(self.log, "w", encoding="utf-8") as log:
            command = shlex.split(step.command.format(**words))
            log.write(" ".join(command) + "\n")
            log.flush()
            try:
                # a session of its own, so that the ranks it has started can be ended with it
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=args.out, start_new_session=True
                )
            except OSError as error:
                log.write(str(error) + "\n")
                self.process = None

    def done(self):
        if self.process is None:
            return True
        if self.process.poll() is None and self.seconds() > self.step.limit_s:
            self.kill()
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(f"killed after {self.step.limit_s} s\n")
        return self.process.poll() is not None

    def kill(self):
        """Ends the step and all processes that it has started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def seconds(self):
        return time.monotonic() - self.began

    def status(self):
        """Exit status; 1 as well where a suite has run no test."""
        if self.process is None:
            return 127
        return self.process.returncode or int(passed_in(text_of(self.log)) == 0)

    def skipped(self):
        return skipped_in(text_of(self.log))


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
    return sorted(free[: step.gpus]) if len(free) >= step.gpus else None


def run_all(steps, args, report):
    """Starts each step as soon as it may have its GPUs, in order but for those that fit beside others."""
    running = []
    try:
        run_in_turn(list(steps), running, args, report)
    finally:
        for r in running:
            r.kill()


def run_in_turn(waiting, running, args, report):
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


def text_of(log):
    with open(log, encoding="utf-8", errors="replace") as f:
        return f.read()


def passed_in(text):
    """Tests that a suite says have passed; None: it is no suite, or has not come to its end."""
    found = re.findall(r"^\[  PASSED  \] (\d+) tests?", text, re.MULTILINE)
    return int(found[-1]) if found else None


def skipped_in(text):
    found = re.findall(r"^\[  SKIPPED \] (\d+) tests?, listed below|^\d+ cases, \d+ failed, (\d+) not for CI", text, re.MULTILINE)
    return sum(int(number) for numbers in found for number in numbers if number)


def summary_of(log):
    """What a step says of itself in a few words."""
    text = text_of(log)
    skipped = skipped_in(text)
    return said_in(text) + (f", {skipped} skipped" if skipped else "")


def said_in(text):
    for pattern in (r"\d+ cases, \d+ failed.*", r"\[  PASSED  \] \d+ tests?", r"ERROR SUMMARY: .*", r"\d+ tests? ran.*", r"^\d+ edges.*"):
        found = re.findall(pattern, text, re.MULTILINE)
        if found:
            return found[-1].strip().rstrip(".")
    return ""


def tail_of(log):
    lines = text_of(log).splitlines()
    failures = [line for line in lines if re.search(r"^\[  FAILED  \]|^fail |Failure$|rror", line)][:TAIL]
    return "\n".join("      " + line[:300] for line in failures + lines[-TAIL:])


def write_baseline(args, names, steps, ended_well):
    """bench/baselines/h200x4.jsonl, mi300x8.jsonl and the like, or such a file in --out, from the figures of this run: for
    each number of ranks that has been timed in all benches of the plan. Gives the numbers that had to be left out."""
    model = known.model_of(args.backend, names[0]).removesuffix("x")
    folder = os.path.join(ROOT, "bench", "baselines") if args.baseline else args.out
    partial = []
    for n in sorted({step.gpus for step in steps if step.figures}):
        benches = [step for step in steps if step.figures and step.gpus == n]
        if not {step.name for step in benches} <= ended_well:
            partial.append(n)
            continue
        to = os.path.join(folder, f"{model}x{n}.jsonl")
        with open(to, "w", encoding="utf-8") as baseline:
            baseline.writelines(text_of(os.path.join(args.out, step.figures)) for step in benches)
        print("baseline:", os.path.relpath(to, ROOT))
    return partial


def write_faults(args, names_of_steps):
    """The rows that the fault tests print, as one table in --out/faults.md."""
    rows = [line for name in names_of_steps for line in text_of(os.path.join(args.out, name + ".log")).splitlines() if line.startswith("|")]
    if rows:
        with open(os.path.join(args.out, "faults.md"), "w", encoding="utf-8") as f:
            f.write("\n".join(["| injected | reported |", "|---|---|", *rows]) + "\n")


def remove_old(args, steps):
    """What an earlier run of these steps has left and would be added to, or taken for theirs."""
    for name in ["results.jsonl"] + [name for step in steps for name in (step.figures, step.name + ".log") if name]:
        if os.path.exists(os.path.join(args.out, name)):
            os.remove(os.path.join(args.out, name))


def chosen(plans, args):
    """The steps of the plan that fit these GPUs and begin with a name of --only."""
    everywhere = {name: [s for s in steps if s.gpus <= args.gpus] for name, steps in plans.items()}
    steps = everywhere[args.plan]
    wanted = [w for w in args.only.split(",") if w]
    for name in wanted:
        if any(s.name.startswith(name) for s in steps):
            continue
        other = [plan for plan, its in everywhere.items() if any(s.name.startswith(name) for s in its)]
        sys.exit(
            f"--only {name}: no step of this plan ({args.plan}) begins so; "
            + (f"ask for it with {' or '.join(plan_flag(p) for p in other)}" if other else "there are " + ", ".join(s.name for s in steps))
        )
    picked = [s for s in steps if not wanted or any(s.name.startswith(w) for w in wanted)]
    left_out = [s.name for s in steps if s.figures and s not in picked]
    if args.baseline and (left_out or not any(s.figures for s in picked)):
        sys.exit(
            "--baseline replaces whole files, and this selection is not all benches of the plan; it leaves out "
            + (", ".join(left_out) or "every bench")
        )
    return [s._replace(limit_s=min(s.limit_s, args.limit)) for s in picked]


def plan_flag(plan_name):
    return "neither --long nor --all" if plan_name == "quick" else "--" + plan_name


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "gpu"))
    parser.add_argument("--gpus", type=int, default=0)
    which = parser.add_mutually_exclusive_group()
    for name in ("long", "all"):
        which.add_argument("--" + name, dest="plan", action="store_const", const=name, default="quick")
    parser.add_argument("--minutes", type=float, default=0, help="no step starts later than this; without it 9, and 30 with --all")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that no step may exceed, whatever its own limit")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--backend", default="", help="by default that of the GPUs that are here")
    parser.add_argument("--baseline", action="store_true")
    args = parser.parse_args()
    args.minutes = args.minutes or (30.0 if args.plan == "all" else 9.0)
    args.build, args.out = os.path.abspath(args.build), os.path.abspath(args.out)
    return args


def main():
    args = arguments()
    args.backend = args.backend or known.backend_here() or "cuda"
    names = known.names_of(args.backend)
    args.devices = known.visible_to_caller(args.backend, len(names))
    args.gpus = args.gpus or len(args.devices) or (4 if args.list else 0)
    if args.backend == "cpu":
        args.devices = [str(gpu) for gpu in range(args.gpus)]
    if args.gpus < 1 or (len(args.devices) < args.gpus and not args.list):
        sys.exit(
            f"{len(args.devices)} GPUs found for backend {args.backend}, {max(args.gpus, 1)} wanted; nvidia-smi -L or rocminfo "
            f"lists them, {known.vendor_of(args.backend).visible} may hide some"
        )
    steps = chosen({name: make(args.gpus, args.backend) for name, make in plan.PLANS.items()}, args)
    if args.list:
        return print("\n".join(f"{s.name:24} {s.gpus} GPU(s) {s.limit_s:4} s  {s.command}" for s in steps))
    os.makedirs(args.out, exist_ok=True)
    remove_old(args, steps)
    sys.exit(0 if run_and_tell(steps, args, names) else 1)


def run_and_tell(steps, args, names):
    """Whether all went well."""
    results, began = [], time.monotonic()

    def report(r):
        results.append({"step": r.step.name, "status": r.status(), "seconds": round(r.seconds(), 1), "skipped": r.skipped()})
        with open(os.path.join(args.out, "results.jsonl"), "a", encoding="utf-8") as f:
            f.write(json.dumps(results[-1]) + "\n")
        verdict = "ok  " if r.status() == 0 else "FAIL"
        print(f"{verdict} {r.step.name:24} {r.seconds():6.1f} s  {summary_of(r.log)}", flush=True)
        if r.status() != 0:
            print(f"      exit {r.status()}, log {os.path.relpath(r.log, ROOT)}\n{tail_of(r.log)}", flush=True)

    run_all(steps, args, report)
    ended_well = {r["step"] for r in results if r["status"] == 0}
    partial = write_baseline(args, names, steps, ended_well) if names else []
    write_faults(args, [r["step"] for r in results if r["step"].startswith("faults")])
    print("all logs:", os.path.relpath(shutil.make_archive(args.out, "gztar", args.out), ROOT))
    failed = [r["step"] for r in results if r["status"] != 0]
    print(
        f"{len(results)} of {len(steps)} steps in {time.monotonic() - began:.0f} s, {len(failed)} failed"
        f"{': ' + ', '.join(failed) if failed else ''}, {sum(r['skipped'] for r in results)} tests skipped"
    )
    if args.baseline and partial:
        print("no baseline of " + ", ".join(f"{n} ranks" for n in partial) + ": a bench failed or did not run")
    return len(ended_well) == len(steps)


if __name__ == "__main__":
    main()
