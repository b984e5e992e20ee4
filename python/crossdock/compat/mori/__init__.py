# SPDX-License-Identifier: Apache-2.0
"""The interface of MORI-EP within one host (ROCm/mori, `mori.ops` version 1 and `mori.shmem`), served by Crossdock.

    import crossdock.compat.mori as mori

docs/from-mori.md has the table of what is alike, what differs and what raises."""
import sys

from crossdock import __version__
from crossdock.compat.mori import ops, shmem

__all__ = ["install", "ops", "shmem", "__version__"]


def install():
    """Makes `import mori` find this module: for programs that cannot be edited. ImportError where MORI itself was imported."""
    own = sys.modules[__name__]
    if sys.modules.get("mori", own) is not own:
        raise ImportError("crossdock.compat.mori.install: another `mori` was imported before")
    ops.dispatch_combine = ops  # MORI's file of the same names
    sys.modules.update({"mori": own, "mori.ops": ops, "mori.shmem": shmem, "mori.ops.dispatch_combine": ops})
