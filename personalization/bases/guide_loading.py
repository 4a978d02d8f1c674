"""The adapters that guide a base, read once for a base and kept with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from personalization.bases import loading
from personalization.bases.base import Base
from personalization.bases.catalog import Checkpoint
from personalization.bases.guides import REFERENCES, STRUCTURES, ReferenceSpec, StructureSpec
from personalization.data.maps import MapKind
from personalization.errors import BaseError


@dataclass(frozen=True)
class ReferenceAdapter:
    """The weights in IP-Adapter's layout, and the encoder with its processor."""

    spec: ReferenceSpec
    weights: dict[str, dict[str, Tensor]]
    encoder: Any
    processor: Any

    @torch.inference_mode()
    def states(self, pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """What the encoder sees in each, and in no picture: (n, ...), (1, ...)."""
        rgb = [picture.convert("RGB") for picture in pictures]
        pixels = self.processor(images=rgb, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(self.encoder.device, self.encoder.dtype)
        if not self.spec.patches:
            embeds: Tensor = self.encoder(pixels).image_embeds
            return embeds, torch.zeros_like(embeds[:1])
        both = torch.cat([pixels, torch.zeros_like(pixels[:1])])
        states: Tensor = self.encoder(both, output_hidden_states=True).hidden_states[-2]
        return states[:-1], states[-1:]


def reference_adapter(base: Base) -> ReferenceAdapter:
    """Of the base's family, on its device. Raises `BaseError` where it cannot be had."""
    spec = REFERENCES[base.spec.family]
    adapter: ReferenceAdapter = base.cache.get(
        ("reference", spec), lambda: _read_reference(spec, base), lambda _: _bytes(spec)
    )
    return adapter


def structure_adapter(base: Base, kind: MapKind) -> nn.Module:
    """Of the base's family, on its device. Raises `BaseError` where it cannot be had."""
    spec = STRUCTURES[base.spec.family, kind]
    adapter: nn.Module = base.cache.get(
        ("structure", spec), lambda: _read_structure(spec, base), lambda _: 0
    )
    return adapter


def fitted(unet: nn.Module, features: Sequence[Tensor]) -> list[Tensor]:
    """A T2I-Adapter's features as diffusers' UNet adds them, one after each block on its way down.

    A block that attends takes them before it halves its output, as Stable Diffusion's do; one that
    does not, which the pocket's first is, takes them after.
    """
    fitted = []
    blocks: Any = unet.down_blocks
    for block, feature in zip(blocks, features, strict=True):
        late = not getattr(block, "has_cross_attention", False) and block.downsamplers
        fitted.append(functional.avg_pool2d(feature, 2) if late else feature)
    return fitted


def map_tensor(picture: Image.Image, adapter: nn.Module) -> Tensor:
    """A map as the adapter takes it: (1, channels, h, w) in 0..1."""
    config: Any = adapter.config
    grey = torch.from_numpy(np.asarray(picture.convert("L"), np.float32) / 255)
    return grey[None, None].expand(1, config.in_channels, *grey.shape)


def pixels_per_latent(base: Any) -> int:
    """How many pixels a side of a latent's cell is."""
    return int(2 ** (len(base.vae.config.block_out_channels) - 1))


def noise_steps(base: Any) -> int:
    """How many timesteps the base was trained with."""
    return int(base.noise_schedule.config.num_train_timesteps)


def _read_reference(spec: ReferenceSpec, base: Base) -> ReferenceAdapter:
    # Here and not above: transformers' image processors take seconds to import.
    from transformers import AutoImageProcessor, CLIPImageProcessor, CLIPVisionModelWithProjection

    like = next(base.denoiser.parameters())
    path = _path(spec.weights, spec.file)
    weights: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(path).items():
        part, _, rest = name.partition(".")
        weights[part][rest] = tensor.to(like.dtype)
    source = spec.encoder.source
    where: dict[str, Any] = {
        "revision": spec.encoder.revision,
        "subfolder": spec.encoder_folder,
        "local_files_only": Path(source).is_dir(),
    }
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(source, **where).to(like)
        local = where["local_files_only"]
        processor = AutoImageProcessor.from_pretrained(source) if local else CLIPImageProcessor()
    except (OSError, ValueError) as error:
        raise BaseError(loading.failure_reason(source, error)) from error
    return ReferenceAdapter(spec, weights, encoder.eval().requires_grad_(False), processor)


def _read_structure(spec: StructureSpec, base: Base) -> nn.Module:
    from diffusers import T2IAdapter

    like, source = next(base.denoiser.parameters()), spec.weights.source
    try:
        adapter = T2IAdapter.from_pretrained(
            source,
            revision=spec.weights.revision,
            local_files_only=Path(source).is_dir(),
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise BaseError(loading.failure_reason(source, error)) from error
    made: nn.Module = adapter.to(like.device, like.dtype).eval().requires_grad_(False)
    return made


def _path(checkpoint: Checkpoint, name: str) -> Path:
    local = Path(checkpoint.source) / name
    return local if local.exists() else loading.fetched(checkpoint, name)


def _bytes(spec: ReferenceSpec) -> int:
    local = Path(spec.weights.source) / spec.file
    return local.stat().st_size if local.exists() else 0
