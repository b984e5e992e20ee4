# SPDX-License-Identifier: Apache-2.0
"""Steps that a rank repeats, timed alone and beside others that run all the time: for crossdock.bench_overlap."""

import concurrent.futures
import math
import threading
import time

import torch
import torch.distributed as dist

REPLAYS = 20  # in a measurement, about: after some hundreds in a stream the thread that launches them has to wait
MARGIN, TRIES = 3, 10  # what runs beside is to last so many times as long, and twice that each time it ends too soon


def gathered(value=None):
    """Every rank's value; the ranks meet here, on the CPU."""
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, value)
    return every


class Runner:
    """Repeats a step, `batch` times in a replay, which alone takes `replay_s` on the slowest rank. Counts follow from times of all ranks:
    these make calls equally often, or wait in vain."""

    def load(self, step, seconds):
        """What is repeated from now on; collective, as are the two below. A time is to take `seconds`."""
        self.record(step, 1)
        step_s = max(gathered(min(self.took(1) for _ in range(3))))
        self.record(step, max(1, round(seconds / REPLAYS / step_s)))
        self.took(1)  # a first replay takes longer
        self.replay_s = self.batch * step_s

    def took(self, count):
        """Seconds of `count` replays."""
        self.start(count)
        return self.finish()

    def alone(self, seconds):
        """Seconds of a step, by rank."""
        count = max(1, round(seconds / self.replay_s))
        gathered()
        took = gathered(self.took(count))
        self.replay_s = max(took) / count
        return [one / count / self.batch for one in took]

    def beside(self, other, seconds):
        """The same while `other` runs all the time; None if it always ended too soon."""
        replay_s, other_s = self.replay_s, 0
        for _ in range(TRIES):
            count = max(1, round(seconds / replay_s))
            other_s = max(2 * other_s, MARGIN * count * replay_s)
            gathered()
            other.start(math.ceil(other_s / other.replay_s))
            gathered()
            self.start(count, other)
            took, covered = zip(*gathered((self.finish(), other.is_running())), strict=True)
            other.finish()
            if all(covered):
                return [one / count / self.batch for one in took]
            replay_s = max(replay_s, max(took) / count)
        return None


class StreamRunner(Runner):
    """A graph on a stream of a GPU; the stream with the lowest `priority` number goes first to an SM that becomes free."""

    def __init__(self, priority=0):
        self.stream = torch.cuda.Stream(priority=priority)
        self.first, self.last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def record(self, step, batch):
        self.batch, self.graph = batch, torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            step()  # what a first one makes is not for a graph
        with torch.cuda.graph(self.graph, stream=self.stream):
            for _ in range(batch):
                step()

    def start(self, count, other=None):
        self.stream.wait_stream(torch.cuda.current_stream())
        if other:
            self.stream.wait_event(other.first)
        self.first.record(self.stream)
        with torch.cuda.stream(self.stream):
            for _ in range(count):
                self.graph.replay()
        self.last.record(self.stream)

    def is_running(self):
        return not self.last.query()

    def finish(self):
        self.last.synchronize()
        return self.first.elapsed_time(self.last) / 1e3


class ThreadRunner(Runner):
    """A loop in a thread, on one core; steps release the interpreter's lock."""

    def __init__(self):
        self.thread = concurrent.futures.ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.first = threading.Event()

    def record(self, step, batch):
        self.step, self.batch = step, batch

    def start(self, count, other=None):
        if other:
            other.first.wait()
        self.first.clear()
        self.running = self.thread.submit(self.repeat, count * self.batch)

    def repeat(self, steps):
        self.first.set()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - began

    def is_running(self):
        return not self.running.done()

    def finish(self):
        return self.running.result()
