# SPDX-License-Identifier: Apache-2.0
"""Crossdock: dispatch and combine of mixture-of-experts tokens between the GPUs, or the CPU ranks, of one host.

Importing needs no GPU, driver, torch or network, and creates no context. See help(crossdock.Exchange) and docs/python.md."""
from crossdock import _core
from crossdock._config import Bill, Support, capabilities, config_from, fit, memory, received_shape, supports, token_capacity, union
from crossdock._core import (BACKENDS, DTYPES, LAYOUTS, MAX_RANKS, MAX_TOPK, OVERFLOWS, STATUSES, WIRES, Config, CpuGraph, CpuStream,
                             Exchange, Plan, Received, Team, __version__, backends)
from crossdock._group import Group, run_ranks
from crossdock._paths import cmake_dir, include_dir, library_dir

_errors = {name: value for name, value in vars(_core).items() if isinstance(value, type) and issubclass(value, Exception)}
globals().update(_errors)

__all__ = ["BACKENDS", "Bill", "Config", "CpuGraph", "CpuStream", "DTYPES", "Exchange", "Group", "LAYOUTS", "MAX_RANKS", "MAX_TOPK",
           "OVERFLOWS", "Plan", "Received", "STATUSES", "Support", "Team", "WIRES", "__version__", "backends", "capabilities", "cmake_dir",
           "config_from", "fit", "include_dir", "library_dir", "memory", "received_shape", "run_ranks", "supports", "token_capacity", "union",
           *(name for name in _errors if name != "SystemError")]  # which would hide Python's own in `from crossdock import *`
