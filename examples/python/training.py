# SPDX-License-Identifier: Apache-2.0
"""An MoE layer that learns: experts on different ranks, gradients through dispatch and combine, the routing weights' too.

python examples/python/training.py                                      # 2 ranks, threads on the CPU
torchrun --nproc-per-node 2 examples/python/training.py                 # a process per GPU"""

import torch

import common
import crossdock
import crossdock.torch

HIDDEN, EXPERTS, TOP_K, TOKENS, STEPS = 16, 4, 2, 32, 60


def rank_job(group, device):
    exchange = group.exchange(
        crossdock.Config(
            hidden=HIDDEN,
            num_experts=EXPERTS,
            top_k=TOP_K,
            max_tokens_per_rank=TOKENS,
            dispatch_dtype="f32",
            combine_dtype="f32",
            layout="expert_major",
            combine_topk_weights=True,
            max_kept_plans=2,
        )
    )
    draw = torch.Generator().manual_seed(group.rank)

    def make(*shape):
        return (torch.randn(*shape, generator=draw) / 4).to(device).requires_grad_()

    local = EXPERTS // group.num_ranks
    router, up, down = make(HIDDEN, EXPERTS), make(local, HIDDEN, 32), make(local, 32, HIDDEN)
    optimizer = torch.optim.Adam([router, up, down], lr=0.02)
    x = torch.randn(TOKENS, HIDDEN, generator=draw).to(device)
    wanted = x.roll(1, 1) * 0.5

    losses = []
    for _ in range(STEPS):
        topk_weights, topk_ids = (x @ router).softmax(-1).topk(TOP_K)
        dispatched = crossdock.torch.dispatch(exchange, x, topk_ids, topk_weights)
        out = crossdock.torch.combine(dispatched, torch.relu(dispatched.rows @ up) @ down)
        loss = (out - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()  # every rank, in the same order: it dispatches and combines too
        optimizer.step()
        losses.append(loss.item())
    assert router.grad.abs().sum() > 0
    return losses


if __name__ == "__main__":
    for losses in common.run(rank_job):
        assert losses[-1] < losses[0] / 2, losses
        print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {STEPS} steps")
