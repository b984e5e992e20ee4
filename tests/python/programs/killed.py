# SPDX-License-Identifier: Apache-2.0
"""One of two processes is killed between two calls; the other gets an exception that names it."""

import multiprocessing
import os
import signal
import uuid

import crossdock

CONFIG = crossdock.Config(hidden=4, num_experts=2, top_k=1, max_tokens_per_rank=1, dispatch_dtype="f32", combine_dtype="f32")


def worker(rank, name):
    group = crossdock.Group.from_name(name, rank, 2, backend="cpu", deadline=2)
    exchange = group.exchange(CONFIG)
    exchange.dispatch()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        while True:
            exchange.dispatch()
    except crossdock.PeerLostError as error:
        print("PeerLostError:", error, flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    name = uuid.uuid4().hex
    workers = [context.Process(target=worker, args=(rank, name)) for rank in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, -signal.SIGKILL]
