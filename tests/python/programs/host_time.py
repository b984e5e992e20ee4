# SPDX-License-Identifier: Apache-2.0
"""Host time of one dispatch and one combine from Python, torch tensors already there: on the CPU backend's stream, so that only
checks and the enqueue are timed. One rank; the queue is emptied outside the clock. On GPUs tests/python/gpus measures the same."""

import statistics
import time

import torch

import crossdock

CONFIG = crossdock.Config(hidden=7168, num_experts=256, top_k=8, max_tokens_per_rank=128)


def rank_job(group):
    exchange, stream = group.exchange(CONFIG), crossdock.CpuStream()
    rows, out = torch.zeros(1, 7168, dtype=torch.bfloat16), torch.empty(1, 7168, dtype=torch.bfloat16)
    ids, weights, times = torch.zeros(1, 8, dtype=torch.int32), torch.ones(1, 8), []
    for _ in range(2000):
        began = time.perf_counter_ns()
        received = exchange.dispatch(rows, ids, weights, stream=stream)
        dispatched = time.perf_counter_ns()
        outputs = received.rows
        began_combine = time.perf_counter_ns()
        exchange.combine(received, outputs, out=out, stream=stream)
        times.append((dispatched - began, time.perf_counter_ns() - began_combine, began_combine - dispatched))
        stream.synchronize()
    return [sorted(column) for column in zip(*times[100:], strict=True)]


if __name__ == "__main__":
    for name, times in zip(("dispatch", "combine", "Received.rows"), crossdock.run_ranks(1, rank_job, backend="cpu")[0], strict=True):
        print(f"{name}: median {statistics.median(times) / 1e3:.1f} us, 9 of 10 below {times[len(times) * 9 // 10] / 1e3:.1f} us")
