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
    launch: crossdock.LaunchInfo = exchange.last_launch
    blocks: int = launch.num_blocks
    code: str = exchange.poll().code
    names: list[str] = [event.phase for event in exchange.trace()]
    out = exchange.combine(received, received.rows * 2, out=np.empty((1, 4), np.float32))
    return rows + int(out[0, 0]) + exchange.group.num_ranks + blocks + len(code) + len(names)


if __name__ == "__main__":
    both: crossdock.Config = CONFIG.union(CONFIG.fit(2, 1 << 20))
    shape: tuple[int, ...] = both.received_shape(2, 0)
    support: crossdock.Support = CONFIG.supports(2)
    print(support.reason, shape, both.token_capacity(2), CONFIG.memory(2).total, crossdock.run_ranks(2, rank_job, backend="cpu"))
