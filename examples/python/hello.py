# SPDX-License-Identifier: Apache-2.0
"""Two ranks on a laptop: one token goes to experts on both and comes home summed."""

import numpy as np

import crossdock

CONFIG = crossdock.Config(hidden=4, num_experts=4, top_k=2, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")


def rank_job(group):
    exchange = group.exchange(CONFIG)
    token = np.array([[1, 2, 3, 4]], np.float32)
    received = exchange.dispatch(token, np.array([[0, 2]]))  # expert 0 lives on rank 0, expert 2 on rank 1
    outputs = received.rows * (group.rank + 1)  # your experts
    return exchange.combine(received, outputs)


if __name__ == "__main__":
    print(crossdock.run_ranks(2, rank_job, backend="cpu")[0])
