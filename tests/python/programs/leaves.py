# SPDX-License-Identifier: Apache-2.0
"""Rank 0 of two makes an exchange; then rank 0 leaves, in the way that the argument names, while rank 1 does nothing."""

import gc
import sys

import numpy as np

import crossdock

CONFIG = crossdock.Config(hidden=4, num_experts=2, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")
groups = crossdock.Group.threads(2, backend="cpu", deadline=3600)
exchanges = crossdock._group.run_together(2, lambda r: groups[r].exchange(CONFIG))
how = sys.argv[1]
if how == "stream":  # a call that waits for rank 1 sits on the queue
    stream = crossdock.CpuStream()
    received = exchanges[0].dispatch(np.ones((1, 4), np.float32), np.array([[1]]), stream=stream)
    del received, stream
if how == "collect":
    del exchanges, groups
    gc.collect()
print("left", flush=True)
if how == "exception":
    raise RuntimeError("on the way out")
