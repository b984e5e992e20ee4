# SPDX-License-Identifier: Apache-2.0
"""Ranks for the examples: processes under torchrun, with a GPU each if there are enough; threads on the CPU otherwise."""

import os

import torch
import torch.distributed as dist

import crossdock


def run(rank_job, num_ranks=2):
    """rank_job(group, device) on every rank; the results of the ranks that this process runs."""
    if "RANK" not in os.environ:
        return crossdock.run_ranks(num_ranks, lambda group: rank_job(group, torch.device("cpu")), backend="cpu")
    on_gpu = torch.cuda.is_available()
    num_gpus = torch.cuda.device_count()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % num_gpus) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    one_each = on_gpu and int(os.environ["LOCAL_WORLD_SIZE"]) <= num_gpus  # NCCL wants that
    dist.init_process_group("cpu:gloo,cuda:nccl" if one_each else "gloo")
    with crossdock.Group.from_torch(backend="cuda" if on_gpu else "cpu") as group:
        results = [rank_job(group, device)]
        dist.barrier()
    dist.destroy_process_group()
    return results
