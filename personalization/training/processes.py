"""Several processes that compute one run: each a share of every batch, and the first alone writes.

    accelerate launch --multi_gpu --num_processes 4 -m personalization train --run DIR ...

A batch is a function of its step's number (`batches`), so every process knows the whole of it and
takes its own part; gradients are added up, weighted by the parts' sizes. That is the gradient of
the batch in one process, up to the rounding of sums (data parallelism as in Li et al. 2020,
arXiv 2006.15704). Who computes along is a fact of the process, as its device is: without a group
there is one process, and nothing here changes anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

from personalization.errors import RecipeError


@contextmanager
def together() -> Iterator[None]:
    """The group that `accelerate launch` asks for by its environment, left at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState

    if torch.cuda.is_available():
        PartialState()  # NCCL, and the device of this process
    else:
        PartialState(cpu=True, backend="gloo")
    try:
        yield
    finally:
        _talk.cache_clear()
        distributed.destroy_process_group()


def count() -> int:
    """How many compute the run."""
    grouped = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if grouped else 1


def first() -> bool:
    """Whether this process is the one that writes and decides."""
    return count() == 1 or distributed.get_rank() == 0


def share(size: int) -> slice:
    """This process's samples of a batch of `size`. Raises `RecipeError` where some have none."""
    if count() == 1:
        return slice(0, size)
    if size < count():
        raise RecipeError(
            f"A batch of {size} cannot be shared by {count()} processes. Start at most {size}, or "
            "give the recipe a larger batch.",
            field="batch size",
        )
    rank = distributed.get_rank()
    return slice(size * rank // count(), size * (rank + 1) // count())


def total(tensor: Tensor) -> Tensor:
    """The sum over the processes, without a gradient."""
    tensor = tensor.detach().clone()
    if count() > 1:
        distributed.all_reduce(tensor)
    return tensor


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each parameter's gradient becomes the sum over the processes."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for work in [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
        work.wait()


def agreed(decision: bool = True) -> bool:
    """What the first process decides, once all have come here."""
    if count() == 1:
        return decision
    said = torch.tensor([decision], dtype=torch.uint8)
    distributed.broadcast(said, src=0, group=_talk())
    return bool(said.item())


@lru_cache(1)
def _talk() -> Any:
    """A group for decisions, on the CPU: on a GPU each would wait for the step at hand."""
    return distributed.new_group(backend="gloo")
