# SPDX-License-Identifier: Apache-2.0
"""dispatch and combine captured once and replayed with other numbers of tokens: T is a word in device memory.

torchrun --nproc-per-node 2 examples/python/cuda_graph.py               # a CUDA graph
python examples/python/cuda_graph.py                                    # its stand-in of the CPU backend"""

import torch

import common
import crossdock

HIDDEN, EXPERTS, TOP_K, TOKENS = 64, 4, 2, 16


class CudaGraph:
    """Records with torch, on the current stream."""

    def __init__(self, step):
        step()  # once before: nothing is allocated during the capture
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.kept = step()

    def replay(self):
        self.graph.replay()
        torch.cuda.synchronize()


class CpuGraph:
    def __init__(self, step):
        self.stream = crossdock.CpuStream()
        with self.stream:
            self.stream.begin_capture()
            self.kept = step()
            self.graph = self.stream.end_capture()

    def replay(self):
        self.stream.replay(self.graph)
        self.stream.synchronize()


def rank_job(group, device):
    exchange = group.exchange(crossdock.Config(hidden=HIDDEN, num_experts=EXPERTS, top_k=TOP_K, max_tokens_per_rank=TOKENS))
    x = torch.ones(TOKENS, HIDDEN, dtype=torch.bfloat16, device=device)
    topk_ids = torch.tensor([[0, EXPERTS - 1]] * TOKENS, dtype=torch.int32, device=device)  # the first and the last rank
    tokens = torch.zeros(1, dtype=torch.int32, device=device)
    out = torch.zeros_like(x)

    def step():
        received = exchange.dispatch(x, topk_ids, num_tokens=tokens)
        counts = received.counts
        exchange.combine(received, received.rows, out=out)
        return counts

    graph = (CudaGraph if device.type == "cuda" else CpuGraph)(step)
    results = []
    for number in (3, 0, TOKENS):
        tokens.fill_(number)
        out.zero_()
        graph.replay()
        results.append((number, int((out[:, 0] == min(2, group.num_ranks)).sum())))
    return results


if __name__ == "__main__":
    for results in common.run(rank_job):
        assert all(number == home for number, home in results), results
        print("replayed with " + ", ".join(f"{number} tokens ({home} came home)" for number, home in results))
