"""Adapters of random weights for the tiny base, made by PEFT itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import (
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PeftConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
)
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter, Description
from tests.support import tiny

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv_shortcut", "proj_in", "downsamplers.0.conv")
TEXT = ("q_proj", "out_proj", "fc1")


def config(method: str, targets: Sequence[str], rank: int, alpha: float, **more: Any) -> PeftConfig:
    common = {"r": rank, "target_modules": list(targets), **more}
    if method == "loha":
        return LoHaConfig(alpha=alpha, init_weights=False, **common)
    if method == "lokr":
        return LoKrConfig(alpha=alpha, init_weights=False, **common)
    dora = method == "dora"
    return LoraConfig(lora_alpha=alpha, init_lora_weights=False, use_dora=dora, **common)


def inject(
    pipe: StableDiffusionPipeline,
    method: str = "lora",
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: float = 6.0,
    targets: Sequence[str] = ATTENTION,
    text: bool = True,
    **more: Any,
) -> Adapter:
    """Put random layers of PEFT's into an untouched pipeline; returns the same as an adapter."""
    tensors: dict[str, Tensor] = {}
    parts = [("unet", targets, more)] + ([("text_encoder", TEXT, {})] if text else [])
    for component, names, settings in parts:
        module: nn.Module = getattr(pipe, component)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            inject_adapter_in_model(config(method, names, rank, alpha, **settings), module)
            for name, parameter in module.named_parameters():
                # PEFT's own random weights are small or alike: ours move every picture.
                if "lora_magnitude" in name:
                    parameter.data *= 1 + 0.2 * torch.rand_like(parameter)
                elif any(part in name for part in ("lora_", "hada_", "lokr_")):
                    parameter.data = 0.3 * torch.randn_like(parameter)
            found = get_peft_model_state_dict(module)
        level = ".text_model" if component == "text_encoder" else ""
        tensors |= {f"{component}{level}.{k}": v.detach().clone() for k, v in found.items()}
    described = Description(
        method,
        "tiny",
        placeholder_token="sks",
        class_noun="dog",
        rank=rank,
        alpha=alpha,
        title=f"{method}-{seed}",
    )
    return Adapter(described, tensors)


@cache
def make(method: str = "lora", **more: Any) -> Adapter:
    """A random adapter for `tiny.base()`; see `inject`. The same for the same arguments."""
    return inject(tiny.pipeline(), method, **more)


def word(placeholder_token: str = "<mug>", vectors: int = 2, seed: int = 0) -> Adapter:
    """A learned word of random rows."""
    noise = torch.Generator().manual_seed(seed)
    rows = torch.randn(vectors, 32, generator=noise)
    return Adapter(
        Description("textual_inversion", "tiny", placeholder_token=placeholder_token, rank=vectors),
        {placeholder_token: rows},
    )


def cut(adapter: Adapter, modules: int) -> Adapter:
    """The same adapter with its first few modules alone."""
    places: list[str] = []
    for name in adapter.tensors:
        place = name.rpartition(".lora_")[0]
        if place not in places:
            places.append(place)
    kept = {
        name: tensor
        for name, tensor in adapter.tensors.items()
        if name.rpartition(".lora_")[0] in places[:modules]
    }
    return Adapter(adapter.description, kept)
