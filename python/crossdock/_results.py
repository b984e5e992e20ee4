# SPDX-License-Identifier: Apache-2.0
"""Answers of the package: values by name, which the binding fills."""

from __future__ import annotations

from typing import NamedTuple


class Support(NamedTuple):
    """Whether a config can be served: true, or false with the reason."""

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


class MemoryUsage(dict[str, int]):
    """Bytes that one rank of one exchange takes, by region. All regions together are `total`, which is exactly what is allocated."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self["total"]


class Status(NamedTuple):
    """What poll() sees. Where `code` is "ok" the other members have no meaning.

    code            a name of crossdock.STATUSES
    edge            the wait that failed, on the rank that gave up first: a name of docs/protocol.md
    rank, peer      the rank that noticed, and the rank that is blamed; -1: none
    epoch_expected  what the wait looked for
    epoch_seen      what it saw last
    fatal           True: close the group; False: Exchange.clear_status() is enough
    text            what happened, for a person"""

    code: str
    edge: str
    rank: int
    peer: int
    epoch_expected: int
    epoch_seen: int
    fatal: bool
    text: str


class LaunchInfo(NamedTuple):
    """Geometry of a call: thread blocks, warps of a block and parts of a row; zeros before the first call.

    `tuned_by` is the first of "call", "config", "file" and "rule" that chose any of them. `num_waiting_blocks` are the most blocks of one
    kernel that cross the link and may all wait for peers; where it is less than `num_blocks`, kernels that do not wait move the rows."""

    num_blocks: int
    num_warps: int
    splits_per_row: int
    tuned_by: str
    num_waiting_blocks: int


class TraceEvent(NamedTuple):
    """One time stamp of a kernel (config.trace_events): a block began a phase, or saw the signal of a peer in it.

    time_ns     of the device's clock, monotonic, coarse
    epoch       number of the operation
    block       index of the thread block
    peer        the rank whose signal was seen; -1: the phase began
    buffer_set  the part of the exchange's memory that the operation used, from 0
    phase       a name of the table in docs/traces.md
    operation   "dispatch" or "combine" """

    time_ns: int
    epoch: int
    block: int
    peer: int
    buffer_set: int
    phase: str
    operation: str
