"""FLUX.2 klein with reference pictures: its own network looks at them, without any adapter.

As its pipeline's `image=` has it: the pictures' latents stand behind what is drawn, each at a time
coordinate of its own, and what the network says of them is dropped. Handed to the transformer
itself, so that it holds for the base's every task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from personalization.bases.base import Base
from personalization.stacking.application import answering

AREA = 1024 * 1024  # pixels: a larger picture is brought down to it


@contextmanager
def looking(base: Base, pictures: Sequence[Image.Image]) -> Iterator[None]:
    """While it lasts, the base draws with these pictures before its eyes."""
    tokens, places = _tokens(base, pictures)
    with answering(base.denoiser, _beside(base.denoiser.forward, tokens, places)):
        yield


@torch.inference_mode()
def _tokens(base: Base, pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """The pictures as the transformer reads them: (1, n, channels), and where: (1, n, 4)."""
    pipe: Any = base.pipeline("text")
    processor, unit = pipe.image_processor, pipe.vae_scale_factor * 2
    prepared = []
    for picture in pictures:
        seen = picture.convert("RGB")
        if seen.width * seen.height > AREA:
            seen = processor._resize_to_target_area(seen, AREA)
        width, height = (max(unit, side // unit * unit) for side in seen.size)
        prepared.append(processor.preprocess(seen, height, width, resize_mode="crop"))
    tokens, places = pipe.prepare_image_latents(
        images=prepared, batch_size=1, generator=None, device=base.device, dtype=pipe.vae.dtype
    )
    return tokens, places


def _beside(forward: Callable[..., Any], tokens: Tensor, places: Tensor) -> Callable[..., Any]:
    """The transformer's call with the pictures behind what it is asked about."""

    def looking(hidden_states: Tensor, *, img_ids: Tensor, **kw: Any) -> tuple[Tensor]:
        count, asked = hidden_states.shape[:2]
        seen = tokens.expand(count, *tokens.shape[1:]).to(hidden_states)
        where = places.expand(count, *places.shape[1:]).to(img_ids)
        kw["return_dict"] = False
        (said, *_) = forward(
            hidden_states=torch.cat([hidden_states, seen], 1),
            img_ids=torch.cat([img_ids, where], 1),
            **kw,
        )
        return (said[:, :asked],)

    return looking
