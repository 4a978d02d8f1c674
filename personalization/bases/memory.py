"""What a base's weights take of a device, before a byte of them is loaded.

What its work takes beside them is `bases.work`'s.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from personalization.bases import counts
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.loading import precision
from personalization.errors import BaseError

GIB = 2**30
CONTEXT = 0.6 * GIB  # what CUDA takes before the first tensor


def weights(architecture: str, dtype: torch.dtype = torch.bfloat16) -> int:
    """Bytes of all components, buffers included."""
    numbers = counts.kept(f"numbers {architecture}") or count_numbers(architecture)
    return int(sum(numbers.values())) * dtype.itemsize


@lru_cache
def count_numbers(architecture: str) -> counts.Row:
    """How many each component has, buffers included."""
    found: counts.Row = {}
    for name, part in ARCHITECTURES[architecture].parts.items():
        module = part.on_meta()
        found[name] = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    return found


def available(device: torch.device) -> int | None:
    """Bytes that are free on the device; None where the machine does not say."""
    try:
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0]
        if device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, RuntimeError):
        return None


def fits(spec: BaseSpec, device: torch.device, free: int) -> bool:
    """Whether the weights alone fit into `free` bytes."""
    return weights(spec.architecture, precision(spec, device)) <= free


def check(spec: BaseSpec, device: torch.device, free: int | None = None) -> None:
    """Raise `BaseError` where the weights alone do not fit, with what would fit.

    free: bytes; what the device has where it is not given. A machine that does not say passes.
    """
    free = available(device) if free is None else free
    if free is None or fits(spec, device, free):
        return
    needed = weights(spec.architecture, precision(spec, device))
    fitting = [other.title for other in CATALOG.values() if fits(other, device, free)]
    raise BaseError(
        f"{spec.title} takes {needed / GIB:.1f} GiB before it draws, and {free / GIB:.1f} GiB are "
        f"free here. What fits: {', '.join(fitting)}. The base in use stays."
    )
