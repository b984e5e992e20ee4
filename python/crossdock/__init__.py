# SPDX-License-Identifier: Apache-2.0
"""Crossdock: dispatch and combine of mixture-of-experts tokens between the GPUs, or the CPU ranks, of one host.

Importing needs no GPU, driver, torch or network, and creates no context. See help(crossdock.Exchange) and docs/python.md."""

import typing as _typing

from crossdock import _core
from crossdock._config import capabilities, config_from
from crossdock._core import (
    BACKENDS,
    COMBINE_QUANTS,
    DTYPES,
    LAYOUTS,
    MAX_RANKS,
    MAX_TOPK,
    OVERFLOWS,
    STATUSES,
    AbortedError,
    CapacityError,
    Config,
    ConfigError,
    CpuGraph,
    CpuStream,
    Error,
    Exchange,
    PeerLostError,
    Plan,
    Received,
    StateError,
    ThreadTeam,
    TopologyError,
    UsageError,
    __version__,
    backends,
)
from crossdock._core import SystemError as SystemError
from crossdock._counts import Counts
from crossdock._group import Group, run_ranks
from crossdock._paths import cmake_dir, include_dir, library_dir
from crossdock._results import LaunchInfo, MemoryUsage, Status, Support, TraceEvent

for _kind in (Error, *Error.__subclasses__()):
    _kind.__module__ = "crossdock"
del _kind

# Without SystemError, which would hide Python's own in `from crossdock import *`.
__all__ = [
    "BACKENDS",
    "COMBINE_QUANTS",
    "DTYPES",
    "LAYOUTS",
    "MAX_RANKS",
    "MAX_TOPK",
    "OVERFLOWS",
    "STATUSES",
    "AbortedError",
    "CapacityError",
    "Config",
    "ConfigError",
    "Counts",
    "CpuGraph",
    "CpuStream",
    "Error",
    "Exchange",
    "Group",
    "LaunchInfo",
    "MemoryUsage",
    "PeerLostError",
    "Plan",
    "Received",
    "StateError",
    "Status",
    "Support",
    "ThreadTeam",
    "TopologyError",
    "TraceEvent",
    "UsageError",
    "__version__",
    "backends",
    "capabilities",
    "cmake_dir",
    "config_from",
    "include_dir",
    "library_dir",
    "run_ranks",
]

if not _typing.TYPE_CHECKING:  # a type checker would believe in every attribute

    def __getattr__(name):
        _core._refuse_attribute(__name__, name)
