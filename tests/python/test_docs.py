# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows of Python runs: every block of a page in order, those marked `torchrun N` as programs of N processes,
those of an example as that example; and the examples print what they say."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/python.md", "docs/from-mori.md", "docs/from-deepep.md"]
BLOCK = re.compile(r"(?:^<!-- (torchrun|from) (\S+) -->\n)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks_of(page):
    """(kind, argument, text) of each block of Python."""
    return [match.groups() for match in BLOCK.finditer((ROOT / page).read_text())]


def run(*command, processes=None):
    prefix = (
        ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
        if processes
        else []
    )
    done = subprocess.run(
        [sys.executable, *prefix, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page, tmp_path, crossdock_ranks):
    names, shown = {"__name__": "documentation"}, blocks_of(page)
    assert shown, f"{page} shows no Python"
    for number, (kind, argument, text) in enumerate(shown):
        if kind == "from":
            assert text.strip() in (ROOT / argument).read_text(), f"{page}: not what {argument} says"
        elif kind == "torchrun":
            program = tmp_path / f"{number}.py"
            program.write_text(text)
            run(program, processes=int(argument))
        else:
            exec(compile(text, f"{page}, block {number + 1}", "exec"), names)
            for test in [names.pop(name) for name in list(names) if name.startswith("test_")]:
                test(crossdock_ranks)


def test_no_block_of_python_escapes():
    for page in PAGES:
        assert len(blocks_of(page)) == len(re.findall(r"^```python$", (ROOT / page).read_text(), re.MULTILINE)), page


def test_the_example_for_torchrun_runs_in_two_processes():
    printed = run(ROOT / "examples" / "python" / "torchrun_hello.py", processes=2)
    for rank in range(2):
        assert f"rank {rank} received 20 rows" in printed and f"rank {rank} got back 3.0" in printed


@pytest.mark.parametrize(
    "example, words",
    [
        ("hello", "[[ 3.  6.  9. 12.]]"),
        ("moe_layer", "fp8 dispatch: relative error"),
        ("training", "loss"),
        ("cuda_graph", "16 tokens (16 came home)"),
    ],
)
def test_an_example_runs_on_the_cpu(example, words):
    assert words in run(ROOT / "examples" / "python" / f"{example}.py")


def test_the_table_of_errors_is_the_tree():
    import crossdock

    table = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/python.md").read_text(), re.MULTILINE))
    tree = {name: kind.code for name, kind in vars(crossdock).items() if isinstance(kind, type) and issubclass(kind, crossdock.Error)}
    assert table == {name: code for name, code in tree.items() if name != "Error"}
