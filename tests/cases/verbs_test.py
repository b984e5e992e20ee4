# SPDX-License-Identifier: Apache-2.0
"""What a person sees of `crossdock check` and `crossdock bench`: verdicts, exit codes, lines for machines, bad input."""

import itertools
import json
import os
import re
import struct
import subprocess
import tempfile
import time
import unittest
import unittest.mock

COMMAND = os.environ["COMMAND_UNDER_TEST"]
KEYS = (
    "op ranks tokens hidden experts topk dtype scale_bytes layout path combine_quant routing num_sms mode commit us_median us_p99 "
    "wire_bytes wire_gbps limit_gbps bit_exact host driver date"
).split()
ALL_OPS = "dispatch,combine,pair,replay"
SMALL = {"world_size": 2, "max_tokens_per_rank": 8, "hidden_dim": 64, "k": 2, "num_experts_per_rank": 4}
REFUSED = {**SMALL, "name": "refused", "quant_type": "fp8_direct_cast", "zero_copy": True}


def run(*arguments):
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def cases(self, cases):
        with open(self.path("cases.json"), "w", encoding="utf-8") as f:
            f.write(cases if isinstance(cases, str) else json.dumps(cases))
        return self.path("cases.json")

    def check(self, cases, *arguments):
        return run("check", "--cases", self.cases(cases), *arguments)


class Check(Folder):
    def test_verdicts_and_exit_codes(self):
        code, out, _ = self.check([{**SMALL, "name": "a"}, {**SMALL, "name": "b", "requires_arch": ["gfx950"]}], "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((code, [line["verdict"] for line in lines]), (0, ["pass", "pass"]))  # no architecture is a reason to skip
        self.assertEqual(lines[1]["requires_arch"], ["gfx950"])
        code, out, err = self.check([REFUSED])
        self.assertEqual(code, 1)
        self.assertIn("refused: combine_quant fp8_direct_cast with zero_copy", out)
        self.assertIn("1 of 1 cases failed", err)

    def test_known_failures_do_not_fail(self):
        known = [{**REFUSED, "known_failure": "exclusive"}, {**SMALL, "name": "fine", "known_failure": "no longer"}]
        code, out, _ = self.check(known, "--json")
        self.assertEqual((code, [json.loads(line)["verdict"] for line in out.splitlines()]), (0, ["xfail", "xpass"]))

    def test_skip_ci_is_for_ci_only(self):
        cases = [{**SMALL, "name": "a"}, {**SMALL, "name": "b", "skip_ci": True}]
        self.assertIn("2 cases, 0 failed", self.check(cases)[1])
        self.assertIn("1 cases, 0 failed, 1 not for CI", self.check(cases, "--ci")[1])

    def test_name_selects(self):
        cases = [{**SMALL, "name": "a"}, {**SMALL, "name": "b"}]
        self.assertIn("1 cases", self.check(cases, "--name", "b")[1])
        self.assertEqual(self.check(cases, "--name", "c")[0], 2)

    def test_parts_share_a_file(self):
        cases = [{**SMALL, "name": name} for name in "abcde"]

        def names(part):
            return [json.loads(line)["name"] for line in self.check(cases, "--json", "--part", part)[1].splitlines()]

        self.assertEqual((names("0/2"), names("1/2"), names("0/1")), (["a", "c", "e"], ["b", "d"], list("abcde")))
        for part in ("2/2", "x", "1/2/3", "-1/2"):
            self.assertEqual(self.check(cases, "--part=" + part)[0], 2)

    def test_random_fields_depend_on_the_seed_alone(self):
        case = [{**SMALL, "name": "a", "_random_fields": {"zero_copy": [False, True]}}]

        def drawn(seed):
            return json.loads(self.check(case, "--json", "--seed", str(seed))[1])["path"]

        self.assertEqual(drawn(1), drawn(1))
        self.assertEqual({drawn(seed) for seed in range(12)}, {"staged", "zero_copy"})

    def test_ranks_started_by_commands_of_their_own(self):
        cases = self.cases([{**SMALL, "name": "a"}, {**SMALL, "name": "b", "zero_copy": True}])
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gpu", "each_rank.sh")
        done = subprocess.run(["bash", script, "2", COMMAND, "check", "--cases", cases], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout.count("2 cases, 0 failed")), (0, 2), done.stdout + done.stderr)
        for arguments, says in [
            (["--rank", "0"], "belong together"),
            (["--meeting", "m"], "belong together"),
            (["--rank", "2", "--meeting", "m"], "has 2 ranks"),
        ]:
            code, _, err = run("check", "--cases", cases, *arguments)
            self.assertEqual((code, says in err), (2, True), err)

    def test_budget_is_the_same_share_of_fewer_tokens(self):
        case = [{**SMALL, "world_size": 8, "max_tokens_per_rank": 128, "name": "a", "max_total_recv_tokens": 512}]
        line = json.loads(self.check(case, "--json", "--ranks", "4", "--max-tokens-per-rank", "32")[1])
        self.assertEqual((line["ranks"], line["row_capacity"], line["rows_dropped"] > 0), (4, 64, True))

    def test_bad_input(self):
        for cases, says in [
            ([{**SMALL, "name": "a", "hiden_dim": 3}], "unknown key `hiden_dim`"),
            ([{**SMALL, "name": "a", "combine_wire": "none"}], "`combine_wire` is called `combine_quant` now"),
            ([{**SMALL, "name": "a", "routing": "nowhere"}], "unknown routing `nowhere`"),
            ([{**SMALL, "name": "a", "dtype": "int8"}], "unknown dtype `int8`"),
            ([{**SMALL, "name": "a", "k": "two"}], "k must be a whole number"),
            ([{**SMALL, "name": "a", "zero_copy": 1}], "zero_copy must be true or false"),
            ([{**SMALL, "name": "a", "_random_fields": {"k": []}}], "k must be a list that is not empty"),
            ([{**SMALL, "name": "a", "_random_fields": {"nothing": [1]}}], "unknown key `nothing`"),
            ([{**SMALL, "name": "a"}, {**SMALL, "name": "a"}], "two cases `a`"),
            ([SMALL], "a string `name`"),
            ({"name": "a"}, "must be a list"),
            ("[{", "is no JSON"),
            ([], "has no case"),
        ]:
            code, out, err = self.check(cases)
            self.assertEqual((code, out), (2, ""), err)
            self.assertIn(says, err)
            self.assertEqual(err.count("\n"), 1, err)
        self.assertEqual(run("check", "--cases", self.path("nothing.json"))[0], 2)


