# SPDX-License-Identifier: Apache-2.0
"""The command as a person meets it: exit codes, words on stderr, and results that must agree with each other.
COMMAND_UNDER_TEST names the program; standard library only."""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

COMMAND = os.environ.get("COMMAND_UNDER_TEST", "crossdock")
SOURCE = os.environ.get("SOURCE_DIR", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SMALL = ["--hidden", "256", "--inter", "16", "--tokens", "24", "--repeat", "2"]
LONG = ["--hidden", "2048", "--inter", "16", "--tokens", "256", "--repeat", "10000"]  # minutes, if nobody stops it
OK, FAILED, BAD_INPUT = 0, 1, 2


class Case(unittest.TestCase):
    """Runs in an empty folder that holds a README.md."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="crossdock-cli-")
        self.addCleanup(self.folder.cleanup)
        with open(os.path.join(SOURCE, "include", "crossdock", "exchange.hpp"), "rb") as file:
            self.write("README.md", file.read()[:4001])

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def crossdock(self, *arguments, code=OK, environment=None):
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder.name,
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, **(environment or {})},
        )
        self.assertEqual(done.returncode, code, f"crossdock {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done

    def run_json(self, *arguments):
        return json.loads(self.crossdock("run", "--text", "README.md", "--json", *arguments).stdout)


class Run(Case):
    def test_default(self):
        began = time.monotonic()
        out = self.crossdock("run").stdout
        self.assertLess(time.monotonic() - began, 120)
        for words in "Rows sent", "hottest expert", "dispatch", "memcpy", "GB/s", "equal bit for bit", "f64 layer", "  OK":
            self.assertIn(words, out)

    def test_json_adds_up(self):
        result = self.run_json("--text", "README.md")
        rows = result["rows"]
        self.assertEqual([sum(column) for column in zip(*rows["sent"], strict=True)], rows["received"])
        self.assertEqual(sum(rows["received"]), rows["sum"])
        self.assertEqual(result["dispatch"]["bytes"], rows["sum"] * rows["row_bytes"])
        self.assertEqual(result["combine"]["bytes"], rows["sum"] * rows["wire_row_bytes"])
        tokens = result["config"]["tokens"]
        self.assertEqual(tokens, [512] * 4)
        self.assertEqual(result["experts"]["pairs"], sum(tokens) * result["config"]["top_k"])
        for sent, count in zip(rows["sent"], tokens, strict=True):
            self.assertTrue(all(n <= count for n in sent))
        self.assertTrue(result["check"]["ok"])
        self.assertEqual(result["check"]["tokens_different"], 0)
        self.assertLess(result["check"]["f64_relative_error"], result["check"]["f64_relative_limit"])
        self.assertGreater(result["check"]["f64_relative_error"], 0)

    def test_text_decides_tokens(self):
        self.write("five", b"abcde")
        self.assertEqual(self.run_json("--text", "five", *SMALL[:4])["config"]["tokens"], [2, 2, 1, 0])
        self.assertEqual(self.run_json("--text", "five", *SMALL)["config"]["tokens"], [24] * 4)

    def test_seed_decides_result(self):
        digests = [self.run_json(*SMALL, "--seed", seed)["result_digest"] for seed in ("1", "1", "2")]
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])

    def test_progress(self):
        done = self.crossdock("run", "--progress", "--tokens", "2048")
        self.assertIn(" s  ", done.stderr)
        self.assertEqual(self.crossdock("run", *SMALL).stderr, "")

    def test_help_and_version(self):
        self.assertIn("run", self.crossdock("--help").stdout)
        self.assertIn("--layout", self.crossdock("run", "--help").stdout)
        self.assertRegex(self.crossdock("--version").stdout, r"^\d+\.\d+\.\d+\n$")


class Features(Case):
    def check(self, *arguments):
        result = self.run_json(*SMALL, *arguments)
        self.assertTrue(result["check"]["ok"], arguments)
        return result

    def test_dtypes(self):
        for dtype in "bf16", "f16", "f32", "fp8_e4m3", "fp8_e4m3fnuz", "fp4_e2m1":
            self.check("--dtype", dtype)
            self.check("--combine-dtype", dtype)

    def test_paths_give_the_same_result(self):
        one = self.check()["result_digest"]
        self.assertEqual(self.check("--zero-copy")["result_digest"], one)
        by_expert = self.check("--layout", "expert_major")["result_digest"]
        for layout in ["expert_major"], ["contiguous"], ["contiguous", "--alignment", "32"]:
            for path in [], ["--zero-copy"]:
                self.assertEqual(self.check("--layout", *layout, *path)["result_digest"], by_expert, layout + path)

    def test_wires(self):
        for wire in "fp8_direct_cast", "fp8_blockwise":
            for layout in "token_major", "expert_major", "contiguous":
                self.check("--combine-quant", wire, "--layout", layout)

    def test_shapes(self):
        self.check("--ranks", "1")
        self.check("--ranks", "8", "--experts", "256")
        self.check("--ranks", "7", "--experts", "20", "--topk", "20")
        self.check("--ranks", "8", "--experts", "3", "--topk", "3")  # some ranks own no expert
        self.check("--ranks", "3", "--topk", "64")
        self.check("--hidden", "2880", "--experts", "32", "--topk", "4")
        self.check("--router", "mixtral", "--experts", "8", "--topk", "2")
        self.check("--router", "mixtral", "--experts", "1", "--topk", "1")
        self.check("--groups", "4", "--topk-groups", "1", "--scaling", "1")


class Processes(Case):
    def test_same_result_as_threads(self):
        threads, processes = self.run_json(*SMALL), self.run_json(*SMALL, "--processes")
        self.assertEqual(threads["result_digest"], processes["result_digest"])
        self.assertEqual(threads["rows"], processes["rows"])
        self.run_json(*SMALL, "--processes", "--ranks", "8", "--layout", "contiguous", "--zero-copy")

    def killed(self, rank, deadline_ms):
        """(seconds until the end, stderr) of a job one of whose ranks is killed while it exchanges."""
        job = subprocess.Popen(
            [COMMAND, "run", *LONG, "--processes", "--deadline-ms", str(deadline_ms)],
            cwd=self.folder.name,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children, until = [], time.monotonic() + 60
        while len(children) < 4 and time.monotonic() < until:
            time.sleep(0.05)
            with open(f"/proc/{job.pid}/task/{job.pid}/children") as file:
                children = file.read().split()
        time.sleep(1.5)
        self.assertIsNone(job.poll(), "the job ended before anybody was killed")
        began = time.monotonic()
        os.kill(int(children[rank]), signal.SIGKILL)
        error = job.communicate(timeout=100)[1]
        self.assertEqual(job.returncode, FAILED, error)
        return time.monotonic() - began, error

    def test_killed_member_is_named(self):
        for rank in 2, 0:
            seconds, error = self.killed(rank, 4000)
            self.assertIn(f"rank {rank} (process ", error)
            self.assertIn("was killed by signal 9", error)
            self.assertLess(seconds, 4 + 20, error)


def make_trace(tokens, top_k, experts, ids, weights):
    header = {"format": "crossdock-trace", "version": 1, "experts": experts, "top_k": top_k, "tokens": tokens}
    return json.dumps(header).encode() + b"\n" + struct.pack(f"<{len(ids)}i", *ids) + struct.pack(f"<{len(weights)}f", *weights)


class BadInput(Case):
    def refused(self, words, *arguments):
        done = self.crossdock(*arguments, code=BAD_INPUT)
        self.assertIn(words, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_text(self):
        self.write("empty", b"")
        self.write("nul", b"ab\0cd")
        self.write("latin1", b"caf\xe9 au lait")
        self.refused("--text missing: no such file", "run", "--text", "missing")
        self.refused("is empty", "run", "--text", "empty")
        self.refused("byte 2 is NUL", "run", "--text", "nul")
        self.refused("is a directory", "run", "--text", ".")
        self.crossdock("run", "--binary", "--text", "nul", *SMALL)
        self.crossdock("run", "--text", "latin1", *SMALL)

    def test_traces(self):
        good = make_trace([2], 2, 8, [0, 1, 2, 3], [1, 1, 1, 1])
        cases = {
            "no such file": None,
            "is empty": b"",
            "is no trace": b"{}\n",
            "truncated within its first line": good[:30],
            "is truncated: 31 bytes follow the header, which promises 32": good[:-1],
            "is too long: 33 bytes": good + b"x",
            "has version 2": good.replace(b'"version": 1', b'"version": 2'),
            "`top_k` is 65": good.replace(b'"top_k": 2', b'"top_k": 65'),
            "`experts` is 0": good.replace(b'"experts": 8', b'"experts": 0'),
            "`tokens` is []": good.replace(b"[2]", b"[]"),
            "`tokens` is -1": good.replace(b"[2]", b"[-1]"),
            "`tokens` is null": good.replace(b'"tokens"', b'"token"'),
            "has no tokens": good.replace(b"[2]", b"[0]"),
        }
        for number, (words, content) in enumerate(cases.items()):
            name = f"bad{number}.trace"
            if content is not None:
                self.write(name, content)
            self.refused(words, "run", "--trace", name)
        self.write("binary.trace", bytes(range(256)) * 300)
        self.refused("no trace", "run", "--trace", "binary.trace")

    def test_trace_against_flags(self):
        self.write("t", make_trace([2], 2, 8, [0, 1, 2, 3], [1, 1, 1, 1]))
        self.refused("--ranks 2: the trace t was recorded with 1", "run", "--trace", "t", "--ranks", "2")
        self.refused("--topk 3: the trace t was recorded with 2", "run", "--trace", "t", "--topk", "3")
        self.refused("--experts 9: the trace t was recorded with 8", "run", "--trace", "t", "--experts", "9")
        self.refused("--tokens 5", "run", "--trace", "t", "--tokens", "5")
        self.refused("cannot be written", "run", "--record", "no/such/folder")

    def test_flags(self):
        self.refused("--frobnicate", "run", "--frobnicate")
        self.refused("no verb `frobnicate`", "frobnicate")
        self.refused("subcommand is required")
        self.refused("--dtype: `int8` is none of bf16", "run", "--dtype", "int8")
        self.refused("--layout: `x`", "run", "--layout", "x")
        self.refused("--tokens: Value many", "run", "--tokens", "many")
        self.refused("--repeat", "run", "--repeat")

    def test_sizes(self):
        for flag in "--ranks", "--hidden", "--experts", "--topk", "--tokens", "--inter", "--repeat":
            self.refused(f"{flag}: Value 0 not in range", "run", flag, "0")
            self.refused(flag, "run", flag, "99999999999999999999")
        self.refused("--ranks: Value 9", "run", "--ranks", "9")
        self.refused("--topk: Value 65", "run", "--topk", "65")
        self.refused("Nearest sizes: 96 and 104", "run", "--hidden", "100")
        self.refused("the machine has", "run", "--tokens", "16000000", "--hidden", "7168")
        self.refused("there are only --experts 4", "run", "--experts", "4")
        self.refused("--groups 3 does not divide", "run", "--groups", "3")
        self.refused("hold fewer than --topk 8", "run", "--groups", "16", "--topk-groups", "1")
        self.refused("take combine_quant none", "run", "--zero-copy", "--combine-quant", "fp8_blockwise")

    def test_environment(self):
        for more in [], ["--processes"]:
            done = self.crossdock("run", *SMALL, *more, code=BAD_INPUT, environment={"CROSSDOCK_DEADLINE_MS": "soon"})
            self.assertIn("CROSSDOCK_DEADLINE_MS = `soon`", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


class Mem(Case):
    def test_bill_adds_up_and_is_what_run_takes(self):
        shape = ["--ranks", "4", "--hidden", "256", "--experts", "64", "--topk", "8", "--tokens", "24", "--max-kept-plans", "0"]
        bill = json.loads(self.crossdock("mem", *shape, "--json").stdout)
        self.assertEqual(sum(region["bytes"] for region in bill["regions"]), bill["total_bytes"])
        self.assertEqual(self.run_json(*SMALL)["memory_bytes_per_rank"], bill["total_bytes"])
        self.assertIn("buffer_set.rows", self.crossdock("mem", *shape).stdout)

    def test_fit(self):
        shape = ["--ranks", "8", "--hidden", "2880", "--dtype", "fp8_e4m3", "--json"]
        fitted = json.loads(self.crossdock("mem", *shape, "--fit", "1GiB").stdout)
        self.assertLessEqual(fitted["total_bytes"], 1 << 30)
        more = json.loads(self.crossdock("mem", *shape, "--tokens", str(fitted["max_tokens_per_rank"] + 1)).stdout)
        self.assertGreater(more["total_bytes"], 1 << 30)
        self.assertIn("at most", self.crossdock("mem", "--fit", "24GiB").stdout)

    def test_bad_input(self):
        for words, flags in (
            ("already", ["--fit", "1KiB"]),
            ("no number of bytes", ["--fit", "lots"]),
            ("Nearest sizes", ["--hidden", "100"]),
            ("row_capacity = 3", ["--row-capacity", "3"]),
        ):
            self.assertIn(words, self.crossdock("mem", *flags, code=BAD_INPUT).stderr)


class Doctor(Case):
    def test_a_sound_machine(self):
        self.assertIn("CROSSDOCK_DEADLINE_MS", self.crossdock("doctor").stdout)
        one_queue = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
        self.assertIn("share one queue", self.crossdock("doctor", environment=one_queue).stdout)
        self.assertNotIn("share one queue", self.crossdock("doctor").stdout)
        report = json.loads(self.crossdock("doctor", "--json").stdout)
        self.assertEqual(report["problems"], [])
        self.assertIn({"name": "cpu", "devices": 1}, [{k: b[k] for k in ("name", "devices")} for b in report["backends"]])
        self.assertGreater(report["machine"]["page_bytes"], 0)

    def test_environment(self):
        report = json.loads(
            self.crossdock(
                "doctor", "--json", code=FAILED, environment={"CROSSDOCK_DEDLINE_MS": "1", "CROSSDOCK_DEADLINE_MS": "7000"}
            ).stdout
        )
        self.assertTrue(any("CROSSDOCK_DEDLINE_MS" in problem for problem in report["problems"]), report["problems"])
        self.assertIn("7000", [v["value"] for v in report["environment"]])
        report = json.loads(self.crossdock("doctor", "--json", code=FAILED, environment={"CROSSDOCK_BACKEND": "abacus"}).stdout)
        self.assertTrue(any("abacus" in problem for problem in report["problems"]), report["problems"])

    def problems(self, **environment):
        """Of a doctor that must find some."""
        return json.loads(self.crossdock("doctor", "--json", code=FAILED, environment=environment).stdout)["problems"]

    def test_two_ranks_are_tried(self):
        report = json.loads(self.crossdock("doctor", "--json").stdout)
        self.assertEqual(report["trials"]["two processes exchange tokens"], "")
        self.assertEqual(report["trials"]["two threads exchange tokens"], "")
        self.assertRegex(self.crossdock("doctor").stdout, "(?s)device 0 +vmm: every rank can export.*two processes exchange tokens +ok")

    def test_runtime_directory(self):
        for folder in "/no/such/folder", "/dev/null", self.path("README.md"):
            problems = self.problems(CROSSDOCK_RUNTIME_DIR=folder)
            self.assertEqual(len(problems), 1, problems)
            self.assertIn("two processes exchange tokens: ", problems[0])
            self.assertIn(folder, problems[0])

    def test_tuning_file(self):
        self.assertIn("it cannot be read", self.problems(CROSSDOCK_TUNING_FILE="/no/such/file")[0])
        self.write("other", b"crossdock-tuning 1 version=9.9.9 ranks=3 device=abacus\n")
        problems = self.problems(CROSSDOCK_TUNING_FILE=self.path("other"))
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("it is for version=9.9.9 ranks=3 device=abacus, and here is version=", problems[0])
        self.crossdock("tune", *Tune.SHAPE, "--tokens", "2", "--repeat", "1", "-o", "mine")
        self.crossdock("doctor", environment={"CROSSDOCK_TUNING_FILE": self.path("mine")})


class Tune(Case):
    SHAPE = ("--ranks", "3", "--hidden", "256", "--experts", "10", "--topk", "3")

    def lines(self, name):
        return [line for line in self.read(name).decode().splitlines() if not line.startswith("#")]

    def test_writes_what_the_library_takes(self):
        done = self.crossdock("tune", *self.SHAPE, "--tokens", "1,9", "--repeat", "2", "-o", "t")
        title, *entries = self.lines("t")
        self.assertRegex(title, r"^crossdock-tuning 1 version=\d+\.\d+\.\d+ ranks=3 device=.+")
        shape = "dtype=bf16 hidden=256 topk=3 experts_per_rank=4 tokens="
        self.assertEqual(
            [entry[: entry.index("tokens=") + 8] for entry in entries],
            [f"op=combine path=staged {shape}{n}" for n in (1, 9)] + [f"op=dispatch {shape}{n}" for n in (1, 9)],
        )
        self.assertIn("of 4 calls are faster than by the rule", done.stdout)
        self.assertEqual(len([line for line in done.stdout.splitlines() if " tokens  rule " in line]), 4, done.stdout)

    def test_keeps_what_the_file_says_of_other_calls(self):
        self.crossdock("tune", *self.SHAPE, "--tokens", "1", "--repeat", "1", "-o", "t")
        self.crossdock("tune", *self.SHAPE, "--tokens", "1,10", "--repeat", "1", "--path", "zero_copy", "--dtype", "f16", "-o", "t")
        self.assertEqual(len(self.lines("t")), 1 + 2 + 4)
        done = self.crossdock("tune", *self.SHAPE[2:], "--ranks", "2", "--tokens", "1", "-o", "t", code=BAD_INPUT)
        self.assertIn("t begins with `crossdock-tuning", done.stderr)

    def test_time_limit(self):
        done = self.crossdock("tune", *self.SHAPE, "--tokens", "1,2,3", "--time-limit-s", "0", "-o", "t")
        self.assertIn("6 calls were left out: the time limit of 0 s had passed", done.stdout)
        self.assertEqual(len(self.lines("t")), 1)

    def test_bad_input(self):
        for words, flags in (
            ("--out is required", []),
            ("cannot write", ["-o", "/no/such/folder/t"]),
            ("Nearest sizes", ["-o", "t", "--hidden", "100"]),
            ("--tokens", ["-o", "t", "--tokens", "0"]),
            ("none of bf16", ["-o", "t", "--dtype", "int8"]),
        ):
            done = self.crossdock("tune", *flags, code=BAD_INPUT)
            self.assertIn(words, done.stderr)

    def bench(self, *arguments, **more):
        path = self.path("lines.jsonl")
        if os.path.exists(path):
            os.remove(path)
        self.crossdock(
            "bench", *self.SHAPE, "--by-queues", "--repeat", "2", "--op", "dispatch,combine", "--jsonl", path, *arguments, **more
        )
        with open(path) as file:
            return [json.loads(line) for line in file]

    def test_bench_says_who_decided(self):
        self.crossdock("tune", *self.SHAPE, "--tokens", "4", "--time-limit-s", "0", "-o", "t")
        with open(self.path("t"), "a") as file:
            file.write("op=dispatch dtype=bf16 hidden=256 topk=3 experts_per_rank=4 tokens=4 splits_per_row=2\n")

        def who(*more, **environment):
            return [line["tuned_by"] for line in self.bench(*more, environment=environment)]

        self.assertEqual(who("--tokens", "4"), ["rule", "rule"])
        self.assertEqual(who("--tokens", "4", "--tuning", "t"), ["file", "rule"])
        self.assertEqual(who("--tokens", "4", CROSSDOCK_TUNING_FILE="t"), ["file", "rule"])
        self.assertEqual(who("--tokens", "5", "--tuning", "t"), ["rule", "rule"])
        self.assertEqual(who("--tokens", "4", "--tuning", "t", "--splits-per-row", "3"), ["call", "call"])
        self.assertEqual([line["tuned_by"] for line in self.bench("--tokens", "4", "--tuning", "t", "--op", "pair")][-1:], ["file+rule"])


class Compare(Case):
    BENCH = ("bench", "--ranks", "2", "--experts", "8", "--topk", "2", "--op", "pair", "--repeat", "3", "--by-queues")
    ONE = (*BENCH, "--hidden", "256", "--tokens", "4")

    def baseline(self, us):
        """The lines of a run, as an older file might hold them: another time, and the keys that every line has."""
        if not os.path.exists(self.path("now.jsonl")):
            self.crossdock(*self.ONE, "--jsonl", "now.jsonl")
        with open(self.path("now.jsonl")) as file:
            line = json.loads(file.readline())
        for key in "dispatch_dtype", "combine_dtype", "num_blocks", "num_warps", "splits_per_row", "tuned_by", "repeat", "us_min":
            del line[key]
        line["us_median"] = us
        return self.write("old.jsonl", json.dumps(line).encode() + b"\n")

    def test_regression(self):
        done = self.crossdock(*self.ONE, "--compare", self.baseline(1e-3), code=FAILED)
        self.assertIn("REGRESSION", done.stdout)
        self.assertIn("slower than old.jsonl", done.stderr)
        self.assertIn("1 lines compared, 0 regressions", self.crossdock(*self.ONE, "--compare", self.baseline(1e9)).stdout)

    def test_nothing_to_compare(self):
        done = self.crossdock(*self.BENCH, "--hidden", "256", "--tokens", "5", "--compare", self.baseline(1), code=BAD_INPUT)
        self.assertIn("has no line about any of these calls", done.stderr)

    def test_nothing_timed(self):
        done = self.crossdock(*self.BENCH, "--tokens", "4", "--hidden", "100,101", code=BAD_INPUT)
        self.assertIn("every case was refused; the first: hidden = 100 makes", done.stderr)
        self.crossdock(*self.BENCH, "--tokens", "4", "--hidden", "100,256")  # one that runs is enough


class Report(Case):
    """The verb hands over to python -m crossdock.report, whose own tests are tests/python/test_report.py. Here it is a stand-in."""

    STAND_IN = b"import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(7)\n"

    def setUp(self):
        super().setUp()
        os.makedirs(self.path("crossdock/report"))
        self.write("crossdock/__init__.py", b"")
        self.write("crossdock/report/__init__.py", b"")
        self.write("crossdock/report/__main__.py", self.STAND_IN)

    def test_arguments_and_exit_code_are_those_of_the_module(self):
        for arguments in ["times.jsonl", "-o", "a page.html", "--peers", "p"], ["--help"], ["--list", "times.jsonl", "--svg=x"], []:
            for python in sys.executable, "":
                done = self.crossdock("report", *arguments, code=7, environment={"PYTHONPATH": self.folder.name, "PYTHON": python})
                self.assertEqual(json.loads(done.stdout), arguments)

    def test_without_the_module_a_sentence_says_how_to_get_it(self):
        self.write("crossdock/report/__init__.py", b"raise ImportError('broken')")
        for python, path in (sys.executable, self.folder.name), (self.path("no-python"), ""), ("false", ""):
            done = self.crossdock("report", "times.jsonl", code=FAILED, environment={"PYTHONPATH": path, "PYTHON": python})
            self.assertEqual(
                done.stderr,
                "crossdock: report: needs the Python package with its extra: pip install 'crossdock[report]', or name a Python "
                f"that has it by PYTHON (`{python} -c 'import crossdock.report'` fails)\n",
            )
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    for name in [n for n in os.environ if n.startswith("CROSSDOCK_")]:
        del os.environ[name]
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]], verbosity=2)
