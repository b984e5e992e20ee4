# SPDX-License-Identifier: Apache-2.0
"""The runner of `./dev gpu` with steps that need no GPU."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import types
import typing
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gpus as known
import run as runner
import steps as plan

BUILD = os.environ.get("BUILD_DIR", "")
SLEEPER = (
    sys.executable + ' -c "import os,time; t=time.time(); time.sleep(0.3); '
    "print('SPAN', os.environ['CUDA_VISIBLE_DEVICES'], t, time.time())\""
)


NVIDIA_SMI = "echo 'NVIDIA H200'; echo 'NVIDIA H200'"
AGENT = """*******
Agent {number}
*******
  Name:                    {name}
  Uuid:                    {kind}-XX
  Marketing Name:          {marketing}
  Device Type:             {kind}
"""
ROCMINFO = (
    "cat <<'END'\nROCk module is loaded\n"
    + AGENT.format(number=1, name="AMD EPYC", marketing="AMD EPYC 9575F", kind="CPU")
    + "".join(AGENT.format(number=n, name="gfx942", marketing="AMD Instinct MI300X", kind="GPU") for n in (2, 3))
    + "END"
)


class StandIns:
    """A folder of programs that come first on PATH, and hide what this machine has."""

    def __init__(self, **programs):
        self.programs = {"nvidia-smi": "exit 9", "rocminfo": "exit 9", **{k.replace("_", "-"): v for k, v in programs.items()}}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        for name, text in self.programs.items():
            path = os.path.join(self.folder.name, name)
            with open(path, "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\n" + text + "\n")
            os.chmod(path, 0o755)
        self.before = os.environ["PATH"]
        os.environ["PATH"] = self.folder.name + ":" + self.before
        return self.folder.name

    def __exit__(self, *_):
        os.environ["PATH"] = self.before
        self.folder.cleanup()


def play(steps, gpus=4, minutes=1.0, backend="cpu", devices=None):
    """Runs steps; (name, status, log) of each in the order in which they ended."""
    ended = []
    with tempfile.TemporaryDirectory() as folder:
        args = types.SimpleNamespace(
            build=BUILD, out=folder, gpus=gpus, devices=devices or [str(g) for g in range(gpus)], backend=backend, minutes=minutes
        )

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
            gpus, begin, end = re.search(r"^SPAN (\S+) (\S+) (\S+)$", log, re.MULTILINE).groups()
            spans[name] = (set(gpus.split(",")), float(begin), float(end))
        self.assertEqual({name: len(s[0]) for name, s in spans.items()}, {s.name: s.gpus for s in steps})
        return spans

    def test_gpus_are_shared_out(self):
        needs = [
            ("b0", 2, plan.BUSY),
            ("b1", 2, plan.BUSY),
            ("b2", 4, plan.BUSY),
            ("l0", 4, plan.LIGHT),
            ("alone", 1, plan.ALONE),
            ("l1", 4, plan.LIGHT),
            ("q0", 2, plan.QUIET),
            ("q1", 2, plan.QUIET),
            ("b3", 1, plan.BUSY),
            ("b4", 2, plan.BUSY),
        ]
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
        ended = play(
            [
                plan.Step("bad", 1, 10, "false"),
                plan.Step("hangs", 1, 0.5, "sleep 60"),
                plan.Step("missing", 1, 10, "{bin}/no-such-program"),
                plan.Step("good", 1, 10, "true"),
            ]
        )
        statuses = {name: status for name, status, _ in ended}
        self.assertEqual((statuses["bad"], statuses["good"], statuses["missing"]), (1, 0, 127))
        self.assertLess(statuses["hangs"], 0)

    def test_nothing_starts_when_time_is_up(self):
        steps = [plan.Step("first", 4, 10, "sleep 0.3"), plan.Step("second", 4, 10, "true")]
        self.assertEqual([name for name, _, _ in play(steps, minutes=0.1 / 60)], ["first"])

    def test_a_step_that_is_killed_takes_its_children_with_it(self):
        with tempfile.NamedTemporaryFile("r") as word:
            ((_, status, _),) = play([plan.Step("hangs", 1, 0.5, f"bash -c '(sleep 1.5; echo alive > {word.name}) & wait'")])
            self.assertLess(status, 0)
            time.sleep(2)
            self.assertEqual(word.read(), "")

    def test_a_suite_that_runs_nothing_has_failed(self):
        for said, right in (("0 tests.", 1), ("1 test.", 0), ("12 tests.", 0)):
            ((_, status, _),) = play([plan.Step("suite", 1, 10, f"echo '[  PASSED  ] {said}'")])
            self.assertEqual(status, right, said)

    def test_a_step_sees_the_gpus_that_the_caller_has(self):
        show = sys.executable + " -c \"import os; print('SEES', os.environ['CUDA_VISIBLE_DEVICES'])\""
        ((_, _, log),) = play([plan.Step("show", 2, 10, show)], gpus=2, devices=["5", "GPU-3"])
        self.assertIn("SEES 5,GPU-3\n", log)
        for listed, visible in (("5,GPU-3", ["5", "GPU-3"]), ("2,-1,3", ["2"]), ("", []), (None, ["0", "1", "2"])):
            with unittest.mock.patch.dict(os.environ, {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}):
                if listed is None:
                    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
                self.assertEqual(known.visible_to_caller("cuda", 3), visible)

    def test_summaries(self):
        for text, summary in [
            ("58 cases, 0 failed\n", "58 cases, 0 failed"),
            ("[  PASSED  ] 12 tests.\n", "[  PASSED  ] 12 tests"),
            (
                "[  PASSED  ] 1 test.\n[  SKIPPED ] 2 tests, listed below:\n[  SKIPPED ] A.b\n[  SKIPPED ] A.c\n",
                "[  PASSED  ] 1 test, 2 skipped",
            ),
            ("nothing\n", ""),
        ]:
            with tempfile.NamedTemporaryFile("w", suffix=".log") as f:
                f.write(text)
                f.flush()
                self.assertEqual(runner.summary_of(f.name), summary)

    def test_every_step_names_what_there_is(self):
        programs = {
            "backend_tests",
            "device_tests",
            "multirank_tests",
            "property_tests",
            "fuzz_tests",
            "hip_machine_tests",
            "crossdock",
            "litmus",
        }
        helps = {}
        for step in [step for make in plan.PLANS.values() for backend in ("cuda", "hip") for step in make(4, backend)]:
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

    def test_litmus_takes_no_flag_that_it_does_not_know(self):
        program = os.path.join(BUILD, "bin", "litmus")
        if not os.path.exists(program):
            self.skipTest("this build has none")
        for words, code, said in (
            (["--help"], 0, "usage:"),
            (["--round", "5"], 2, "there is no `--round`"),
            (["--rounds", "5x"], 2, "`5x`"),
            (["--rounds"], 2, "needs a number"),
            (["--channels", "0"], 2, "--channels 1 to"),
        ):
            done = subprocess.run([program, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, code, words)
            self.assertIn(said, done.stdout + done.stderr)

    def test_every_filter_of_a_suite_finds_tests(self):
        suites = {}
        for step in [step for make in plan.PLANS.values() for backend in ("cuda", "hip") for step in make(4, backend)]:
            words = shlex.split(step.command.format(bin=os.path.join(BUILD, "bin"), root=runner.ROOT, out=""))
            for wanted in (w for w in words if w.startswith("--gtest_filter=")):
                suites.setdefault((words[0], wanted), step.name)
        self.assertTrue(suites)
        for (program, wanted), name in suites.items():
            positive, _, negative = wanted.removeprefix("--gtest_filter=").partition("-")
            for part in positive.split(":") if os.path.exists(program) else []:  # each part of it
                listed = subprocess.run(
                    [program, "--gtest_list_tests", f"--gtest_filter={part}-{negative}"], capture_output=True, text=True, check=True
                )
                self.assertRegex(listed.stdout, r"(?m)^  \S", f"{name}: nothing is called {part}")

    def test_names_of_steps_are_unique_and_two_gpus_do(self):
        for gpus in (1, 2, 4, 8):
            for make in plan.PLANS.values():
                for backend in ("cuda", "hip"):
                    names = [step.name for step in make(gpus, backend) if step.gpus <= gpus]
                    self.assertEqual(len(names), len(set(names)))
                    self.assertTrue(names)

    def test_sanitizers_see_every_layout_path_and_wire(self):
        with open(os.path.join(runner.ROOT, "tests", "gpu", "sanitizer_cases.json"), encoding="utf-8") as f:
            cases = json.load(f)
        with open(os.path.join(runner.ROOT, "include", "crossdock", "lists.h"), encoding="utf-8") as f:
            lists = f.read()
        seen = {
            "layout": {c.get("layout", "token_major") for c in cases},
            "combine_quant": {c.get("combine_quant", "none") for c in cases},
            "path": {"zero_copy" if c.get("zero_copy") else c.get("path", "staged") for c in cases},
        }
        for key, names in seen.items():
            rows = re.search(rf"#define XD_{key.upper()}S\(X\)((?:.*\\\n)*.*)", lists).group(1)
            self.assertEqual(names, set(re.findall(r"X\((\w+)", rows)), key)

    def test_benches_may_take_time_by_the_number_of_points(self):
        self.assertEqual(plan.num_points("--tokens 1,2 --path staged,zero_copy"), 12)
        self.assertEqual(plan.num_points("--tokens 1,2,3 --dtype bf16 --op pair"), 3)
        self.assertEqual(plan.bench("b", 2, "--tokens 1 --op pair").limit_s, 42)

    def test_shapes_of_the_whole_host_are_judged(self):
        commands = [step.command for step in plan.whole_host(4) if "--floor tell" in step.command]
        tried = {
            flag: {v for c in commands for values in re.findall(rf"{flag} (\S+)", c) for v in values.split(",")}
            for flag in ("--hidden", "--topk", "--experts", "--tokens", "--ranks")
        }
        self.assertLessEqual({"2048", "2880", "4096", "5120", "6144"}, tried["--hidden"])
        self.assertLessEqual({"1", "4", "6", "16"}, tried["--topk"])
        self.assertLessEqual({"64", "128", "384"}, tried["--experts"])
        self.assertLessEqual({"3", "7", "100", "1000"}, tried["--tokens"])
        self.assertEqual({"3", "4"}, tried["--ranks"])


class Selections(unittest.TestCase):
    """What --only, --baseline and a second run do."""

    PLANS: typing.ClassVar = {
        "quick": [
            plan.Step("suite", 1, 9, ""),
            plan.Step("one_2", 2, 9, "", figures="one.jsonl"),
            plan.Step("two_2", 2, 9, "", figures="two.jsonl"),
        ],
        "long": [plan.Step("litmus", 1, 9, "")],
    }

    def chosen(self, only="", baseline=False, which="quick"):
        args = types.SimpleNamespace(gpus=2, plan=which, only=only, baseline=baseline, limit=5)
        return [step.name for step in runner.chosen(self.PLANS, args)]

    def test_a_name_that_no_step_has_is_an_error(self):
        self.assertEqual(self.chosen("one,suite"), ["suite", "one_2"])
        for only, words in (("nosuch", "there are suite, one_2"), ("one,nosuch", "nosuch"), ("litmus", "--long")):
            with self.assertRaisesRegex(SystemExit, words):
                self.chosen(only)

    def test_a_baseline_is_of_all_benches_or_none(self):
        self.assertEqual(self.chosen("one,two", baseline=True), ["one_2", "two_2"])
        for only, which in (("one", "quick"), ("suite", "quick"), ("", "long")):
            with self.assertRaisesRegex(SystemExit, "--baseline"):
                self.chosen(only, True, which)
        steps = self.PLANS["quick"]
        with tempfile.TemporaryDirectory() as folder:
            args = types.SimpleNamespace(out=folder, backend="cuda", baseline=False)
            for name in ("one", "two"):
                with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as f:
                    f.write(name + "\n")
            self.assertEqual(runner.write_baseline(args, ["NVIDIA H200"], steps, {"one_2"}), [2])
            self.assertNotIn("h200x2.jsonl", os.listdir(folder))
            self.assertEqual(runner.write_baseline(args, ["NVIDIA H200"], steps, {"one_2", "two_2"}), [])
            self.assertEqual(runner.text_of(os.path.join(folder, "h200x2.jsonl")), "one\ntwo\n")

    def test_only_what_the_chosen_steps_left_is_removed(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("one.jsonl", "two.jsonl", "one_2.log", "litmus.log"):
                with open(os.path.join(folder, name), "w", encoding="utf-8"):
                    pass
            runner.remove_old(types.SimpleNamespace(out=folder), self.PLANS["quick"][1:2])
            self.assertEqual(sorted(os.listdir(folder)), ["litmus.log", "two.jsonl"])

    def test_the_table_of_faults(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "faults_2.log"), "w", encoding="utf-8") as f:
                f.write("[ RUN ]\n| rank 1 late | rank 0: peer_lost |\nmore\n")
            runner.write_faults(types.SimpleNamespace(out=folder), ["faults_2"])
            self.assertEqual(
                runner.text_of(os.path.join(folder, "faults.md")),
                "| injected | reported |\n|---|---|\n| rank 1 late | rank 0: peer_lost |\n",
            )


class Vendors(unittest.TestCase):
    """Stand-ins for the programs that know GPUs."""

    def test_names_and_backend(self):
        with StandIns(nvidia_smi=NVIDIA_SMI):
            self.assertEqual((known.backend_here(), known.names_of("cuda")), ("cuda", ["NVIDIA H200"] * 2))
        with StandIns(rocminfo=ROCMINFO):
            self.assertEqual((known.backend_here(), known.names_of("hip")), ("hip", ["AMD Instinct MI300X"] * 2))
        with StandIns(), tempfile.TemporaryDirectory() as nodes:
            self.assertEqual(known.amd_names(nodes), [])

    def test_without_rocminfo_the_drivers_topology_is_read(self):
        with StandIns(), tempfile.TemporaryDirectory() as nodes:
            for node, version in enumerate((0, 90402, 90500)):
                os.mkdir(os.path.join(nodes, str(node)))
                with open(os.path.join(nodes, str(node), "properties"), "w", encoding="utf-8") as f:
                    f.write(f"simd_count {node}\ngfx_target_version {version}\n")
            self.assertEqual(known.amd_names(nodes), ["gfx942", "gfx950"])

    def test_names_of_baselines(self):
        for backend, name, model in [
            ("cuda", "NVIDIA H200", "h200"),
            ("cuda", "NVIDIA H100 80GB HBM3", "h10080gbhbm3"),
            ("hip", "AMD Instinct MI300X", "mi300x"),
            ("hip", "AMD Instinct MI355X OAM", "mi355x"),
            ("hip", "gfx950", "gfx950"),
        ]:
            self.assertEqual(known.model_of(backend, name), model)

    def test_a_step_sees_the_gpus_of_its_vendor(self):
        show = sys.executable + " -c \"import os; print([os.environ.get(n) for n in ('CROSSDOCK_BACKEND', '{}')])\""
        for backend, variable in (("cuda", "CUDA_VISIBLE_DEVICES"), ("hip", "HIP_VISIBLE_DEVICES")):
            ((_, status, log),) = play([plan.Step("show", 2, 10, show.format(variable))], backend=backend)
            self.assertEqual(status, 0, log)
            self.assertIn(f"['{backend}', '0,1']", log)

    def test_sanitizers_only_where_there_are_any(self):
        tools = {"memcheck", "racecheck", "synccheck"}
        self.assertTrue(tools <= {s.name for s in plan.long(4)})
        self.assertFalse(tools & {s.name for s in plan.long(4, "hip")})

    def test_dev_gpu_takes_the_preset_and_the_backend_of_the_machine(self):
        for preset, stand_in in (("hip", {"rocminfo": ROCMINFO}), ("cuda", {"nvidia_smi": NVIDIA_SMI})):
            with StandIns(cmake='echo "cmake $*" >> "$CALLS"', **stand_in) as folder:
                calls, out = os.path.join(folder, "calls"), os.path.join(folder, "out")
                done = subprocess.run(
                    ["bash", os.path.join(runner.ROOT, "dev"), "gpu", "--only", "doctor", "--out", out],
                    capture_output=True,
                    text=True,
                    env={**os.environ, "CALLS": calls},
                )
                with open(calls, encoding="utf-8") as f:
                    self.assertEqual(f.read().splitlines()[0], f"cmake --preset {preset} -DCROSSDOCK_WERROR=OFF", done.stderr)
                with open(os.path.join(out, "doctor.log"), encoding="utf-8") as f:
                    self.assertTrue(f.readline().startswith(os.path.join(runner.ROOT, "build", preset, "bin", "crossdock")))

    def test_dev_gpu_without_gpus_says_so(self):
        with StandIns(cmake="exit 8"):
            done = subprocess.run(["bash", os.path.join(runner.ROOT, "dev"), "gpu"], capture_output=True, text=True)
        if not known.amd_names():
            self.assertIn("knows a GPU", done.stderr)
            self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
