# SPDX-License-Identifier: Apache-2.0
"""Under torchrun: a Crossdock group of the last two of three ranks."""

import pathlib
import sys

import torch
import torch.distributed as dist

import crossdock

dist.init_process_group("gloo")
some = dist.new_group([1, 2])
if dist.get_rank() in (1, 2):
    with crossdock.Group.from_torch(some, backend="cpu") as group:
        exchange = group.exchange(
            crossdock.Config(hidden=4, num_experts=2, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")
        )
        received = exchange.dispatch(torch.full((1, 4), float(dist.get_rank())), torch.tensor([[1 - group.rank]]))
        out = exchange.combine(received, received.rows)
        pathlib.Path(sys.argv[1], str(group.rank)).write_text(f"{group.rank + 1} of {group.num_ranks}: {out[0, 0].item()}")
dist.barrier()
dist.destroy_process_group()
