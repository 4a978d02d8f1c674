"""A backward in a process of its own, where this one must not take any yet.

Autograd sets up its threads at a process's first backward, one for each card that it sees then
(torch/csrc/autograd/engine.cpp, `start_device_threads`). ZeroGPU's main process sees none, and its
workers, forked from it, would have none for theirs.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import torch


def before_the_card() -> bool:
    """Whether there is a card that this process has not begun to use."""
    return torch.cuda.is_available() and not torch.cuda.is_initialized()


def in_a_fork(job: Callable[[], Any]) -> Any:
    """What `job` returns or raises there; both are pickled."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(job, there), daemon=True)
    process.start()
    there.close()
    try:
        done, value = here.recv()
    finally:
        here.close()
        process.join()
    if not done:
        raise value
    return value


def _answer(job: Callable[[], Any], pipe: Any) -> None:
    try:
        said = True, job()
    except Exception as error:
        said = False, error
    pipe.send(said)
    os._exit(0)  # what the process before it wants done at its end is not this one's to do
