# SPDX-License-Identifier: Apache-2.0
"""Turns what `./dev test` left in its report folder into words: PART.status, PART.log and, from ctest or pytest, PART.xml.
A part without tests of its own (or whose build failed before them) counts as one.

usage: report.py part FOLDER PART        one line, with what failed
       report.py all  FOLDER PART...     the table of times; the last line is `N passed, N failed`"""

import os
import sys
import xml.etree.ElementTree

MAX_LINES = 60  # of output, per failed test


class Part:
    def __init__(self, folder, name):
        self.name = name
        self.log = os.path.join(folder, name + ".log")
        with open(os.path.join(folder, name + ".status"), encoding="utf-8") as f:
            self.status, self.seconds = map(int, f.read().split())
        self.passed, self.skipped, self.failures = 0, 0, []
        results = os.path.join(folder, name + ".xml")
        if os.path.exists(results):
            self.read_results(results)
        if self.status and not self.failures:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                self.failures.append((name, tail(f.read())))
        elif not self.status and not os.path.exists(results):
            self.passed = 1

    def read_results(self, path):
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            skipped = case.find("skipped")  # also there when a test could not be started
            if case.get("status") is None:
                self.read_pytest(case)
            elif case.get("status") == "run":
                self.passed += 1
            elif case.get("status") == "disabled" or (skipped is not None and "SKIP" in skipped.get("message")):
                self.skipped += 1
            else:
                why = skipped.get("message") + "\n" if skipped is not None else ""
                self.failures.append((case.get("name"), why + tail(case.findtext("system-out") or "")))

    def read_pytest(self, case):
        """Of pytest: no status, but an element for what did not pass."""
        wrong = [element for element in case if element.tag in ("failure", "error", "skipped")]
        if wrong:
            self.failures.append((f"{case.get('classname')}.{case.get('name')}", tail(wrong[0].text or wrong[0].get("message") or "")))
        else:
            self.passed += 1

    def line(self):
        counts = f"{self.passed:6} passed {len(self.failures):4} failed" + (f" {self.skipped} skipped" if self.skipped else "")
        return f"{self.name:<10} {self.seconds:5} s {counts}"


def tail(text):
    lines = text.rstrip().split("\n")
    return "\n".join((["..."] if len(lines) > MAX_LINES else []) + lines[-MAX_LINES:])


def main(mode, folder, *names):
    parts = [Part(folder, name) for name in names]
    if mode == "part":
        print("   " + parts[0].line())
        for name, output in parts[0].failures:
            print(f"-- failed: {name}\n{output}\n--")
        return 0
    print("\n".join(["", *(part.line() for part in parts), f"in all     {sum(part.seconds for part in parts):5} s"]))
    failures = [(part.name, name) for part in parts for name, _ in part.failures]
    for part, name in failures:
        print(f"failed in {part}: {name}")
    print(f"{sum(part.passed for part in parts)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
