# SPDX-License-Identifier: Apache-2.0
"""How ranks come together, part, and are lost. Programs that must end by themselves run as processes with a time limit."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch.multiprocessing as mp

import crossdock

PROGRAMS = pathlib.Path(__file__).with_name("programs")
CONFIG = crossdock.Config(hidden=4, num_experts=4, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")


def round_trip(group):
    """One token of each rank goes to the expert of the next rank and comes home: its own value, once."""
    exchange = group.exchange(CONFIG.replace(num_experts=group.num_ranks))
    received = exchange.dispatch(np.full((1, 4), group.rank, np.float32), np.array([[(group.rank + 1) % group.num_ranks]]))
    source = received.sources[0, 0]
    return int(source), exchange.combine(received, received.rows)[0, 0].item()


def expected(num_ranks):
    return [((r - 1) % num_ranks, float(r)) for r in range(num_ranks)]


def run(*arguments, limit=60, **environment):
    """A program of this folder or a module, in processes of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.parametrize("num_ranks", range(1, 9))
def test_threads(num_ranks, crossdock_ranks):
    assert crossdock_ranks(num_ranks)(round_trip) == expected(num_ranks)


def test_from_callback_and_from_store():
    from torch.distributed import HashStore

    meeting, parts, store = threading.Barrier(2), {}, HashStore()

    def all_gather_of(rank):
        def all_gather(mine):
            parts[rank] = mine
            meeting.wait()
            every = [parts[0], parts[1]]
            meeting.wait()
            return every

        return all_gather

    def by_callback(rank):
        with crossdock.Group.from_callback(rank, 2, all_gather_of(rank), backend="cpu") as group:
            return round_trip(group)

    def by_store(rank):
        with crossdock.Group.from_store(store, rank, 2, prefix="a", backend="cpu") as group:
            return round_trip(group)

    assert crossdock._group.run_together(2, by_callback) == crossdock._group.run_together(2, by_store) == expected(2)


def from_torch(rank, num_ranks, folder, backend):
    import torch.distributed as dist

    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
    with crossdock.Group.from_torch(backend="cpu") as group:
        pathlib.Path(folder, str(rank)).write_text(repr(round_trip(group)))
    dist.destroy_process_group()


@pytest.mark.parametrize("backend", ["gloo", None])  # None: torch chooses by device, and the group's own backend is "undefined"
def test_spawned_processes_of_a_group_of_torch(backend, tmp_path):
    mp.spawn(from_torch, (2, str(tmp_path), backend), nprocs=2)
    assert [eval((tmp_path / str(r)).read_text()) for r in range(2)] == expected(2)


def test_processes_that_share_nothing_but_a_name():
    done = run(PROGRAMS / "named.py")
    assert sorted(done.stdout.split()) == ["0:0.0", "1:1.0", "2:2.0"], done.stdout + done.stderr


def test_torchrun_and_a_group_of_some_ranks(tmp_path):
    done = run(
        *"-m torch.distributed.run --nproc-per-node=3 --master-port=0 --rdzv-backend=c10d --rdzv-endpoint=localhost:0".split(),
        PROGRAMS / "some_ranks.py",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == ["1 of 2: 1.0", "2 of 2: 2.0"]


def test_a_bad_all_gather_is_a_usage_error():
    for answer, words in (
        (lambda mine: [mine], "1 entries"),
        (lambda mine: [mine, mine[:-1]], "for rank 1"),
        (lambda mine: [mine, "text"], "for rank 1"),
    ):
        with pytest.raises(crossdock.UsageError, match=words):
            crossdock.Group.from_callback(0, 2, answer, backend="cpu")
    with pytest.raises(ZeroDivisionError):
        crossdock.Group.from_callback(0, 2, lambda mine: 1 // 0, backend="cpu")


@pytest.mark.parametrize("arguments, words", [((3, 2), "rank = 3"), ((0, 9), "num_ranks = 9")])
def test_bad_ranks(arguments, words):
    with pytest.raises(crossdock.UsageError, match=words):
        crossdock.Group.from_callback(*arguments, lambda mine: [mine], backend="cpu")


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(deadline="5"), "deadline = '5'; must be a number of seconds"),
        (dict(device="cuda:0"), "device = 'cuda:0'; must be an integer"),
        (dict(backend=3), "backend = 3; must be a name"),
        (dict(deadline=float("nan")), "must be 0"),
        (dict(deadline=-1), "must be 0"),
    ],
)
def test_bad_options_are_usage_errors(options, words):
    with pytest.raises(crossdock.UsageError, match=words):
        crossdock.Group.from_callback(0, 1, lambda mine: [mine], **{"backend": "cpu", **options})


