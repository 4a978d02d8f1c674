"""Drawing in a few steps: LCM-LoRA (Luo et al. 2023, arXiv 2311.05556) beside whatever is applied.

Its LoRA is added to the layers' outputs while pictures are drawn, and not to the weights: so it
goes with every combination of a stack, and with a method that is being trained. Beside it a small
autoencoder (TAESD, github.com/madebyollin/taesd) for pictures that are looked at and not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import match_modules
from personalization.adapters.weight_deltas import LoRADelta
from personalization.bases import loading, work
from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec, Checkpoint
from personalization.errors import BaseError
from personalization.stacking.application import LoRAHook

FILE = "pytorch_lora_weights.safetensors"  # as diffusers calls it


@lru_cache(maxsize=2)
def lora(checkpoint: Checkpoint) -> Adapter:
    """Its LoRA, fetched with the first call. Raises `BaseError` or `AdapterError`."""
    return formats.read(loading.fetched(checkpoint, FILE))


def is_there(spec: BaseSpec) -> bool:
    """Whether it can be had without an error: for pictures that may as well be drawn slowly."""
    try:
        return spec.fast is not None and bool(lora(spec.fast.lora).tensors)
    except BaseError as error:
        logging.getLogger("app").warning("Drawn slowly: %s", error)
        return False


@contextmanager
def installed(base: Base) -> Iterator[None]:
    """While it lasts, the base draws in a few steps. Raises `BaseError` or `AdapterError`."""
    adapter = lora(base.spec.fast_way().lora)
    layers = {
        layer.weight: layer
        for module in base.modules.values()
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    with ExitStack() as undo:
        for weight, (_, change) in match_modules(base.modules, adapter, "What draws fast").items():
            assert isinstance(change, LoRADelta)
            hook = LoRAHook(change, torch.tensor([change.scale]), like=weight)
            undo.callback(layers[weight].register_forward_hook(hook).remove)
        yield


def decoder(base: Base) -> Any | None:
    """The base's small autoencoder where its own takes longer than a step; None without one."""
    spec = base.spec
    if spec.decoder is None:
        return None
    whole = work.decoding(spec.architecture, spec.size).flops
    if whole <= work.forward(spec.architecture, spec.size).flops:
        return None
    source = spec.decoder

    def read() -> Any:
        return loading.small_decoder(source, base.denoiser)

    try:
        return base.cache.get("small decoder", read, lambda made: made.num_parameters() * 4)
    except BaseError as error:
        logging.getLogger("app").warning("Decoded slowly: %s", error)
        return None
