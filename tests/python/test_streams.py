# SPDX-License-Identifier: Apache-2.0
"""Streams and graphs of the CPU backend: order, lifetimes, replay with another number of tokens."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

import crossdock

CONFIG = crossdock.Config(hidden=8, num_experts=2, top_k=1, max_tokens_per_rank=4, dispatch_dtype="f32", combine_dtype="f32")


def to_the_other(group, tokens=4):
    return np.full((tokens, 1), 1 - group.rank)


def test_enqueued_calls_read_when_they_run(crossdock_ranks):
    def job(group):
        exchange, stream = group.exchange(CONFIG), crossdock.CpuStream()
        rows, out = np.zeros((4, 8), np.float32), np.empty((4, 8), np.float32)
        stream.begin_capture()
        received = exchange.dispatch(rows, to_the_other(group), stream=stream)
        exchange.combine(received, received.rows, out=out, stream=stream)
        graph = stream.end_capture()
        results = []
        for value in (3, 4):
            rows[:] = value + group.rank
            stream.replay(graph)
            stream.synchronize()
            results.append(out[0, 0].item())
        return results

    assert crossdock_ranks(2)(job) == [[3, 4], [4, 5]]


def test_a_graph_serves_every_number_of_tokens(crossdock_ranks):
    def job(group):
        exchange, stream = group.exchange(CONFIG), crossdock.CpuStream()
        rows, ids, word, out = torch.ones(4, 8), torch.full((4, 1), 1 - group.rank), torch.zeros(1, dtype=torch.int32), torch.zeros(4, 8)
        stream.begin_capture()
        received = exchange.dispatch(rows, ids, num_tokens=word, stream=stream)
        counts = received.counts
        exchange.combine(received, received.rows, out=out, stream=stream)
        graph = stream.end_capture()
        assert graph.num_calls > 0 and received.num_tokens == -1
        del received
        seen = []
        for tokens in (4, 1, 0, 3):
            word.fill_(tokens)
            out.zero_()
            stream.replay(graph)
            stream.synchronize()
            seen.append((counts.num_rows.item(), int(out.sum()) // 8))
        return seen

    assert crossdock_ranks(2)(job) == [[(4, 4), (1, 1), (0, 0), (3, 3)]] * 2


def test_with_makes_a_stream_current_and_waits_at_the_end(crossdock_ranks):
    def job(group):
        exchange, out = group.exchange(CONFIG), np.zeros((4, 8), np.float32)
        with crossdock.CpuStream():
            received = exchange.dispatch(np.ones((4, 8), np.float32), to_the_other(group))
            exchange.combine(received, received.rows, out=out)
        return out.sum()

    assert crossdock_ranks(2)(job) == [32, 32]


def test_arrays_of_enqueued_calls_live_until_they_have_run(crossdock_ranks):
    """Rank 0's dispatch cannot end before rank 1's begins."""
    dropped = threading.Event()

    def job(group):
        exchange, stream, held = group.exchange(CONFIG), crossdock.CpuStream(), None
        if group.rank == 1:
            assert dropped.wait(20)
        rows = torch.full((4, 8), 5.0)
        of_rows = weakref.ref(rows)
        received = exchange.dispatch(rows, torch.from_numpy(to_the_other(group)), stream=stream)
        del rows
        gc.collect()
        if group.rank == 0:
            held = of_rows() is not None
            dropped.set()
        out = exchange.combine(received, received.rows, stream=stream)
        stream.synchronize()
        return held, of_rows() is None, out.unique().tolist()

    assert crossdock_ranks(2)(job) == [(True, True, [5.0]), (None, True, [5.0])]


def test_an_exchange_may_be_dropped_while_its_calls_are_queued(crossdock_ranks):
    """Rank 0's calls cannot end before rank 1's begin, which is after rank 0 has let go of exchange and group."""
    dropped = threading.Event()

    def layer(exchange, rank, stream, out):
        if rank == 1:
            assert dropped.wait(20)
        rows = np.full((4, 8), 5 + rank, np.float32)
        received = exchange.dispatch(rows, np.full((4, 1), 1 - rank), stream=stream)
        exchange.combine(received, received.rows, out=out, stream=stream)
        return weakref.ref(exchange)

    def job(group):
        stream, out = crossdock.CpuStream(), np.zeros((4, 8), np.float32)
        rank, exchange = group.rank, layer(group.exchange(CONFIG), group.rank, stream, out)
        del group
        gc.collect()
        if rank == 0:
            dropped.set()
        stream.synchronize()
        return exchange() is None, np.unique(out).tolist()

    assert crossdock_ranks(2)(job) == [(True, [5.0]), (True, [6.0])]


def test_a_graph_keeps_its_arrays(crossdock_ranks):
    def job(group):
        exchange, stream, out = group.exchange(CONFIG), crossdock.CpuStream(), torch.zeros(4, 8)
        stream.begin_capture()
        received = exchange.dispatch(torch.full((4, 8), 5.0), torch.full((4, 1), 1 - group.rank), stream=stream)
        exchange.combine(received, received.rows, out=out, stream=stream)
        graph = stream.end_capture()
        del received
        gc.collect()
        junk = [torch.full((4, 8), -1.0) for _ in range(50)]
        stream.replay(graph)
        stream.synchronize()
        return out.unique().tolist(), len(junk)

    assert crossdock_ranks(2)(job) == [([5.0], 50)] * 2


def test_num_rows_waits_for_the_stream(crossdock_ranks):
    def job(group):
        exchange, stream = group.exchange(CONFIG), crossdock.CpuStream()
        return exchange.dispatch(np.ones((3, 8), np.float32), to_the_other(group, 3), stream=stream).num_rows

    assert crossdock_ranks(2)(job) == [3, 3]


def test_an_error_of_an_enqueued_call_is_polled(crossdock_ranks):
    def job(group):
        exchange, stream = group.exchange(CONFIG), crossdock.CpuStream()
        exchange.dispatch(np.ones((1, 8), np.float32), np.array([[7]]), stream=stream)
        stream.synchronize()
        report = exchange.poll()
        with pytest.raises(crossdock.UsageError, match=r"1 expert ids outside \[-1, 2\)"):
            exchange.dispatch()
        return report.code, report.fatal

    assert crossdock_ranks(2)(job) == [("usage", False)] * 2


def test_capture_is_checked():
    stream = crossdock.CpuStream()
    with pytest.raises(crossdock.StateError, match="not capturing"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(crossdock.StateError, match="capturing already"):
        stream.begin_capture()
    assert stream.capturing and stream.end_capture().num_calls == 0 and not stream.capturing


def test_trace_names_phases(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG.replace(trace_events=64))
        received = exchange.dispatch(np.ones((4, 8), np.float32), to_the_other(group))
        exchange.combine(received, received.rows)
        return {(e.operation, e.phase, e.peer) for e in exchange.trace()}

    for seen in crossdock_ranks(2)(job):
        assert {("dispatch", "move", -1), ("combine", "reduce", -1), ("dispatch", "wait_counts", 1)} <= seen


def test_the_last_launch_says_who_decided(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG.replace(splits_per_row=2))
        received = exchange.dispatch(np.ones((4, 8), np.float32), to_the_other(group))
        by_config = exchange.last_launch
        exchange.combine(received, received.rows, num_sms=1)
        return by_config, exchange.last_launch

    for dispatch, combine in crossdock_ranks(2)(job):
        assert dispatch == crossdock.LaunchInfo(num_blocks=1, num_warps=1, splits_per_row=2, tuned_by="config", num_waiting_blocks=1)
        assert combine.tuned_by == "call"


def test_a_call_may_choose_its_geometry(crossdock_ranks):
    def job(group):
        exchange = group.exchange(CONFIG.replace(fused=True))
        launches = []
        for splits_per_row in (1, 2):
            received = exchange.dispatch(
                np.ones((4, 8), np.float32), to_the_other(group), num_blocks=1, num_warps=1, splits_per_row=splits_per_row
            )
            launches.append(exchange.last_launch)
            exchange.combine(received, received.rows, num_blocks=1, splits_per_row=splits_per_row)
            launches.append(exchange.last_launch)
            exchange.combine_fused(exchange.dispatch(), splits_per_row=splits_per_row)
            launches.append(exchange.last_launch)
            with pytest.raises(crossdock.UsageError, match="num_warps = -1; must be 0"):
                exchange.dispatch(num_warps=-1)
        return launches

    for launches in crossdock_ranks(2)(job):
        assert {launch.tuned_by for launch in launches} == {"call"}
        assert [launch.splits_per_row for launch in launches[::3]] == [1, 2] and launches[5].splits_per_row == 2
