# SPDX-License-Identifier: Apache-2.0
"""A program as users write it, for mypy --strict; test_package.py checks it."""

import numpy as np

import crossdock

CONFIG = crossdock.Config(hidden=4, num_experts=4, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")


def rank_job(group: crossdock.Group) -> int:
    exchange: crossdock.Exchange = group.exchange(CONFIG)
    try:
        received = exchange.dispatch(np.ones((1, 4), np.float32), np.array([[group.rank]]), num_warps=1)
    except (crossdock.UsageError, crossdock.PeerLostError) as error:
        print(error.code)
        raise
    rows: int = received.counts.host()["num_rows"]
    out = exchange.combine(received, received.rows * 2, out=np.empty((1, 4), np.float32))
    return rows + int(out[0, 0]) + exchange.group.num_ranks


if __name__ == "__main__":
    support: crossdock.Support = crossdock.supports(CONFIG, 2)
    print(support.reason, crossdock.memory(CONFIG, 2).total, crossdock.run_ranks(2, rank_job, backend="cpu"))
