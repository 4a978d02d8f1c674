"""Several processes of one thread each, under `python -m torch.distributed.run`.

On a CPU that others use too, one process of two threads waits at every operation for whichever
thread was displaced; two processes of one thread meet once a step. Alone, all of this is a no-op.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def start() -> None:
    """Join the others, if this process was started among several."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
        if not torch.cuda.is_available():
            torch.set_num_threads(1)


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def summed(tensors: Sequence[Tensor]) -> None:
    """Add up each tensor over the processes, in place, in one exchange."""
    if world() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def average_gradients(weights: Sequence[Tensor], stop: bool = False) -> bool:
    """Average the gradients over the processes. True where any process wants to stop."""
    if world() == 1:  # and nobody waits for the device
        return stop
    flag = torch.tensor([float(stop)], device=weights[0].device)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    summed([*gradients, flag])
    torch._foreach_div_(gradients, world())
    return bool(flag.item())


def agreed(value: float, device: torch.device) -> float:
    """The first process's value, for all: clocks differ, and weights must not."""
    if world() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared.item())


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        dist.barrier()
