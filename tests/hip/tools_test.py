# SPDX-License-Identifier: Apache-2.0
"""The command `crossdock` on AMD GPUs that the fake runtime pretends: every verb that runs ranks, and what it says without any."""

import json
import os
import re
import subprocess
import tempfile
import unittest

COMMAND = os.environ["COMMAND_UNDER_TEST"]
CASES = [
    {"name": "plain", "world_size": 2, "max_tokens_per_rank": 16, "hidden_dim": 256, "k": 2, "num_experts_per_rank": 4},
    {
        "name": "odd_rows",
        "world_size": 3,
        "max_tokens_per_rank": 8,
        "hidden_dim": 144,
        "k": 2,
        "num_experts_per_rank": 2,
        "zero_copy": True,
    },
]


def crossdock(*arguments, devices=2, pretend="", **env):
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CROSSDOCK_BACKEND": "hip", "FAKE_HIP": f"devices={devices} {pretend}", **env},
    )


class Tools(unittest.TestCase):
    def done(self, *arguments, **env):
        done = crossdock(*arguments, **env)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_doctor_counts_the_devices(self):
        said = self.done("doctor", devices=3)
        self.assertRegex(said, r"hip +3 device")
        self.assertEqual(re.findall(r"device (\d) +ipc: what these devices do best", said), ["0", "1", "2"])

    def test_run(self):
        for more in ([], ["--processes"], ["--devices", "1"]):
            out = self.done("run", "--ranks", "2", "--tokens", "32", *more)
            self.assertIn("64 of 64 tokens equal bit for bit", out)

    def test_automatic_takes_them(self):
        self.assertIn(
            "AMD Instinct of cardboard", self.done("trace", "--ranks", "2", "--tokens", "8", "--out", os.devnull, CROSSDOCK_BACKEND="")
        )

    def test_check(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(CASES, f)
            f.flush()
            for more in ([], ["--processes"]):
                self.assertIn("2 cases, 0 failed", self.done("check", "--cases", f.name, *more))

    def test_copies_are_not_stuck_behind_ranks_that_wait_where_a_device_has_few_hardware_queues(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump([{**CASES[0], "name": f"case {i}", "world_size": 4, "tokens": "ragged"} for i in range(8)], f)
            f.flush()
            done = self.done("check", "--cases", f.name, "--devices", "0", devices=1, pretend="cus=16 queues=5")
            self.assertIn("8 cases, 0 failed", done)

    def test_bench_compares_on_the_device_and_marks_time_there(self):
        shape = ["--tokens", "8", "--hidden", "256", "--experts", "8", "--topk", "2", "--op", "pair", "--devices", "0"]
        out = self.done("bench", "--ranks", "2", *shape, "--mode", "eager,graph")
        self.assertEqual(out.count(" yes"), 2, out)

    def test_bench_judges_a_skewed_routing_by_a_bare_copy_on_the_devices(self):
        shape = ["--ranks", "2", "--tokens", "8", "--hidden", "256", "--experts", "8", "--topk", "2", "--op", "dispatch", "--repeat", "2"]
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as f:
            done = crossdock("bench", *shape, "--routing", "all_to_one", "--floor", "fail", "--jsonl", f.name, pretend="cus=8")
            line = json.loads(f.read())
        ((gbps, miss),) = re.findall(r", bare copy (\S+) GB/s(  MISS)?$", done.stdout, re.MULTILINE)
        self.assertAlmostEqual(float(gbps), line["pattern_gbps"], delta=0.006)
        self.assertGreater(line["pattern_gbps"], 0)
        told = miss != "", "1 lines miss the floor" in done.stderr  # nearly always: a busy machine may take even longer to signal
        self.assertEqual((done.returncode, *told), (1, True, True) if done.returncode else (0, False, False), done.stdout + done.stderr)

    def test_profile_marks_time_inside_of_graphs(self):
        with tempfile.TemporaryDirectory() as folder:
            out = self.done("profile", "--ranks", "2", "--tokens", "8", "--out", os.path.join(folder, "p"))
        self.assertEqual(sum(line.startswith(("eager", "graph")) for line in out.splitlines()), 4, out)

    def test_refusals(self):
        for arguments, env, words in [
            (["bench", "--limits", "--ranks", "2"], {"devices": 0}, "backend hip: no HIP device; choose cpu"),
            (["bench", "--ranks", "2", "--devices", "5"], {}, "no device 5; there are 0 to 1, as HIP_VISIBLE_DEVICES"),
            (["bench", "--ranks", "2"], {"CROSSDOCK_PLUGIN_DIR": "/nonexistent"}, "no libcrossdock_hip.so in /nonexistent"),
        ]:
            done = crossdock(*arguments, **env)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
