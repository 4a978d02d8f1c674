"""The one thread that computes, with all cores; every other one does on a core alone.

GNU OpenMP keeps a team of threads for each thread that has computed on several cores, for as long
as that lives. Once there are more threads in teams than cores, they sleep at every barrier rather
than spin, and on two cores a step of training takes twice as long. A web server's handlers run in
whichever thread is free: so what is heavy does not run in those.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from typing import Any


class Compute:
    """Runs one job after the other, on a thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._thread = self._executor.submit(threading.current_thread).result()
        self._closed = threading.Event()
        self._waiting = 0  # jobs that have not begun
        self._counting = threading.Lock()

    @classmethod
    def with_the_cores(cls) -> Compute:
        """The process's one. The caller's thread, and those that come later, have a core each."""
        import torch

        compute = cls()
        compute.call(torch.get_num_threads)  # which settles it for that thread
        torch.set_num_threads(1)
        return compute

    def call(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """What `function` returns or raises there."""
        return self._submit(functools.partial(function, *args, **named)).result()

    def stream(self, function: Callable[..., Any], *args: Any, **named: Any) -> Iterator[Any]:
        """What the generator function `function` yields or raises there, where it does not wait.

        Closed before its end, it is closed there as soon as it yields again. Nobody waits for that:
        Gradio closes from its event loop, and whatever would go on comes after it here.
        """
        events: SimpleQueue[Any] = SimpleQueue()
        left = threading.Event()

        def run() -> None:
            with closing(function(*args, **named)) as source:
                for event in source:
                    events.put(event)
                    if left.is_set() or self._closed.is_set():
                        return

        end = object()
        job = self._submit(run)
        job.add_done_callback(lambda _: events.put(end))
        try:
            while (event := events.get()) is not end:
                yield event
            job.result()
        finally:
            left.set()

    @property
    def others_wait(self) -> bool:
        """Whether a job waits for the one at hand."""
        return self._waiting > 0

    def close(self) -> None:
        """Start no job any more; one that streams ends with its next event. Waits for nothing."""
        self._closed.set()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _submit(self, job: Callable[[], Any]) -> Future:
        if threading.current_thread() is self._thread:
            raise RuntimeError("A job that waits for another on its own thread waits for ever.")
        self._count(1)
        try:
            return self._executor.submit(self._begin, job)
        except RuntimeError:  # closed
            self._count(-1)
            raise

    def _begin(self, job: Callable[[], Any]) -> Any:
        self._count(-1)
        return job()

    def _count(self, more: int) -> None:
        with self._counting:
            self._waiting += more


def alone(compute: Callable[[], Compute], function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, or generator function, on the thread that `compute` gives when called."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **named: Any) -> Iterator[Any]:
            return compute().stream(function, *args, **named)

        return stream

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        return compute().call(function, *args, **named)

    return call
