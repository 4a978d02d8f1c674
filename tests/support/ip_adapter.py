"""A tiny repository in the layout of h94/IP-Adapter: the files that the app names, random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from personalization.bases.guides import REFERENCES, ReferenceSpec
from tests.support.hub_server import Repository

HIDDEN, PROJECTED, TOKENS = 32, 16, 4  # diffusers takes the plain one to have four
INNER, DEPTH = 64, 4  # of a resampler's attention, and its layers: diffusers reads one head of 64


def repository(family: str, unet: Any, folder: Path) -> Repository:
    """With all of the family's readers for that UNet, and the image encoder that they share."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPVisionConfig(
            hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
            patch_size=56, projection_dim=PROJECTED,
        )  # fmt: skip
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
        specs = REFERENCES[family]
        files = {spec.file: save(_weights(spec, unet)) for spec in specs}
    encoder = specs[0].encoder_folder
    files |= {f"{encoder}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return Repository(files, revisions=None)


def _weights(spec: ReferenceSpec, unet: Any) -> dict[str, Tensor]:
    cross = unet.config.cross_attention_dim
    tensors = _resampler(cross) if spec.patches else _projection(cross)
    named = {f"image_proj.{name}": tensor for name, tensor in tensors.items()}
    modules = dict(unet.named_modules())
    number = 1  # as the trainer counts: the attentions on the prompt have the odd numbers
    for name in unet.attn_processors:
        if "attn2" in name:
            width = modules[name.removesuffix(".processor")].to_k.weight.shape[0]
            for part in ("to_k_ip", "to_v_ip"):
                named[f"ip_adapter.{number}.{part}.weight"] = _random(width, cross)
            number += 2
    return named


def _projection(cross: int) -> dict[str, Tensor]:
    """From the pooled vector to a few tokens."""
    return {
        "proj.weight": _random(TOKENS * cross, PROJECTED),
        "proj.bias": _random(TOKENS * cross),
        **_norm("norm", cross),
    }


def _resampler(cross: int) -> dict[str, Tensor]:
    """From the encoder's states to a few tokens, by attention."""
    tensors = {
        "latents": _random(1, TOKENS, HIDDEN),
        **_linear("proj_in", HIDDEN, HIDDEN),
        **_linear("proj_out", cross, HIDDEN),
        **_norm("norm_out", cross),
    }
    for layer in (f"layers.{number}" for number in range(DEPTH)):
        tensors |= {
            **_norm(f"{layer}.0.norm1", HIDDEN),
            **_norm(f"{layer}.0.norm2", HIDDEN),
            f"{layer}.0.to_q.weight": _random(INNER, HIDDEN),
            f"{layer}.0.to_kv.weight": _random(2 * INNER, HIDDEN),
            f"{layer}.0.to_out.weight": _random(HIDDEN, INNER),
            **_norm(f"{layer}.1.0", HIDDEN),
            f"{layer}.1.1.weight": _random(4 * HIDDEN, HIDDEN),
            f"{layer}.1.3.weight": _random(HIDDEN, 4 * HIDDEN),
        }
    return tensors


def _linear(name: str, out: int, into: int) -> dict[str, Tensor]:
    return {f"{name}.weight": _random(out, into), f"{name}.bias": _random(out)}


def _norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


def _random(*shape: int) -> Tensor:
    return 0.2 * torch.randn(*shape)
