# SPDX-License-Identifier: Apache-2.0
"""A rank for each process of torchrun, on a GPU each where there are any: torchrun --nproc-per-node=2 examples/python/torchrun_hello.py"""

import torch
import torch.distributed as dist

import crossdock

backend = "cuda" if torch.cuda.is_available() else "cpu"
if backend == "cuda":
    torch.cuda.set_device(dist.get_node_local_rank() % torch.cuda.device_count())
dist.init_process_group("gloo")

with crossdock.Group.from_torch(backend=backend) as group:
    exchange = group.exchange(crossdock.Config(hidden=512, num_experts=8, top_k=2, max_tokens_per_rank=64))
    x = torch.ones(10, 512, dtype=torch.bfloat16, device=backend)  # 10 tokens of this rank
    topk_ids = torch.tensor([[0, 7]] * 10, device=backend)  # the first and the last expert of the group
    received = exchange.dispatch(x, topk_ids, torch.full((10, 2), 0.5, device=backend))
    print(f"rank {group.rank} received {received.num_rows} rows")
    outputs = received.rows * (group.rank + 1)  # your experts
    out = exchange.combine(received, outputs)  # with 2 ranks: 1 * x + 2 * x
    print(f"rank {group.rank} got back {out[0, 0].item()}")
    dist.barrier()
dist.destroy_process_group()
