# SPDX-License-Identifier: Apache-2.0
"""`crossdock trace` as a person meets it: instants and waits by peer, and a picture of one step."""

import json
import re
import unittest
import xml.etree.ElementTree

from cli_test import BAD_INPUT, Case

SVG = "{http://www.w3.org/2000/svg}"


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

    def test_a_picture_of_one_step(self):
        self.crossdock(*self.SHAPE, "--svg", "a.svg")
        svg = xml.etree.ElementTree.fromstring(self.read("a.svg"))
        texts = [element.text for element in svg.iter(SVG + "text")]
        for rank in range(3):
            self.assertEqual(texts.count(f"rank {rank}"), 1)
        notes = [element.text for element in svg.iter(SVG + "title")]
        for phase, operation in (("move", "dispatch"), ("wait_done", "dispatch"), ("reduce", "combine")):
            self.assertIn(phase, texts, "the legend")
            self.assertEqual(len([n for n in notes if n.startswith(phase + ", ") and n.endswith(operation)]), 3, notes)
        for box in svg.iter(SVG + "rect"):
            if box.get("x"):
                self.assertTrue(float(box.get("width")) >= 0 and float(box.get("x")) + float(box.get("width")) <= 760.1, box.attrib)

    def test_one_of_both_is_needed(self):
        self.assertIn("--out or --svg", self.crossdock(*self.SHAPE, code=BAD_INPUT).stderr)


if __name__ == "__main__":
    unittest.main()
