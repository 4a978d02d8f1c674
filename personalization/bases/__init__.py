"""The bases: what they are (`spec`), what they give (`base`), and their families.

`load` keeps one copy of each base in the process.
"""

from __future__ import annotations

import threading
from importlib import import_module

import torch

from personalization.bases.base import Base, Conditioning, Posterior, TextEncoder
from personalization.bases.spec import CATALOG, BaseSpec
from personalization.errors import BaseError

__all__ = [
    "CATALOG",
    "Base",
    "BaseSpec",
    "Conditioning",
    "Posterior",
    "TextEncoder",
    "best_device",
    "load",
]

_LOADED: dict[tuple[str, str], Base] = {}
_LOADING = threading.Lock()


def best_device() -> torch.device:
    """CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load(spec: BaseSpec | str, device: torch.device | str | None = None) -> Base:
    """The base, loaded once in a process for each device.

    Raises `BaseError`: what fails, fails before anything that is loaded is let go.
    """
    if isinstance(spec, str):
        if spec not in CATALOG:
            raise BaseError(f"There is no base “{spec}”. Known: {', '.join(CATALOG)}.")
        spec = CATALOG[spec]
    device = torch.device(device or best_device())
    with _LOADING:
        key = (spec.name, str(device))
        if key not in _LOADED:
            import_module("personalization.bases.memory").check(spec, device)
            family = import_module(f"personalization.bases.{spec.module}")
            _LOADED[key] = family.load(spec, device)
        return _LOADED[key]
