# SPDX-License-Identifier: Apache-2.0
"""A child that was forked after a group was formed is refused, ends without waiting, and leaves the parent's group whole."""

import os

import numpy as np

import crossdock

group = crossdock.Group.threads(1, backend="cpu")[0]
exchange = group.exchange(
    crossdock.Config(hidden=4, num_experts=1, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")
)
stream = crossdock.CpuStream()
if os.fork() == 0:
    for use in (exchange.dispatch, group.poll, stream.synchronize, lambda: group.exchange(exchange.config.replace(top_k=2))):
        try:
            use()
            os._exit(3)
        except crossdock.StateError as error:
            print(error, flush=True)
    del exchange, group, stream  # local, and nothing of the parent's
    raise SystemExit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
received = exchange.dispatch(np.ones((1, 4), np.float32), np.array([[0]]), stream=stream)
stream.synchronize()
assert received.num_rows == 1
