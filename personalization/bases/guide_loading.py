"""The adapters that guide a base, read once for a base and kept with it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
from personalization.bases.guides import (
    DEPTH_MODEL,
    REFERENCES,
    ReferenceSpec,
    StructureSpec,
    reference_spec,
)
from personalization.data.maps import MAKERS, MapKind
from personalization.errors import BaseError, PersonalizationError

MapMaker = Callable[[Image.Image], Image.Image]


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


def reference_adapter(base: Base, spec: ReferenceSpec) -> ReferenceAdapter:
    """On the base's device. Raises `BaseError` where it cannot be had."""
    adapter: ReferenceAdapter = _kept(base, "reference", spec, lambda: _read_reference(spec, base))
    return adapter


def reference_at_hand(base: Base) -> bool:
    """Whether it is on this machine already, so that nothing has to be fetched."""
    if base.spec.family not in REFERENCES:
        return False
    spec = reference_spec(base.spec.family)
    if Path(spec.weights.source).is_dir():
        return True
    folder = spec.encoder_folder
    return loading.at_hand(spec.weights, spec.file) and loading.at_hand(
        spec.encoder, f"{folder}/model.safetensors"
    )


def structure_adapter(base: Base, spec: StructureSpec) -> nn.Module:
    """On the base's device. Raises `BaseError` where it cannot be had."""
    adapter: nn.Module = _kept(base, "structure", spec, lambda: _read_structure(spec, base))
    return adapter


def _kept(base: Base, what: str, spec: Hashable, read: Callable[[], Any]) -> Any:
    """The last of these stays with the base, and one alone: a ControlNet weighs 1.4 GB."""
    kept: dict[Hashable, Any] = base.cache.get(("guide", what), dict, lambda _: 0)
    if spec not in kept:
        kept.clear()
        kept[spec] = read()
    return kept[spec]


def map_maker(base: Base, kind: MapKind) -> MapMaker:
    """What makes such a map of a picture; depth by a model, kept with the base, on the CPU.

    Raises `BaseError` where that cannot be had, `PersonalizationError` where nothing here makes it.
    """
    if maker := MAKERS.get(kind):
        return maker
    if kind != "depth":
        raise PersonalizationError(
            f"Nothing here finds a map of {kind} in a picture. Bring the map itself, and say that "
            "it is one.",
            field="structure",
        )
    estimator = _kept(base, "depth", DEPTH_MODEL, _read_depth)
    return lambda picture: estimator(picture)["depth"]


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
    # A ControlNet's `in_channels` are the latents', and the map has others.
    channels = getattr(config, "conditioning_channels", None) or config.in_channels
    mode = picture.convert("L" if channels == 1 else "RGB")
    pixels = torch.from_numpy(np.asarray(mode, np.float32) / 255)
    return pixels[None, None] if channels == 1 else pixels.permute(2, 0, 1)[None]


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
    from diffusers import ControlNetModel, T2IAdapter

    like, source = next(base.denoiser.parameters()), spec.weights.source
    kind: Any = ControlNetModel if spec.way == "controlnet" else T2IAdapter
    try:
        adapter = kind.from_pretrained(
            source,
            revision=spec.weights.revision,
            local_files_only=Path(source).is_dir(),
            use_safetensors=True,
            torch_dtype=like.dtype,
        )
    except (OSError, ValueError) as error:
        raise BaseError(loading.failure_reason(source, error)) from error
    made: nn.Module = adapter.to(like.device).eval().requires_grad_(False)
    return made


def _read_depth() -> Any:
    from transformers import pipeline

    try:
        return pipeline(
            "depth-estimation", DEPTH_MODEL.source, revision=DEPTH_MODEL.revision, device="cpu"
        )
    except (OSError, ValueError) as error:
        raise BaseError(
            f"{loading.failure_reason(DEPTH_MODEL.source, error)} It finds the depth of a picture: "
            "without it bring the map itself, white where it is near, and say that it is one."
        ) from error


def _path(checkpoint: Checkpoint, name: str) -> Path:
    local = Path(checkpoint.source) / name
    return local if local.exists() else loading.fetched(checkpoint, name)
