# SPDX-License-Identifier: Apache-2.0
"""How ranks come together: threads, torch's process groups, stores, any all-gather, or a name."""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from crossdock import _core
from crossdock._config import check_config


class Group(_core.GroupBase):
    """Membership of one rank. `with group:` closes it; an exception that leaves the block aborts it first, so that no other rank waits.
    Closing, collecting and the interpreter's exit are local: no wait, no collective.

    Options of every way to join: `backend`, a name of crossdock.BACKENDS; `device`, an ordinal as the driver counts (-1: the current
    one); `deadline`, the longest wait for a peer in seconds (None: CROSSDOCK_DEADLINE_MS, by default 30 s; 0: no limit);
    `max_concurrent_calls`, calls of this rank that may be under way at once on different streams; `reserved_sms`, multiprocessors that
    waiting kernels leave to others, such as NCCL (None: 32, at most a quarter). The last two are equal on all ranks."""

    def __init__(
        self,
        rank: int,
        num_ranks: int,
        meeting: object,
        *,
        backend: str = "automatic",
        device: int = -1,
        deadline: float | None = None,
        max_concurrent_calls: int = 2,
        reserved_sms: int | None = None,
    ):
        super().__init__(rank, num_ranks, meeting, backend, device, deadline, max_concurrent_calls, reserved_sms)
        self._exchanges = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    @classmethod
    def from_torch(cls, process_group: Any = None, *, device: int | None = None, **options: Any) -> Group:
        """Joins along a torch.distributed process group, gloo or NCCL, by default the world. Collective. torch's group is used while
        groups and exchanges are created, never in dispatch or combine."""
        import torch
        import torch.distributed as dist

        rank, num_ranks = dist.get_rank(process_group), dist.get_world_size(process_group)
        if device is None:
            device = torch.cuda.current_device() if torch.cuda.is_available() else -1
        return cls(rank, num_ranks, _torch_all_gather(process_group, num_ranks), device=device, **options)

    @classmethod
    def from_store(cls, store: Any, rank: int, num_ranks: int, *, prefix: str = "crossdock", **options: Any) -> Group:
        """Joins along a key-value store with set(key, bytes) and a get(key) that waits: torch's TCPStore, FileStore, HashStore. `prefix`
        must be another one for each group that is formed on the same store."""
        rounds = itertools.count()

        def all_gather(mine):
            number = next(rounds)
            store.set(f"{prefix}/{number}/{rank}", mine)
            return [bytes(store.get(f"{prefix}/{number}/{r}")) for r in range(num_ranks)]

        return cls(rank, num_ranks, all_gather, **options)

    @classmethod
    def from_callback(cls, rank: int, num_ranks: int, all_gather: Callable[[bytes], Sequence[bytes]], **options: Any) -> Group:
        """Joins along the caller's all-gather: a callable that takes this rank's bytes and returns the bytes of all ranks, in rank order
        (MPI: comm.allgather). It is kept for the creation of exchanges."""
        return cls(rank, num_ranks, all_gather, **options)

    @classmethod
    def from_name(cls, name: str, rank: int, num_ranks: int, **options: Any) -> Group:
        """Joins processes of one host and user that share nothing but `name`, unlike any other job's: take a random one."""
        return cls(rank, num_ranks, str(name), **options)

    @classmethod
    def threads(cls, num_ranks: int, *, devices: Sequence[int] | None = None, **options: Any) -> list[Group]:
        """All ranks of a group, for threads of this process: a list; give each thread its own. On GPUs rank r takes devices[r], by
        default device r. Creating an exchange is collective: do it in the threads."""
        team = _core.ThreadTeam(num_ranks)
        devices = devices or range(num_ranks)
        return run_together(num_ranks, lambda r: cls(r, num_ranks, team, device=devices[r], **options))

    def exchange(self, config: _core.Config, *, debug: bool = False) -> _core.Exchange:
        """The exchange of `config`: the same object for equal configs while anyone holds it. Collective where it is new."""
        check_config("Group.exchange", "config", config)
        key = (config, debug)
        with self._lock:
            found = self._exchanges.get(key)
            if found is None:
                found = self._exchanges[key] = _core.Exchange(self, config, debug)
            return found

    def __enter__(self):
        return self

    def __exit__(self, kind, failure, _):
        if kind is not None and not self.closed:
            self._give_up(failure)
        self.close()

    def _give_up(self, failure):
        """Aborts the group with the reason why this rank will not call again."""
        with contextlib.suppress(_core.Error):  # forked, or ended already: the failure itself is on its way
            self.abort(f"{type(failure).__name__}: {failure}"[:200])

    def __repr__(self):
        return f"Group(rank={self.rank}, num_ranks={self.num_ranks}, backend={self.backend!r}{', closed' if self.closed else ''})"


def _torch_all_gather(process_group, num_ranks):
    import torch
    import torch.distributed as dist

    members = dist.group.WORLD if process_group is None else process_group
    device = "cpu" if any(device.type == "cpu" for device in members._device_types) else "cuda"  # NCCL alone gathers on GPUs

    def all_gather(mine):
        own = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
        every = [torch.empty_like(own) for _ in range(num_ranks)]
        dist.all_gather(every, own, group=process_group)
        return [bytes(one.cpu().numpy()) for one in every]

    return all_gather


def run_together(num_ranks: int, function: Callable[[int], Any]) -> list[Any]:
    """[function(0), ..., function(num_ranks - 1)], each in a thread of its own.

    The first failure that is no echo of another's is raised."""
    results, failures = [None] * num_ranks, [None] * num_ranks

    def run(rank):
        try:
            results[rank] = function(rank)
        except BaseException as failure:  # carried to the caller's thread
            failures[rank] = failure

    threads = [threading.Thread(target=run, args=(r,), name=f"rank {r}", daemon=True) for r in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raised = [f for f in failures if f is not None]
    if raised:
        raise next((f for f in raised if not isinstance(f, (_core.AbortedError, _core.PeerLostError))), raised[0])
    return results


def run_ranks(num_ranks: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
    """Runs function(group, *arguments) on `num_ranks` ranks, threads of this process, and returns the list of results. A rank that
    raises aborts the group, so that no other waits for it; its exception is raised here."""
    groups = Group.threads(num_ranks, **options)

    def run(rank):
        group = groups[rank]
        try:
            return function(group, *arguments)
        except BaseException as failure:
            if not group.closed:
                group._give_up(failure)
            raise

    try:
        return run_together(num_ranks, run)
    finally:
        for group in groups:
            group.close()
