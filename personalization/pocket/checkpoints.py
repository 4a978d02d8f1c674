"""Training state on disk, written atomically; a build is resumed from these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

REPOSITORY = Path(__file__).resolve().parents[2]  # whose build/ is the work folder


def save_state(
    path: Path, step: int, modules: Mapping[str, nn.Module], optims: Sequence[Optimizer] = ()
) -> None:
    """Weights, optimizers and the number of steps done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optims": [optim.state_dict() for optim in optims],
    }
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optims: Sequence[Optimizer] = ()
) -> int:
    """Load what `save_state` wrote, as far as it wrote it; a sitting may train more than the last.

    Returns the number of steps done, 0 where there is no file.
    """
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for name, module in modules.items():
        if name in state["modules"]:
            module.load_state_dict(state["modules"][name])
    for optim, saved in zip(optims, state["optims"], strict=False):
        optim.load_state_dict(saved)
    return int(state["step"])
