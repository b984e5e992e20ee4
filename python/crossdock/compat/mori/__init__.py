# SPDX-License-Identifier: Apache-2.0
"""The interface of MORI-EP within one host (ROCm/mori, `mori.ops` version 1 and `mori.shmem`), served by Crossdock.

    import crossdock.compat.mori as mori

For programs that cannot be edited, `python -m crossdock.compat.mori PROGRAM` runs one that imports mori, in spawned workers too.
docs/from-mori.md has the table of what is alike, what differs and what raises."""

import os
import sys

from crossdock import __version__
from crossdock.compat.mori import ops, shmem

__all__ = ["__version__", "alias_folder", "install", "ops", "shmem"]

_ABSENT = {
    "cpp": "MORI's C++ module",
    "jax": "its JAX interface",
    "io": "its storage",
    "ir": "its device library",
    "ccl": "its collectives",
    "cco": "its communicator of version 2",
    "kernel_profiler": "its profiler; use Config(trace_events=...) and Exchange.trace()",
}


def __getattr__(name):
    raise AttributeError(f"mori.{name}: Crossdock does not have {_ABSENT.get(name, 'it')}; it serves mori.ops and mori.shmem")


def alias_folder():
    """A folder for PYTHONPATH in which a module `mori` is this one: for processes that a program starts itself."""
    return os.path.join(os.path.dirname(__file__), "alias")


def install():
    """Makes `import mori` find this module: for programs that cannot be edited. ImportError where MORI itself was imported."""
    own = sys.modules[__name__]
    if sys.modules.get("mori", own) is not own:
        raise ImportError("crossdock.compat.mori.install: another `mori` was imported before")
    sys.modules.update({"mori": own, "mori.ops": ops, "mori.shmem": shmem, "mori.ops.dispatch_combine": ops})