def test_a_missing_backend_says_why():
    with pytest.raises(crossdock.Error, match="hip"):
        crossdock.Group.threads(1, backend="hip")
    with pytest.raises(crossdock.UsageError, match="automatic, cuda, hip, cpu"):
        crossdock.Group.threads(1, backend="tpu")


def test_ranks_that_disagree_on_the_config_all_learn_it(crossdock_ranks):
    def job(group):
        with pytest.raises(crossdock.ConfigError, match=r"hidden|refused"):
            group.exchange(CONFIG.replace(hidden=4 + 4 * (group.rank == 1)))
        return True

    assert all(crossdock_ranks(3)(job))


def test_equal_configs_share_an_exchange(crossdock_ranks):
    def job(group):
        first = group.exchange(CONFIG)
        same = group.exchange(CONFIG.replace()) is first
        return same, group.exchange(CONFIG.replace(top_k=2)) is first

    assert crossdock_ranks(2)(job) == [(True, False)] * 2


def test_after_close_every_call_says_so(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG)
        with group:
            pass
        group.close()
        for use in (lambda: exchange.dispatch(), group.poll, lambda: group.exchange(CONFIG.replace(top_k=2)), lambda: group.abort("x")):
            with pytest.raises(crossdock.StateError, match="the group is closed"):
                use()
        return True

    assert all(crossdock_ranks(2)(job))


def test_a_rank_that_raises_ends_the_others_at_once(crossdock_ranks):
    seen = []

    def job(group):
        exchange = group.exchange(CONFIG)
        if group.rank == 1:
            raise KeyError("a bug")
        try:
            exchange.dispatch()
        except crossdock.AbortedError as error:
            seen.append(str(error))
            raise

    began = time.monotonic()
    with pytest.raises(KeyError, match="a bug"):
        crossdock_ranks(3)(job)
    assert time.monotonic() - began < 10 and len(seen) == 2 and "KeyError: 'a bug'" in seen[0]


def test_an_exception_that_leaves_the_block_is_told_to_the_others():
    groups, began = crossdock.Group.threads(2, backend="cpu", deadline=60), time.monotonic()

    def job(rank):
        with groups[rank] as group:
            exchange = group.exchange(CONFIG)
            exchange.dispatch(np.ones((1, 4), np.float32), np.zeros((1, 1), np.float32 if rank else np.int32))

    with pytest.raises(crossdock.UsageError, match="ids is of float32"):
        crossdock._group.run_together(2, job)
    with pytest.raises(crossdock.StateError, match="closed"):
        groups[0].poll()
    assert time.monotonic() - began < 20


def test_a_peer_that_never_calls_is_named(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG)
        if group.rank == 0:
            with pytest.raises(crossdock.PeerLostError, match="rank 1"):
                exchange.dispatch()
            assert exchange.poll().code == "peer_lost" and exchange.poll().peer == 1
        return True

    assert all(crossdock_ranks(2, deadline=0.3)(job))


def test_abort_carries_its_reason_and_deadlines_are_checked(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG)
        group.set_deadline(5)
        for bad in (-1, "soon", None):
            with pytest.raises(crossdock.UsageError, match="deadline"):
                group.set_deadline(bad)
        if group.rank == 0:
            group.abort("maintenance")
        with pytest.raises(crossdock.AbortedError, match="maintenance"):
            while True:
                exchange.dispatch()
        return True

    assert all(crossdock_ranks(2)(job))


def test_a_forked_child_is_told_and_the_parent_goes_on(crossdock_ranks):
    done = run(PROGRAMS / "forked.py", limit=30)
    assert done.returncode == 0 and "forked after the object was made" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("how", ["exit", "collect", "exception", "stream"])
def test_neither_exit_nor_the_collector_waits_for_anyone(how):
    """The other rank never takes part and the deadline is an hour: whoever waits is caught by the time limit."""
    began = time.monotonic()
    done = run(PROGRAMS / "leaves.py", how, limit=30)
    assert ("left" in done.stdout) and time.monotonic() - began < 20, done.stdout + done.stderr
    assert done.returncode == (1 if how == "exception" else 0), done.stderr


def test_a_killed_process_is_missed_by_the_others():
    done = run(PROGRAMS / "killed.py", limit=60)
    assert done.returncode == 0 and "PeerLostError" in done.stdout, done.stdout + done.stderr


def test_the_programs_for_gpus_run_on_the_cpu():
    done = run(
        pathlib.Path(__file__).with_name("on_gpus.py"),
        "--rehearse",
        "--ranks",
        "2",
        "-c",
        PROGRAMS.parents[2] / "pyproject.toml",
        limit=170,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
