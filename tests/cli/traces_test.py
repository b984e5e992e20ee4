# SPDX-License-Identifier: Apache-2.0
"""Traces as a person meets them: recorded, replayed, and read as docs/traces.md says."""

import json
import os
import struct
import subprocess
import sys
import unittest

from cli_test import SMALL, SOURCE, Case, make_trace


def read_trace(content):
    """(header, ids, weights) as docs/traces.md says, without numpy."""
    line, arrays = content.split(b"\n", 1)
    header = json.loads(line)
    count = sum(header["tokens"]) * header["top_k"]
    assert len(arrays) == 8 * count
    return header, struct.unpack(f"<{count}i", arrays[: 4 * count]), struct.unpack(f"<{count}f", arrays[4 * count :])


def python_with_numpy():
    """This interpreter or Debian's: the one that has numpy."""
    for python in sys.executable, "/usr/bin/python3":
        if subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode == 0:
            return python
    raise AssertionError("numpy is missing: apt-get install python3-numpy")


class Traces(Case):
    def test_replay_is_the_same_traffic(self):
        recorded = self.run_json(*SMALL, "--record", "a.trace")
        replayed = self.run_json(*SMALL[:4], "--trace", "a.trace", "--record", "b.trace")
        for key in "rows", "experts", "result_digest":
            self.assertEqual(recorded[key], replayed[key])
        self.assertEqual(self.read("a.trace"), self.read("b.trace"))
        for more in ["--processes"], ["--seed", "9"], ["--layout", "contiguous"], ["--hidden", "512"]:
            self.assertEqual(self.run_json(*SMALL[:4], "--trace", "a.trace", *more)["rows"]["sent"], recorded["rows"]["sent"])

    def test_content(self):
        result = self.run_json(*SMALL, "--record", "a.trace")
        header, ids, weights = read_trace(self.read("a.trace"))
        self.assertEqual((header["format"], header["version"], header["tokens"]), ("crossdock-trace", 1, [24] * 4))
        experts, top_k = header["experts"], header["top_k"]
        sent = [[0] * 4 for _ in range(4)]
        for token in range(96):
            mine = ids[token * top_k : (token + 1) * top_k]
            self.assertEqual(len(set(mine)), top_k)
            self.assertAlmostEqual(sum(weights[token * top_k : (token + 1) * top_k]), 2.5, places=4)
            for rank in {e // (experts // 4) for e in mine}:
                sent[token // 24][rank] += 1
        self.assertEqual(sent, result["rows"]["sent"])
        counts = [ids.count(e) for e in range(experts)]
        self.assertEqual(result["experts"]["hottest"], counts.index(max(counts)))

    def test_odd_ids(self):
        ids = [3, 3, -1, 7, 0, 3, -1, -1, -1, 99, -7, 5, 1, 2, 1]  # repeated, not routed, out of range
        self.write("odd.trace", make_trace([3, 2], 3, 8, ids, [0.5 + n for n in range(15)]))
        for layout in "token_major", "expert_major", "contiguous":
            result = self.run_json(*SMALL[:4], "--trace", "odd.trace", "--layout", layout)
            self.assertTrue(result["check"]["ok"])
            self.assertEqual(result["experts"]["bad_ids"], 2)
            self.assertEqual(result["rows"]["sent"], [[2, 1], [1, 1]])

    def test_numpy_reads_it_as_the_docs_say(self):
        self.run_json(*SMALL, "--record", "routing.trace")
        with open(os.path.join(SOURCE, "docs", "traces.md")) as file:
            snippets = [block.split("```")[0] for block in file.read().split("```python\n")[1:]]
        code = "".join(snippets) + "print('load', int(load.sum()))"
        done = subprocess.run([python_with_numpy(), "-c", code], cwd=self.folder.name, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"load {96 * 8}", done.stdout)
        self.crossdock("run", *SMALL[:4], "--trace", "mine.trace")


if __name__ == "__main__":
    unittest.main()