class Bench(Folder):
    ARGUMENTS = tuple("bench --ranks 2 --tokens 8 --hidden 64 --experts 8 --topk 2 --repeat 2 --copy-mib 4".split())

    def lines(self, *arguments):
        code, out, err = run(*self.ARGUMENTS, "--jsonl", self.path("times.jsonl"), *arguments)
        self.assertEqual(code, 0, err + out)
        with open(self.path("times.jsonl"), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def test_lines_have_all_keys(self):
        lines = self.lines("--dtype", "fp8_e4m3", "--combine-dtype", "bf16")
        self.assertEqual(
            [(line["op"], line["dtype"]) for line in lines], [("dispatch", "fp8_e4m3"), ("combine", "bf16"), ("pair", "fp8_e4m3")]
        )
        for line in lines:
            self.assertFalse([key for key in KEYS if key not in line])
            self.assertTrue(line["bit_exact"] and line["us_p99"] >= line["us_median"] > 0)

    def test_rows_in_packets_are_told_and_are_exact(self):
        for most, told in [("7", False), ("8", True)]:
            with unittest.mock.patch.dict(os.environ, CROSSDOCK_PACKET_TOKENS=most):
                lines = self.lines("--mode", "graph,eager")
            self.assertEqual([(line["packets"], line["bit_exact"]) for line in lines], [(told, True)] * 6)
            os.remove(self.path("times.jsonl"))

    def test_a_replay_sends_rows_and_scales_alone(self):
        dispatch, replay = self.lines("--op", "dispatch,replay", "--scale-bytes", "16")
        rows, rest = divmod(replay["wire_bytes"], 64 * 2 + 16)
        self.assertEqual((rest, replay["bit_exact"], replay["us_median"] > 0), (0, True, True))
        self.assertEqual(dispatch["wire_bytes"] - replay["wire_bytes"], rows * (2 * 8 + 16) + 4 * 4)  # ids, weights, sources, counts

    def test_every_form_is_exact_in_every_mode(self):
        code, out, err = run(
            *"bench --ranks 1,3 --tokens 9 --hidden 256 --experts 12 --topk 3 --layout token_major,expert_major,contiguous".split(),
            *"--path staged,zero_copy,fused --combine-quant none,fp8_blockwise --mode eager,graph,graph1 --op".split(),
            ALL_OPS,
            "--repeat",
            "2",
            "--copy-mib",
            "4",
        )
        self.assertEqual(code, 0, err + out)
        rows = [line for line in out.splitlines() if line and line[0] not in "#o"]
        self.assertEqual(len(rows), 2 * 3 * 3 * 2 * 3 * 4)
        self.assertTrue(all(row.endswith(" yes") or " refused: " in row for row in rows), out)

    def test_an_eager_call_says_what_it_costs_its_thread(self):
        for way in [], ["--by-queues"]:
            for line in self.lines(*way, "--op", ALL_OPS, "--mode", "graph,eager"):
                cost = line["host_us_median"]
                self.assertTrue(cost is None if line["mode"] == "graph" else 0 < cost < 1e6, line)
            os.remove(self.path("times.jsonl"))

    def test_what_layouts_and_weights_add_to_the_plain_call(self):
        lines = self.lines("--layout", "contiguous,token_major", "--combine-topk-weights", "yes,no", "--op", "dispatch,combine")
        self.assertEqual(len(lines), 8)
        for line in lines:
            (plain,) = [p for p in lines if (p["op"], p["layout"], p["combine_topk_weights"]) == (line["op"], "token_major", False)]
            if line is plain:
                self.assertEqual((line["over_us"], line["over_share"]), (None, None))
                continue
            self.assertAlmostEqual(line["over_us"], line["us_median"] - plain["us_median"], delta=0.02)
            ratio = line["us_median"] / plain["us_median"]  # of rounded times: what is interrupted may take a thousand times as long
            self.assertAlmostEqual(line["over_share"], ratio - 1, delta=0.01 * (1 + ratio))
        combines = {line["combine_topk_weights"]: line["wire_bytes"] for line in lines if line["op"] == "combine"}
        self.assertGreater(combines[True], combines[False])

    def test_lines_are_judged_by_a_floor_of_the_same_run(self):
        for verdict in "tell", "fail":
            path = self.path(verdict + ".jsonl")
            code, out, err = run(*self.ARGUMENTS, "--op", ALL_OPS, "--floor", verdict, "--jsonl", path)
            with open(path, encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            misses = out.count("  MISS\n")
            self.assertIn(f"# 4 lines judged, {misses} misses", out)
            close = sum(abs(line["us_median"] - 1.25 * line["floor_us"] - 3) < 0.1 for line in lines)  # told with two digits
            self.assertLessEqual(abs(misses - sum(line["us_median"] > 1.25 * line["floor_us"] + 3 for line in lines)), close)
            self.assertEqual(code, int(verdict == "fail" and misses > 0), err)

    def test_skewed_routings_are_judged_by_a_bare_copy_in_their_pattern(self):
        path = self.path("times.jsonl")
        code, out, err = run(*self.ARGUMENTS, "--op", ALL_OPS, "--routing", "all_to_one,random", "--floor", "tell", "--jsonl", path)
        self.assertEqual(code, 0, err)
        self.assertIn("# 8 lines judged", out)
        signal_us = float(re.search(r"floor: (\S+) us of one signal", out).group(1))
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        for line in lines:
            if line["routing"] == "random":
                self.assertIsNone(line["pattern_gbps"])
                continue
            floor_us = (2 if line["op"] == "pair" else 1) * signal_us + line["wire_bytes"] / line["pattern_gbps"] / 1e3
            self.assertAlmostEqual(line["floor_us"], floor_us, delta=0.03)  # of figures with two or three digits
            allowed = 1.15 * line["floor_us"] + 5
            (told,) = re.findall(rf"^{line['op']} .* all_to_one .* allowed (\S+), bare copy (\S+) GB/s(  MISS)?$", out, re.MULTILINE)
            self.assertAlmostEqual(float(told[0]), allowed, delta=0.1)
            self.assertAlmostEqual(float(told[1]), line["pattern_gbps"], delta=0.006)
            if abs(line["us_median"] - allowed) > 0.1:
                self.assertEqual(told[2] != "", line["us_median"] > allowed)
        self.assertEqual([line["pattern_gbps"] for line in self.lines("--routing", "zipf")[-3:]], [None] * 3)  # without --floor

    def test_making_a_group_and_an_exchange(self):
        began = time.monotonic()
        lines = self.lines("--create", "--csv", self.path("times.csv"))
        took_us = (time.monotonic() - began) * 1e6
        self.assertEqual(
            [(line["op"], line["mode"], line["repeat"], line["bit_exact"]) for line in lines],
            [("group", "processes", 2, None), ("exchange", "processes", 2, None)],
        )
        for line in lines:
            self.assertFalse([key for key in KEYS if key not in line])
            self.assertTrue(10 < line["us_min"] <= line["us_median"] <= line["us_p99"] < took_us, line)
        for arguments, says in ((["--limits"], "--limits"), (["--compare", __file__], "--compare"), (["--hidden", "100"], "Nearest sizes")):
            code, _, err = run(*self.ARGUMENTS, "--create", *arguments)
            self.assertEqual((code, says in err), (2, True), err)

    def test_the_error_of_a_wire_stands_beside_its_time(self):
        lines = self.lines("--op", "dispatch,combine", "--combine-quant", "none,fp8_direct_cast,fp8_blockwise")
        self.assertEqual([line["rel_error"] for line in lines if line["op"] == "dispatch"], [None] * 3)
        error = {line["combine_quant"]: line["rel_error"] for line in lines if line["op"] == "combine"}
        self.assertTrue(0 < error["none"] < 4e-3, error)  # bf16 keeps 8 bits, e4m3 keeps 4
        for wire in "fp8_direct_cast", "fp8_blockwise":
            self.assertTrue(0.01 < error[wire] < 0.05, error)

    def test_comparison(self):
        line = self.lines("--op", "pair")[0]
        for before, expected in [(1e9, 0), (1e-3, 1)]:  # us that no machine takes, however busy
            with open(self.path("before.jsonl"), "w", encoding="utf-8") as f:
                f.write(json.dumps({**line, "us_median": before}) + "\n")
            code, out, err = run(*self.ARGUMENTS, "--op", "pair", "--compare", self.path("before.jsonl"))
            self.assertEqual(code, expected, out + err)
            self.assertIn(f"1 lines compared, {expected} regressions", out)

    def test_a_recorded_routing(self):
        trace = self.path("a.trace")
        ids, weights = [[0, 1], [2, 3], [-1, -1], [5, 6], [7, 1]], [0.5, 0.25] * 5  # 3 tokens of rank 0, 2 of rank 1, 4 experts each
        with open(trace, "wb") as f:
            header = {"format": "crossdock-trace", "version": 1, "experts": 8, "top_k": 2, "tokens": [3, 2]}
            f.write(json.dumps(header).encode() + b"\n" + struct.pack("<10i10f", *itertools.chain(*ids), *weights))
        arguments = ["bench", "--routing", "trace", "--trace", trace, *"--hidden 64 --op dispatch --repeat 2 --copy-mib 4".split()]
        row = 64 * 2 + 2 * 8 + 16  # of bf16, ids, weights, source
        for tokens, sent in (3, 1), (1, 0):  # one token leaves its rank: the last of rank 1
            path = self.path(f"{tokens}.jsonl")
            code, out, err = run(*arguments, *(["--tokens", "1"] if tokens == 1 else []), "--jsonl", path)
            self.assertEqual((code, " trace " in out), (0, True), err + out)
            with open(path, encoding="utf-8") as f:
                line = json.loads(f.read())
            keys = ("routing", "ranks", "experts", "topk", "tokens", "bit_exact")
            self.assertEqual([line[key] for key in keys], ["trace", 2, 8, 2, tokens, True])
            self.assertEqual(line["wire_bytes"], sent * row + 4 * 4)  # and counts
        for more, says in (
            (["--ranks", "4"], f"--ranks 4: the trace {trace} was recorded with 2"),
            (["--experts", "8,16"], f"--experts 16: the trace {trace} was recorded with 8"),
        ):
            code, _, err = run(*arguments, *more)
            self.assertEqual((code, says in err), (2, True), err)
        for half in ["--routing", "trace"], ["--trace", trace]:
            self.assertIn("belong together", run(*self.ARGUMENTS, *half)[2])

    def test_csv(self):
        self.lines("--csv", self.path("times.csv"))
        with open(self.path("times.csv"), encoding="utf-8") as f:
            lines = f.read().splitlines()
        self.assertTrue(lines[0].startswith("op,ranks,tokens,hidden,experts"))
        self.assertEqual(len(lines), 4)

    def test_bad_input(self):
        for arguments, says in [
            (["--op", "gather"], "no `gather`; there are dispatch, combine, pair, replay"),
            (["--layout", "x"], "--layout: there is no `x`"),
            (["--combine-topk-weights", "x"], "there are no, yes"),
            (["--routing", "x"], "--routing: there is no `x`"),
            (["--tokens", "x"], "x"),
            (["--repeat", "0"], "--repeat"),
            (["--csv", "/nowhere/x"], "/nowhere/x"),
        ]:
            code, _, err = run(*self.ARGUMENTS, *arguments)
            self.assertEqual(code, 2, err)
            self.assertIn(says, err)
        with open(self.path("bad.jsonl"), "w", encoding="utf-8") as f:
            f.write("nonsense\n")
        self.assertEqual(run(*self.ARGUMENTS, "--compare", self.path("bad.jsonl"))[0], 2)
        with open(self.path("old.jsonl"), "w", encoding="utf-8") as f:
            f.write('{"us_median": 1.0, "wire": "none"}\n')
        code, _, err = run(*self.ARGUMENTS, "--compare", self.path("old.jsonl"))
        self.assertEqual((code, "line 1 is of an older version (`wire` is called `combine_quant` now)" in err), (2, True), err)


class Queues(Folder):
    """The way of GPUs, by marks in queues, on the CPU."""

    def test_every_form_is_exact_in_every_mode(self):
        code, out, err = run(
            *"bench --by-queues --ranks 2 --tokens 9 --hidden 256 --experts 12 --topk 3 --layout".split(),
            *"token_major,expert_major,contiguous --path staged,zero_copy,fused --mode eager,graph,graph1 --num-sms 0,8 --op".split(),
            ALL_OPS,
            "--combine-topk-weights",
            "no,yes",
            "--repeat",
            "3",
        )
        self.assertEqual(code, 0, err + out)
        rows = [line for line in out.splitlines() if line and line[0] not in "#o"]
        self.assertEqual(len(rows), 3 * 3 * 3 * 4 * 2 * 2)
        self.assertTrue(all(row.endswith(" yes") or " refused: " in row for row in rows), out)

    def test_lines_have_all_keys(self):
        path = self.path("times.jsonl")
        code, out, err = run(
            *"bench --by-queues --ranks 2 --tokens 4 --hidden 64 --experts 8 --topk 2 --num-sms 0,16 --jsonl".split(), path
        )
        self.assertEqual(code, 0, err + out)
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual(
            [(line["op"], line["num_sms"], line["mode"], line["repeat"]) for line in lines],
            [(op, n, "graph", 200) for op in ("dispatch", "combine", "pair") for n in (0, 16)],
        )
        self.assertFalse([key for line in lines for key in KEYS if key not in line])

    def test_limits_have_lines_with_keys_that_stay(self):
        path = self.path("limits.jsonl")
        code, out, err = run("bench", "--limits", "--ranks", "1,2", "--copy-mib", "8", "--jsonl", path)
        self.assertEqual(code, 0, err + out)
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual([(line["limit"], line["ranks"]) for line in lines], [("memcpy", n) for n in (1, 1, 1, 1, 2, 2)])
        self.assertEqual(
            list(lines[0]), ["limit", "what", "ranks", "blocks", "row_bytes", "gbps", "us", "commit", "host", "driver", "date"]
        )
        self.assertTrue(all(line["gbps"] > 0 and line["us"] is None and line["what"] in out for line in lines), lines)
        self.assertIn("--ranks: 9; must be 1 to 8", run("bench", "--limits", "--ranks", "9")[2])

    def test_bad_devices_and_backends(self):
        code, _, err = run("bench", "--limits", "--devices", "0,x")
        self.assertEqual(code, 2, err)
        environment = {**os.environ, "CROSSDOCK_BACKEND": "nonsense"}
        done = subprocess.run([COMMAND, "bench"], capture_output=True, text=True, env=environment, timeout=60)
        self.assertEqual((done.returncode, "must be one of automatic cuda hip cpu" in done.stderr), (2, True), done.stderr)


class Limit(unittest.TestCase):
    def test_mem_fails_above_it(self):
        total = json.loads(run("mem", "--json")[1])["total_bytes"]
        self.assertEqual(run("mem", "--limit", str(total))[0], 0)
        code, out, err = run("mem", "--limit", str(total - 1))
        self.assertEqual((code, f"--limit {total - 1}" in err, "buffer_set.rows" in out), (1, True, True), err)
        self.assertEqual(run("mem", "--limit", "lots")[0], 2)


class Timeline(Folder):
    def test_phases_of_all_ranks_lie_inside_of_their_operations(self):
        path = self.path("t.json")
        code, out, err = run(
            "trace", "--ranks", "3", "--tokens", "16", "--hidden", "256", "--experts", "12", "--topk", "3", "--blocks", "--out", path
        )
        self.assertEqual(code, 0, out + err)
        with open(path, encoding="utf-8") as f:
            events = json.load(f)["traceEvents"]
        self.assertEqual({e["args"]["name"] for e in events if e["name"] == "process_name"}, {"rank 0", "rank 1", "rank 2"})
        for rank in range(3):
            slices = [e for e in events if e["ph"] == "X" and e["pid"] == rank and e["tid"] == 0]
            operations = [e for e in slices if e["name"] in ("dispatch", "combine")]
            self.assertEqual([e["name"] for e in operations], ["dispatch", "combine"] * 4)
            epochs = [e["args"]["epoch"] for e in operations]
            self.assertEqual(epochs, list(range(epochs[0], epochs[0] + 8)))
            for operation in operations:
                inside = [e for e in slices if e is not operation and e["args"]["epoch"] == operation["args"]["epoch"]]
                self.assertIn("wait_counts" if operation["name"] == "dispatch" else "reduce", {e["name"] for e in inside})
                for e in inside:
                    self.assertGreaterEqual(e["ts"] + 1e-3, operation["ts"])
                    self.assertLessEqual(e["ts"] + e["dur"], operation["ts"] + operation["dur"] + 1e-3)
            for before, after in itertools.pairwise(operations):
                self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 1e-3)

    def test_bad_input(self):
        self.assertEqual(run("trace")[0], 2)
        code, _, err = run("trace", "--out", "/nowhere/t.json")
        self.assertEqual((code, "/nowhere/t.json" in err), (2, True), err)


class Profile(Folder):
    def test_a_file_a_rank_adds_up(self):
        folder = self.path("profile")
        code, out, err = run(*"profile --ranks 2 --tokens 8 --hidden 256 --experts 12 --topk 3 --repeat 20 --out".split(), folder)
        self.assertEqual(code, 0, out + err)
        self.assertEqual(len([line for line in out.splitlines() if line.startswith(("eager", "graph "))]), 4, out)
        for rank in range(2):
            with open(os.path.join(folder, f"rank{rank}.json"), encoding="utf-8") as f:
                file = json.load(f)
            self.assertEqual((file["rank"], file["tokens"]), (rank, 8))
            for mode in ("eager", "graph"):
                for op in ("dispatch", "combine"):
                    times = file[mode][op]
                    self.assertEqual(times["calls"], 20)
                    self.assertAlmostEqual(times["device_total_us"], 20 * times["device_mean_us"], places=3)
                    self.assertLessEqual(times["device_min_us"], times["device_mean_us"])
                    self.assertGreater(times["host_mean_us"], 0)
                    for flagged in times["over_3x_mean"]:
                        self.assertGreater(flagged["us"], 3 * times["device_mean_us"])

    def test_bad_input(self):
        self.assertEqual(run("profile")[0], 2)
        self.assertEqual(run("profile", "--out", "/proc/no", "--ranks", "2")[0], 2)


if __name__ == "__main__":
    unittest.main()
