"""The process's main thread, where others can have something done.

On ZeroGPU there is no card but in a worker's process. Where `spaces` was imported first, and there
alone, since torch keeps its modes by the thread, it takes in what is put on the card and moves it
to each worker's. So bases are loaded on that thread, whichever one asks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

_JOBS: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
_PROCESS = os.getpid()  # a worker that was forked from it has this module, but not its thread


def on_main_thread(job: Callable[[], Any]) -> Any:
    """What `job` returns or raises there; in a forked worker, which has its card, it is done here.

    From another thread it waits until the main thread serves.
    """
    if threading.current_thread() is threading.main_thread() or os.getpid() != _PROCESS:
        return job()
    answer: Future[Any] = Future()
    _JOBS.put((answer, job))
    return answer.result()


def serve() -> None:
    """Do what others ask for, until the process is interrupted."""
    while True:
        answer, job = _JOBS.get()
        try:
            answer.set_result(job())
        except BaseException as error:
            answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
