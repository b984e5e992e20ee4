# SPDX-License-Identifier: Apache-2.0
"""The runner of `./dev gpu` with steps that need no GPU."""
import os
import re
import shlex
import subprocess
import sys
import tempfile
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run as runner  # noqa: E402
import steps as plan  # noqa: E402

BUILD = os.environ.get("BUILD_DIR", "")
SLEEPER = (sys.executable + " -c \"import os,time; t=time.time(); time.sleep(0.3); "
           "print('SPAN', os.environ['CUDA_VISIBLE_DEVICES'], t, time.time())\"")


def play(steps, gpus=4, minutes=1.0):
    """Runs steps; (name, status, log) of each in the order in which they ended."""
    ended = []
    with tempfile.TemporaryDirectory() as folder:
        args = types.SimpleNamespace(build=BUILD, out=folder, gpus=gpus, backend="cpu", minutes=minutes)

        def report(r):
            with open(r.log, encoding="utf-8") as f:
                ended.append((r.step.name, r.status(), f.read()))
        runner.run_all(steps, args, report)
    return ended


class Runner(unittest.TestCase):
    def spans(self, steps):
        """GPUs, begin and end of each step."""
        spans = {}
        for name, status, log in play(steps):
            self.assertEqual(status, 0, log)
            gpus, begin, end = re.search(r"^SPAN (\S+) (\S+) (\S+)$", log, re.M).groups()
            spans[name] = (set(gpus.split(",")), float(begin), float(end))
        self.assertEqual({name: len(s[0]) for name, s in spans.items()}, {s.name: s.gpus for s in steps})
        return spans

    def test_gpus_are_shared_out(self):
        needs = [("b0", 2, plan.BUSY), ("b1", 2, plan.BUSY), ("b2", 4, plan.BUSY), ("l0", 4, plan.LIGHT), ("alone", 1, plan.ALONE),
                 ("l1", 4, plan.LIGHT), ("q0", 2, plan.QUIET), ("q1", 2, plan.QUIET), ("b3", 1, plan.BUSY), ("b4", 2, plan.BUSY)]
        company = {name: c for name, _, c in needs}
        spans = self.spans([plan.Step(name, need, 10, SLEEPER, {}, c) for name, need, c in needs])
        together = set()
        for a in spans:
            for b in spans:
                if a < b and spans[a][1] < spans[b][2] and spans[b][1] < spans[a][2]:
                    together.add((a, b))
                    pair = {company[a], company[b]}
                    self.assertFalse(plan.ALONE in pair or (plan.QUIET in pair and pair != {plan.QUIET}), (a, b))
                    self.assertTrue(not spans[a][0] & spans[b][0] or pair == {plan.LIGHT}, (a, b))
        self.assertTrue({("b0", "b1"), ("q0", "q1"), ("b3", "b4")} <= together, together)

    def test_two_light_steps_share_gpus(self):
        spans = self.spans([plan.Step(f"l{i}", 4, 10, SLEEPER, {}, plan.LIGHT) for i in range(3)])
        self.assertLess(max(spans["l0"][1], spans["l1"][1]), min(spans["l0"][2], spans["l1"][2]))
        self.assertGreaterEqual(spans["l2"][1], min(spans["l0"][2], spans["l1"][2]))

    def test_failures_hangs_and_missing_programs_are_noticed(self):
        ended = play([plan.Step("bad", 1, 10, "false"), plan.Step("hangs", 1, 0.5, "sleep 60"),
                      plan.Step("missing", 1, 10, "{bin}/no-such-program"), plan.Step("good", 1, 10, "true")])
        statuses = {name: status for name, status, _ in ended}
        self.assertEqual((statuses["bad"], statuses["good"], statuses["missing"]), (1, 0, 127))
        self.assertLess(statuses["hangs"], 0)

    def test_nothing_starts_when_time_is_up(self):
        steps = [plan.Step("first", 4, 10, "sleep 0.3"), plan.Step("second", 4, 10, "true")]
        self.assertEqual([name for name, _, _ in play(steps, minutes=0.1 / 60)], ["first"])

    def test_summaries(self):
        for text, summary in [("58 cases, 0 failed\n", "58 cases, 0 failed"), ("[  PASSED  ] 12 tests.\n", "[  PASSED  ] 12 tests."),
                              ("nothing\n", "")]:
            with tempfile.NamedTemporaryFile("w", suffix=".log") as f:
                f.write(text)
                f.flush()
                self.assertEqual(runner.summary_of(f.name), summary)

    def test_every_step_names_what_there_is(self):
        programs = {"backend_tests", "device_tests", "multirank_tests", "property_tests", "fuzz_tests", "crossdock", "litmus"}
        helps = {}
        for step in plan.quick(4) + plan.long(4):
            words = [w for w in shlex.split(step.command) if w.startswith("{bin}/")]
            program = os.path.basename(words[0])
            self.assertIn(program, programs, step.name)
            if program != "crossdock" or not os.path.exists(os.path.join(BUILD, "bin", "crossdock")):
                continue
            arguments = shlex.split(step.command)
            verb = arguments[arguments.index("{bin}/crossdock") + 1]
            if verb not in helps:
                helps[verb] = subprocess.run([os.path.join(BUILD, "bin", "crossdock"), verb, "--help"], capture_output=True, text=True)
            self.assertEqual(helps[verb].returncode, 0, step.command)
            for flag in re.findall(r"(?<=\s)--[a-z-]+", step.command.split("{bin}/crossdock " + verb, 1)[1]):
                self.assertIn(flag, helps[verb].stdout, step.command)

    def test_names_of_steps_are_unique_and_two_gpus_do(self):
        for gpus in (1, 2, 4):
            names = [step.name for step in plan.quick(gpus) + plan.long(gpus) if step.gpus <= gpus]
            self.assertEqual(len(names), len(set(names)))
            self.assertTrue(names)


if __name__ == "__main__":
    unittest.main()
