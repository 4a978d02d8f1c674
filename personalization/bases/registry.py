"""The bases of this process: one copy of each, loaded when it is first asked for.

torch is imported where it is used: it takes seconds, and the catalog is wanted before.
"""

from __future__ import annotations

import gc
import threading
from importlib import import_module
from typing import TYPE_CHECKING

from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.errors import BaseError

if TYPE_CHECKING:
    import torch

    from personalization.bases.base import Base

_LOADED: dict[tuple[str, str, str], Base] = {}  # by name, source and device
_LOADING = threading.Lock()


def best_device() -> torch.device:
    """CUDA, then Apple's MPS, then the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load(spec: BaseSpec | str, device: torch.device | str | None = None) -> Base:
    """The base, loaded once in a process for each device.

    Where memory is short, bases that nobody uses at the moment are let go, the first loaded
    first; asked for again, they are read again. Raises `BaseError`, before anything is let go,
    where that would not make enough room.
    """
    import torch

    if isinstance(spec, str):
        if spec not in CATALOG:
            raise BaseError(f"There is no base “{spec}”. Known: {', '.join(CATALOG)}.")
        spec = CATALOG[spec]
    device = torch.device(device or best_device())
    key = (spec.name, spec.source, str(device))
    if loaded := _LOADED.get(key):  # nobody waits for another's download
        return loaded
    with _LOADING:
        if key not in _LOADED:
            _make_room(spec, device)
            family = import_module(f"personalization.bases.{spec.module}")
            _LOADED[key] = family.load(spec, device)
        return _LOADED[key]


def _make_room(spec: BaseSpec, device: torch.device) -> None:
    import torch

    from personalization.bases import memory
    from personalization.bases.loading import precision

    free = memory.available(device)
    if free is None:
        return
    idle = {
        key: memory.weights(base.spec.architecture, precision(base.spec, device))
        for key, base in _LOADED.items()
        if key[-1] == str(device) and not base.lock.locked()
    }
    memory.check(spec, device, free + sum(idle.values()))
    for key, size in idle.items():
        if memory.fits(spec, device, free):
            break
        del _LOADED[key]
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        free += size
