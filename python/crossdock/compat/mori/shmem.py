# SPDX-License-Identifier: Apache-2.0
"""The calls of mori.shmem with which a program joins: they form the group that operators use."""

import os
import threading

import crossdock

MORI_SHMEM_INIT_WITH_UNIQUEID = 1
_UNIQUE_ID_BYTES = 128


class _Joined:
    """The group of this process, or, where ranks are threads, of this thread."""

    def __init__(self):
        self.of_process, self.of_thread = None, threading.local()

    def group(self):
        group = getattr(self.of_thread, "group", None) or self.of_process
        if group is None:
            raise crossdock.StateError(
                "mori.shmem: not initialised; call shmem_torch_process_group_init, shmem_init_attr or shmem_init_group"
            )
        return group


_joined = _Joined()


def shmem_torch_process_group_init(group_name):
    """Joins along the process group registered under `group_name`; "default" that nobody registered is the world. 0 on success."""
    import torch.distributed as dist

    try:
        process_group = dist.distributed_c10d._resolve_process_group(group_name)
    except (RuntimeError, KeyError, AttributeError) as error:
        if group_name != "default":
            raise crossdock.UsageError(
                f"shmem_torch_process_group_init: no process group is registered as {group_name!r}; register it with "
                'torch._C._distributed_c10d._register_process_group, or pass "default" for the world'
            ) from error
        process_group = None
    _joined.of_process = crossdock.Group.from_torch(process_group)
    return 0


def shmem_get_unique_id():
    """128 random bytes, to be brought to all ranks."""
    return os.urandom(_UNIQUE_ID_BYTES)


def shmem_init_attr(flags, rank, nranks, unique_id):
    """Joins processes of this host that share nothing but `unique_id`. 0 on success."""
    if flags != MORI_SHMEM_INIT_WITH_UNIQUEID:
        raise crossdock.UsageError(f"shmem_init_attr: flags = {flags}; must be MORI_SHMEM_INIT_WITH_UNIQUEID")
    _joined.of_process = crossdock.Group.from_name(bytes(unique_id)[:32].hex(), rank, nranks)
    return 0


def shmem_init_group(group):
    """Uses a crossdock.Group in this thread; an addition, for ranks that are threads."""
    _joined.of_thread.group = group
    return 0


def shmem_finalize():
    """Leaves the group. Local. 0."""
    for holder, name in (_joined.of_thread, "group"), (_joined, "of_process"):
        group = getattr(holder, name, None)
        if group is not None:
            group.close()
            setattr(holder, name, None)
    return 0


def shmem_mype():
    """Rank of this process, or thread, in the group."""
    return _joined.group().rank


def shmem_npes():
    """Ranks of the group."""
    return _joined.group().num_ranks


def _barrier_exchange(group):
    exchange = group.exchange(
        crossdock.Config(hidden=4, num_experts=group.num_ranks, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")
    )
    group.barrier_exchange = exchange  # kept, so that the next barrier need not make one
    return exchange


def shmem_barrier_all():
    """Waits for all ranks, and for the current stream."""
    return _barrier_exchange(_joined.group()).dispatch().num_rows


def shmem_barrier_on_stream(stream):
    """Enqueues a barrier: what comes after it on `stream` runs when all ranks' streams have come here. Waits for nothing itself."""
    _barrier_exchange(_joined.group()).dispatch(stream=stream)


def _not_served(name, reason):
    def call(*_, **__):
        raise NotImplementedError(f"mori.shmem.{name}: {reason}")

    call.__name__, call.__doc__ = name, f"Not served: {reason}."
    return call


_NO_HEAP = "Crossdock has no symmetric heap; an exchange owns its memory"
shmem_malloc = _not_served("shmem_malloc", _NO_HEAP)
shmem_malloc_align = _not_served("shmem_malloc_align", _NO_HEAP)
shmem_free = _not_served("shmem_free", _NO_HEAP)
shmem_ptr_p2p = _not_served("shmem_ptr_p2p", _NO_HEAP)
shmem_buffer_register = _not_served("shmem_buffer_register", _NO_HEAP)
