# SPDX-License-Identifier: Apache-2.0
"""python -m crossdock.bench_overlap on the CPU: all figures are there, and none whose result is wrong or beside which nothing ran."""

import json
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist

from crossdock import _runners, bench_overlap

SMALL = ["--tokens", "64", "--hidden", "256", "--matrix", "128", "--seconds", "0.01"]
FIGURES = {"us", "us_beside", "tflops", "tflops_beside"}

# Spawned ranks run the head of the program too. Calls of rank 1 with num_sms = 8 go wrong.
HARMED = """
import sys
import crossdock, crossdock.bench_overlap

def harmed(call, rows_of):
    def harm(self, *arguments, num_sms=0, **options):
        answer = call(self, *arguments, num_sms=num_sms, **options)
        if self.group.rank == 1 and num_sms == 8:
            rows_of(answer)[3] += 1
        return answer
    return harm

crossdock.Exchange.dispatch = harmed(crossdock.Exchange.dispatch, lambda received: received.rows)
crossdock.Exchange.combine = harmed(crossdock.Exchange.combine, lambda out: out)
if __name__ == "__main__":
    sys.exit(crossdock.bench_overlap.main(sys.argv[1:]))
"""


def lines_of(*command):
    """(exit status, lines) of two ranks."""
    done = subprocess.run(
        [sys.executable, *map(str, command), *SMALL, "--ranks", "2", "--json"], capture_output=True, text=True, timeout=120
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return done.returncode, lines


@pytest.fixture
def only_rank(tmp_path):
    """This process is."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def main(monkeypatch, only_rank):
    monkeypatch.setattr(bench_overlap, "on_ranks", lambda job, arguments: job(0, torch.device("cpu"), arguments))
    return lambda *arguments: bench_overlap.main([*SMALL, "--ranks", "1", *arguments])


def test_every_case_has_its_four_figures():
    status, lines = lines_of("-m", "crossdock.bench_overlap", "--num-sms", 0, 8)
    assert [(line["op"], line["num_sms"]) for line in lines] == [(op, n) for op in ("dispatch", "combine") for n in (0, 8)]
    assert status == 0, [line.get("error") for line in lines]
    assert all(line[key] > 0 for line in lines for key in FIGURES | {"num_blocks"}) and {line["tokens"] for line in lines} == {64}


def test_no_time_is_told_whose_result_is_wrong(tmp_path):
    program = tmp_path / "harmed.py"
    program.write_text(HARMED)
    status, lines = lines_of(program, "--num-sms", 8)
    assert status == 1 and len(lines) == 2
    assert all(line["error"] == "wrong result" and not FIGURES & set(line) for line in lines), lines


def test_a_result_that_goes_wrong_while_it_is_timed(main, monkeypatch, capsys):
    alone = _runners.Runner.alone

    def harm(self, seconds):
        times = alone(self, seconds)
        monkeypatch.setattr(torch, "equal", lambda *_: False)
        return times

    monkeypatch.setattr(_runners.Runner, "alone", harm)
    assert main("--num-sms", "0", "--op", "combine") == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == ["combine", "0", "1", "wrong", "result"]


def test_no_time_is_told_beside_which_nothing_ran(main, monkeypatch, capsys):
    monkeypatch.setattr(_runners, "TRIES", 2)
    monkeypatch.setattr(_runners.ThreadRunner, "is_running", lambda self: False)
    assert main("--num-sms", "0", "--op", "dispatch") == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("what ran beside always ended too soon")


def test_the_table_tells_units_and_how_much_each_is_slowed(main, capsys):
    assert main("--num-sms", "4", "--op", "combine") == 0
    shape, units, _, header, line = capsys.readouterr().out.splitlines()
    assert "hidden 256" in shape and "slowest rank" in units and "mean of the ranks" in units
    assert header.split() == ["op", "num_sms", "blocks", "us", "beside", "slower", "TFLOP/s", "beside", "slower"]
    cells = line.split()
    assert cells[:3] == ["combine", "4", "1"] and len(cells) == 9 and cells[5][-1] == cells[8][-1] == "%"


class Watched(_runners.ThreadRunner):
    """Remembers (begin, end) of each run."""

    def repeat(self, steps):
        began = time.perf_counter()
        answer = super().repeat(steps)
        self.spans.append((began, time.perf_counter()))
        return answer

    def load(self, step, seconds):
        self.spans = []
        super().load(step, seconds)


def test_what_is_timed_has_the_other_beside_it_from_begin_to_end(only_rank):
    front, back = Watched(), Watched()
    for runner in (front, back):
        runner.load(lambda: time.sleep(0.0005), 0.01)
        runner.alone(0.01)
    back.replay_s *= 100  # so too few repetitions are tried first
    before = len(back.spans)
    (step_s,) = front.beside(back, 0.01)
    (began, ended), (other_began, other_ended) = front.spans[-1], back.spans[-1]
    assert step_s >= 0.0005 and other_began <= began and ended <= other_ended and len(back.spans) > before + 1
