# SPDX-License-Identifier: Apache-2.0
"""Crossdock: dispatch and combine of mixture-of-experts tokens between the GPUs, or the CPU ranks, of one host.

Importing needs no GPU, driver, torch or network, and creates no context. See help(crossdock.Exchange) and docs/python.md."""

from crossdock._config import Bill, Support, capabilities, config_from, fit, memory, received_shape, supports, token_capacity, union
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
    "Bill",
    "CapacityError",
    "Config",
    "ConfigError",
    "Counts",
    "CpuGraph",
    "CpuStream",
    "Error",
    "Exchange",
    "Group",
    "PeerLostError",
    "Plan",
    "Received",
    "StateError",
    "Support",
    "ThreadTeam",
    "TopologyError",
    "UsageError",
    "__version__",
    "backends",
    "capabilities",
    "cmake_dir",
    "config_from",
    "fit",
    "include_dir",
    "library_dir",
    "memory",
    "received_shape",
    "run_ranks",
    "supports",
    "token_capacity",
    "union",
]
