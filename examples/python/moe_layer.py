# SPDX-License-Identifier: Apache-2.0
"""An MoE layer for inference: router, dispatch, grouped matrix product, combine; bf16, and fp8 over the wire with one scale per 128
elements. Compared with the dense layer, which has all experts.

    python examples/python/moe_layer.py                                     # 2 ranks, threads on the CPU
    torchrun --nproc-per-node 4 examples/python/moe_layer.py                # a process per GPU"""

import torch

import common
import crossdock

HIDDEN, INNER, EXPERTS, TOP_K, TOKENS, BLOCK = 256, 64, 8, 2, 24, 128


def weights_of_all():
    draw = torch.Generator().manual_seed(0)

    def make(*shape):
        return torch.randn(*shape, generator=draw) / shape[-2] ** 0.5

    return make(HIDDEN, EXPERTS), make(EXPERTS, HIDDEN, INNER), make(EXPERTS, INNER, HIDDEN)


def quantise(rows):
    """fp8 with a float32 scale for each block of 128 elements."""
    blocks = rows.float().unflatten(1, (HIDDEN // BLOCK, BLOCK))
    scales = blocks.abs().amax(-1).clamp(min=1e-6) / 448
    return (blocks / scales.unsqueeze(-1)).flatten(1).to(torch.float8_e4m3fn), scales


def dequantise(rows, scales):
    return (rows.float().unflatten(-1, (HIDDEN // BLOCK, BLOCK)) * scales.unsqueeze(-1)).flatten(-2).bfloat16()


def layer(exchange, x, router, up, down):
    """`up` and `down` of this rank's experts: [local experts, ...]."""
    topk_weights, topk_ids = (x.float() @ router).softmax(-1).topk(TOP_K)
    if exchange.config.scale_bytes:
        quantised, scales = quantise(x)
        received = exchange.dispatch(quantised, topk_ids, topk_weights, scales)
        rows = dequantise(received.rows, received.scales)
    else:
        received = exchange.dispatch(x, topk_ids, topk_weights)
        rows = received.rows
    outputs = torch.relu(rows @ up) @ down  # [local experts, capacity, hidden]; rows beyond the counts are nobody's
    return exchange.combine(received, outputs)


def dense(x, router, up, down):
    weights, ids = (x.float() @ router).softmax(-1).topk(TOP_K)
    every = torch.relu(torch.einsum("th,ehi->eti", x, up)) @ down
    chosen = every.transpose(0, 1).gather(1, ids.unsqueeze(-1).expand(-1, -1, HIDDEN))
    return (chosen.float() * weights.unsqueeze(-1)).sum(1)


def rank_job(group, device):
    router, up, down = (w.to(device) for w in weights_of_all())
    up, down = up.bfloat16(), down.bfloat16()
    local = EXPERTS // group.num_ranks
    mine = slice(group.rank * local, group.rank * local + local)
    x = torch.randn(TOKENS - group.rank, HIDDEN, generator=torch.Generator().manual_seed(group.rank)).bfloat16().to(device)
    config = crossdock.Config(hidden=HIDDEN, num_experts=EXPERTS, top_k=TOP_K, max_tokens_per_rank=TOKENS, layout="expert_major")
    errors = {}
    for name, members in (("bf16", {}), ("fp8 dispatch", dict(dispatch_dtype="fp8_e4m3", scale_bytes=4 * HIDDEN // BLOCK))):
        out = layer(group.exchange(config.replace(**members)), x, router, up[mine], down[mine])
        wanted = dense(x, router, up, down)
        errors[name] = ((out.float() - wanted).norm() / wanted.norm()).item()
    return errors


if __name__ == "__main__":
    for errors in common.run(rank_job):
        for name, error in errors.items():
            assert error < (0.01 if name == "bf16" else 0.05), (name, error)
            print(f"{name}: relative error {error:.4f} against the dense layer")
