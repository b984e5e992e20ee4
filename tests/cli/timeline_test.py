# SPDX-License-Identifier: Apache-2.0
"""`crossdock trace` as a person meets it: instants and waits by peer."""

import json
import re
import unittest

from cli_test import BAD_INPUT, Case


class Timeline(Case):
    SHAPE = ("trace", "--ranks", "3", "--tokens", "8", "--hidden", "256", "--experts", "6", "--topk", "2")

    def test_a_timeline_and_the_waits_by_peer(self):
        out = self.crossdock(*self.SHAPE, "--out", "a.json").stdout
        for phase in ("wait_counts", "wait_done", "wait_ready"):
            for rank in range(3):
                row = re.search(rf"^{phase} +by rank {rank}((?: +\d+\.\d+)+)$", out, re.MULTILINE)
                self.assertTrue(row and len(row[1].split()) == 3, out)
        events = json.loads(self.read("a.json"))["traceEvents"]
        for rank in range(3):
            seen = {e["name"] for e in events if e["ph"] == "i" and e["pid"] == rank}
            self.assertEqual(seen, {f"{edge} of rank {peer}" for edge in ("counts", "done", "ready") for peer in range(3)})
            waits = [e for e in events if e["ph"] == "X" and e["pid"] == rank and e["name"].startswith("wait_")]
            for e in events:
                if e["ph"] == "i" and e["pid"] == rank:
                    self.assertTrue(
                        any(
                            w["ts"] <= e["ts"] <= w["ts"] + w["dur"] + 1e-6
                            and w["args"]["epoch"] == e["args"]["epoch"]
                            and w["name"] == "wait_" + e["name"].split()[0]
                            for w in waits
                        ),
                        e,
                    )

    def test_a_file_is_needed(self):
        self.assertIn("--out is required", self.crossdock(*self.SHAPE, code=BAD_INPUT).stderr)

    def test_pictures_are_left_to_perfetto(self):
        self.assertIn("--svg", self.crossdock(*self.SHAPE, "--out", "a.json", "--svg", "a.svg", code=BAD_INPUT).stderr)


if __name__ == "__main__":
    unittest.main()
