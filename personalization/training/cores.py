"""How many threads a step computes with, where other processes want the same cores.

A team of threads waits for its slowest at the end of every operation. One that has lost its core to
another process is waited for until the system gives it back, which makes a step on two cores three
to thirty times as slow; on the one core that is free it takes one and a half times as long as on
two (`tests.benchmarks.busy`). So the team is as large as the cores that nobody else uses.

Another number of threads rounds sums otherwise, in the last bit: a run is the same bit for bit
where the number stays the same, as it does on one thread, and on two where nothing else computes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil
import torch

WINDOW = 0.5  # seconds over which the use of the cores is averaged


class Use(NamedTuple):
    """Seconds since some beginning: passed, idle over all cores, computed by this process."""

    passed: float
    idle: float
    own: float


def use() -> Use:
    """As the system counts it."""
    process = psutil.Process(os.getpid()).cpu_times()
    return Use(time.monotonic(), psutil.cpu_times().idle, process.user + process.system)


class Cores:
    """The threads of the calling thread's computing, fit to what others leave.

    `most` is as many as there are on a quiet machine; `count` tells how the cores are used.
    """

    def __init__(self, most: int, count: Callable[[], Use] = use):
        self.most = self.threads = most
        self._count = count
        self._last = count()

    def fit(self) -> int:
        """How many threads to compute with from here on, set; looked at anew every `WINDOW`."""
        if self.most == 1:
            return 1
        now = self._count()
        passed = now.passed - self._last.passed
        if passed >= WINDOW:
            free = (now.idle - self._last.idle + now.own - self._last.own) / passed
            self._last = now
            self.threads = min(self.most, max(1, round(free)))
            torch.set_num_threads(self.threads)
        return self.threads


@contextmanager
def shared_cores(device: torch.device) -> Iterator[Cores]:
    """The cores for a while, the calling thread's number of threads as it was afterwards."""
    most = torch.get_num_threads() if device.type == "cpu" else 1
    try:
        yield Cores(most)
    finally:
        if most > 1:
            torch.set_num_threads(most)
