# SPDX-License-Identifier: Apache-2.0
"""Every rank is a process of torchrun and runs the same tests in the same order."""

import os
import pathlib
import sys

import pytest
import torch
import torch.distributed as dist

import crossdock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # oracle, test_properties


@pytest.fixture(scope="session")
def device():
    if os.environ.get("CROSSDOCK_TEST_DEVICE") == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@pytest.fixture(scope="session")
def sharers(device):
    """Ranks on a device, at most: NCCL wants one."""
    return 1 if device.type == "cpu" else -(-int(os.environ["LOCAL_WORLD_SIZE"]) // torch.cuda.device_count())


@pytest.fixture(scope="session")
def group(device, sharers):
    on_gpu = device.type == "cuda"
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu and sharers == 1 else "gloo")
    with crossdock.Group.from_torch(backend="cuda" if on_gpu else "cpu", deadline=30) as group:
        yield group
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def together(group):
    """Ranks begin each test together."""
    dist.barrier()


@pytest.fixture
def gathered(group):
    """gathered(x): the list of every rank's x."""

    def gather(mine):
        every = [None] * group.num_ranks
        dist.all_gather_object(every, mine)
        return every

    return gather
