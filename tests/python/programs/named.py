# SPDX-License-Identifier: Apache-2.0
"""Three processes meet by a name; each prints its rank and its token, home again."""

import multiprocessing
import os
import uuid

import numpy as np

import crossdock

CONFIG = crossdock.Config(hidden=4, num_experts=3, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")


def worker(rank, name):
    with crossdock.Group.from_name(name, rank, 3, backend="cpu") as group:
        exchange = group.exchange(CONFIG)
        received = exchange.dispatch(np.full((1, 4), rank, np.float32), np.array([[(rank + 1) % 3]]))
        os.write(1, f"{rank}:{exchange.combine(received, received.rows)[0, 0]}\n".encode())  # at once: three processes share the pipe


if __name__ == "__main__":
    context, name = multiprocessing.get_context("spawn"), uuid.uuid4().hex
    workers = [context.Process(target=worker, args=(rank, name)) for rank in range(3)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
