# SPDX-License-Identifier: Apache-2.0
"""No line names a package registry's host or a path of the machine it was written on: neither is there for others."""

import re

import common

# Written so that this file does not find itself.
FORBIDDEN = [
    r"/wor[k]/",
    r"/far[m]/",
    r"/hom[e]/\w",
    r"/roo[t]/",
    r"bash_job[s]",
    r"/\.librar[y]",
    r"farm-(studi[o]|benc[h])",
    r"pypi[.]org",
    r"pythonhosted[.]org",
    r"(deb|security|ftp)[.]debian[.]org",
    r"registry[.]npmjs",
    r"crates[.]io",
    r"proxy[.]golang",
    r"conda[.]anaconda",
    r"pypi[.]nvidia",
]
WORDS = re.compile("|".join(FORBIDDEN))


def check(path, text):
    return [
        f"{path}:{number}: names `{match.group(0)}`"
        for number, line in enumerate(text.split("\n"), 1)
        for match in [WORDS.search(line)]
        if match
    ]


def self_test():
    planted = ["see /wor" + "k/main", "https://pypi" + ".org/x", "cd /roo" + "t/x", "/hom" + "e/ann"]
    for line in planted:
        assert check("x", line), line
    assert not check("x", "/usr/local/cuda/bin, the root/ of the work/ tree")


def main():
    self_test()
    root = common.repository_root()
    paths = [p for p in common.files(root) if not p.endswith((".png", ".gz", ".npz", ".npy"))]
    problems = [problem for path in paths for problem in check(path, common.read(root, path))]
    common.finish("words", problems, f"{len(paths)} files")


if __name__ == "__main__":
    main()
