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
from concurrent.futures import Future
from contextlib import closing
from queue import SimpleQueue
from typing import Any


class Compute:
    """Runs one job after the other, on a thread of its own."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future, Callable[[], Any]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="compute", daemon=True)
        self._thread.start()

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
        told: SimpleQueue[Any] = SimpleQueue()
        left = threading.Event()

        def run() -> None:
            with closing(function(*args, **named)) as events:
                for event in events:
                    told.put(event)
                    if left.is_set():
                        return

        over = object()
        job = self._submit(run)
        job.add_done_callback(lambda _: told.put(over))
        try:
            while (event := told.get()) is not over:
                yield event
            job.result()
        finally:
            left.set()

    def alone(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, or generator function, on this thread."""
        how = self.stream if inspect.isgeneratorfunction(function) else self.call

        @functools.wraps(function)
        def there(*args: Any, **named: Any) -> Any:
            return how(function, *args, **named)

        return there

    def _submit(self, job: Callable[[], Any]) -> Future:
        if threading.current_thread() is self._thread:
            raise RuntimeError("A job that waits for another on its own thread waits for ever.")
        future: Future = Future()
        self._jobs.put((future, job))
        return future

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            del future, job  # and with them what they hold, while there is nothing to do
