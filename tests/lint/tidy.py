# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on the sources that are not known to be clean.

A source is known to be clean if clang-tidy found nothing in it when it, every file of the repository that it includes, its compile
command, the checks and clang-tidy were what they are now. The record lies in .cache/tidy.json; a failed source stays in it and comes
first the next time. Other sources follow by turns of folders, so that a run with a limit looks into every folder."""

import concurrent.futures
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import tempfile
import time

import common

TIDY = "clang-tidy-14"
FOLDERS = ["src", "tools", "oracle"]
RECORD = ".cache/tidy.json"
FAILED = "failed"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
FINDING = re.compile(r"^(?=\S+:\d+:\d+: (?:error|warning): )", re.MULTILINE)
PLANTED = ("const int* p = 0;\n", "const int* p = nullptr;\n")  # found, and not found


class Repository:
    """Digests of the repository's files, each read once, and what they include."""

    def __init__(self, root):
        self.root, self.digests, self.included = root, {}, {}

    def read(self, path):
        if path not in self.digests:
            text = common.read(self.root, path)
            self.digests[path] = hashlib.sha256(text.encode()).hexdigest()
            self.included[path] = INCLUDE.findall(text)
        return self.included[path]

    def closure(self, source, folders):
        """The source and every file of the repository that it includes, whatever #if stands around."""
        found, unread = {source}, [source]
        while unread:
            path = unread.pop()
            for target, folder in itertools.product(self.read(path), [os.path.dirname(path), *folders]):
                file = os.path.normpath(os.path.join(folder, target))
                if file not in found and not file.startswith((os.pardir, "/")) and os.path.isfile(os.path.join(self.root, file)):
                    found.add(file)
                    unread.append(file)
        return sorted(found)


def fingerprints(root, build):
    """{source: digest of all that a verdict of clang-tidy depends on}, of the sources that `build` compiles."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        commands = {os.path.relpath(entry["file"], root): entry["command"] for entry in json.load(f)}
    repository = Repository(root)
    version = subprocess.run([TIDY, "--version"], capture_output=True, text=True, check=True).stdout
    found = {}
    for source in common.files(root, FOLDERS, [".cpp"]):
        if source not in commands:
            continue
        words = shlex.split(commands[source])
        folders = [os.path.relpath(word[2:], root) for word in words if word.startswith("-I")]
        files = repository.closure(source, [folder for folder in folders if not folder.startswith((os.pardir, "build"))])
        parts = [version, common.read(root, ".clang-tidy"), commands[source], *(repository.digests[file] for file in files)]
        found[source] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return found


def by_turns(paths):
    """The first of each folder, then the second of each, and so on."""
    folders = [list(group) for _, group in itertools.groupby(sorted(paths, key=os.path.split), os.path.dirname)]
    return [path for turn in itertools.zip_longest(*folders) for path in turn if path]


def read_record(root):
    try:
        with open(os.path.join(root, RECORD), encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return {}


def write_record(root, record):
    os.makedirs(os.path.join(root, ".cache"), exist_ok=True)
    with open(os.path.join(root, RECORD), "w", encoding="utf-8") as f:
        json.dump(record, f, indent=0, sort_keys=True)


def self_test(root):
    for text, is_clean in zip(PLANTED, (False, True), strict=True):
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([TIDY, "--quiet", f"--config-file={root}/.clang-tidy", file.name, "--"], capture_output=True, text=True)
        assert (done.returncode == 0) == is_clean, done.stdout + done.stderr


def check(root, build, seconds=None):
    """(what clang-tidy found, printed as it comes; a line of counts). With `seconds`, what is not done by then is left out."""
    self_test(root)
    now, record = fingerprints(root, build), read_record(root)
    wanted = [path for path in now if record.get(path) != now[path]]
    known = [path for path in wanted if path in record]
    order = known + by_turns(set(wanted) - set(known))
    end = time.monotonic() + (seconds or float("inf"))

    def tidy(source):
        left = end - time.monotonic()
        if left <= 0:
            return None
        try:
            command = [TIDY, "--quiet", "-p", build, source]
            return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=left if seconds else None)
        except subprocess.TimeoutExpired:
            return None

    findings, checked = {}, 0  # a finding in a header comes from many sources, and is shown once
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for source, done in zip(order, pool.map(tidy, order), strict=True):
            if done is None:
                continue
            checked += 1
            record[source] = now[source] if done.returncode == 0 else FAILED
            write_record(root, {path: digest for path, digest in record.items() if path in now})  # an interrupted run is not lost
            if done.returncode:
                blocks = [block.rstrip() for block in FINDING.split(done.stdout) if block.strip()]
                for block in blocks or [f"{source}: {TIDY} ended with {done.returncode}: {done.stderr}"]:
                    if block not in findings:
                        print(block, flush=True)
                    findings[block] = True
    problems = list(findings)
    if order and not checked:
        problems.append(f"no source was checked within {seconds} s, for the machine is too busy: `./dev lint` has no limit")
        print(problems[-1])
    left = len(order) - checked
    counts = f"{len(now)} sources: {checked} checked, {len(now) - len(order)} unchanged since they were found clean"
    return problems, counts + (f", {left} left to `./dev lint`" if left else "")
