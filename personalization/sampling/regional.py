"""A picture in regions: each drawn with its own adapters and its own prompt, at every step.

    with applied(base, stack), regional(base, stack, settings):
        pictures = draw_each(base, prompts, seeds)

MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113): what the denoiser says of each region is
put together by masks, whose edges are soft. In the first steps, where it is decided what stands
where, it sees the region alone, as the middle of a picture of its own (`margins`), so that its
subject is in it; after them it sees what lies around in the picture, so that the regions know of
each other and no seam is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor
from torch.nn import functional

from personalization.bases import guide_loading as loading
from personalization.bases.base import Base
from personalization.errors import StackError
from personalization.sampling.margins import Margins, Window, framed, within
from personalization.sampling.settings import Settings
from personalization.stacking import merged_weights
from personalization.stacking.application import answering, weights
from personalization.stacking.merged_weights import Values
from personalization.stacking.regions import Region, bounds
from personalization.stacking.stack import Stack

ALONE = 0.5  # of the noise: above it a region is seen alone
AROUND = 6  # cells of the latents around it that it is seen with below
BLUR = 1.0  # cells, of an edge
# What adapters of structure give the UNet: a T2I-Adapter, a ControlNet.
FEATURES = {
    "down_intrablock_additional_residuals",
    "down_block_additional_residuals",
    "mid_block_additional_residual",
}


@dataclass(frozen=True)
class Place:
    """A region as it is drawn; None is what lies outside of all.

    `values` are the denoiser's weights there. `told` is what the UNet is told of the negative
    prompt and of the prompt, (2, ...) each.
    """

    region: Region | None
    values: Values
    told: dict[str, Tensor]


@dataclass(frozen=True)
class Share:
    """What a place counts in each cell, (h, w), of a window; and the frame that it is seen in."""

    place: Place
    weight: Tensor
    window: Window
    frame: Window


@contextmanager
def regional(base: Base, stack: Stack, settings: Settings) -> Iterator[None]:
    """While it lasts, the base draws in the stack's regions; afterwards it is as it was.

    Without regions nothing is changed. Inside `applied`, which holds the lock. `settings` are those
    that are drawn with: every picture has their prompts. Raises `StackError` for a base that draws
    no regions, and for one that was brushed on another shape.
    """
    if not stack.has_regions:
        yield
        return
    if base.spec.module != "unet":
        raise StackError(
            f"{base.spec.title} draws no regions: that is for bases with a UNet. Let every adapter "
            "count everywhere, or choose another base.",
            field="region",
        )
    size = (settings.width or base.spec.size, settings.height or base.spec.size)
    for slot in stack.active:
        if slot.region:
            slot.region.check_shape(slot.name, size)
    places = [_place(base, region, part, settings) for region, part in stack.by_region()]
    with answering(base.denoiser, _Regional(base, places, settings)):
        yield


def _place(base: Base, region: Region | None, part: Stack, settings: Settings) -> Place:
    """With the adapters that count there; the text encoders read its prompt with them as well."""
    layers = merged_weights.layers(base, part)
    text = [layer for layer in layers if layer.is_text]
    rest = [layer for layer in layers if not layer.is_text]
    prompt = region.joined(settings.prompt) if region else settings.prompt
    with weights(merged_weights.values(base, text, part)):
        told = _told(base, prompt, settings.negative)
    return Place(region, merged_weights.values(base, rest, part), told)


def _told(base: Base, prompt: str, negative: str) -> dict[str, Tensor]:
    """What the pipeline tells its UNet of both prompts, the negative one first."""
    with torch.inference_mode(), base.autocast():
        found = base.pipeline("text").encode_prompt(
            prompt=prompt,
            device=base.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative,
        )
    names = ("encoder_hidden_states", "text_embeds")  # the second is SDXL's
    pairs = zip(names, found[0::2], found[1::2], strict=False)
    return {name: torch.cat([refused, asked]) for name, asked, refused in pairs}


class _Regional:
    """The denoiser's call, asked for each place and put together."""

    def __init__(self, base: Any, places: Sequence[Place], settings: Settings):
        self.forward = base.denoiser.forward
        self.places, self.doubled = places, (settings.guidance or 0.0) > 1
        self.margins = Margins(base.noise_schedule, settings.guidance or 0.0)
        # A picture that is there already has its margins in it.
        self.frames = settings.task == "text"
        self.alone = loading.noise_steps(base) * ALONE
        # Cells that the UNet halves without a rest, level by level.
        self.step = 2 ** (len(base.denoiser.config.block_out_channels) - 1)
        self.shares: dict[tuple[int, int, bool], list[Share]] = {}

    def __call__(self, sample: Tensor, timestep: Any, *_: Any, **more: Any) -> tuple[Tensor]:
        more.pop("encoder_hidden_states", None)
        more.pop("return_dict", None)
        t = float(torch.as_tensor(timestep).max())
        self.margins.begin(t)
        total = torch.zeros_like(sample)
        for number, share in enumerate(self.shares_of(sample, alone=t >= self.alone)):
            inner = within(share.window, (0, 0, 0, 0))
            has_margin = share.frame != share.window
            place = share.window, share.frame
            seen = self.margins.around(number, sample, place, t) if has_margin else sample[inner]
            asked = self.asked(share, sample, more)
            with weights(share.place.values):
                said = self.forward(seen, timestep, return_dict=False, **asked)[0]
            if has_margin:
                self.margins.follow(number, seen, said, t)
            total[inner] += share.weight.to(said) * said[within(*place)]
        return (total,)

    def asked(self, share: Share, sample: Tensor, more: Mapping[str, Any]) -> dict[str, Any]:
        """What the UNet is told there, of what it is told of the sample."""
        each = len(sample) // 2 if self.doubled else len(sample)
        told = {
            name: (pair if self.doubled else pair[1:]).repeat_interleave(each, 0)
            for name, pair in share.place.told.items()
        }
        asked: dict[str, Any] = {**more, "encoder_hidden_states": told["encoder_hidden_states"]}
        if "text_embeds" in told:
            asked["added_cond_kwargs"] |= {"text_embeds": told["text_embeds"]}
        for name in FEATURES & asked.keys():
            if isinstance(features := asked[name], Tensor):
                asked[name] = _inside(features, share.frame, sample.shape[-1])
            elif features:
                asked[name] = [_inside(each, share.frame, sample.shape[-1]) for each in features]
        return asked

    def shares_of(self, sample: Tensor, *, alone: bool) -> list[Share]:
        """The places' shares, which add up to 1 in every cell."""
        size = sample.shape[-1], sample.shape[-2]
        key = (*size, alone)
        if key not in self.shares:
            shares = _shares(self.places, size, 0 if alone else AROUND, self.step)
            if alone and self.frames:
                shares = [
                    replace(each, frame=framed(each.window, size, self.step)) for each in shares
                ]
            self.shares[key] = shares
        return self.shares[key]


def _shares(places: Sequence[Place], size: tuple[int, int], around: int, step: int) -> list[Share]:
    """With a window for each, of whole steps."""
    covers = [place.region.cover(size) for place in places if place.region]
    if len(covers) < len(places):
        covers.append(_outside(covers))
    windows = [bounds(cover, around, step) for cover in covers]
    soft = torch.zeros(len(places), size[1], size[0])
    for weight, cover, (left, top, right, bottom) in zip(soft, covers, windows, strict=True):
        edge = np.array(cover.filter(ImageFilter.GaussianBlur(BLUR)), np.float32)
        # The least that counts, for a cell that nothing else covers.
        weight[top:bottom, left:right] = torch.from_numpy(edge)[top:bottom, left:right] + 1e-3
    soft /= soft.sum(0)
    return [
        Share(place, weight[within(window, (0, 0, 0, 0))], window, window)
        for place, weight, window in zip(places, soft, windows, strict=True)
    ]


def _outside(covers: Sequence[Image.Image]) -> Image.Image:
    """What no region covers."""
    return ImageChops.invert(reduce(ImageChops.add, covers))


def _inside(feature: Tensor, window: Window, width: int) -> Tensor:
    """The window of a feature map that has fewer cells than the latents; nothing outside of it."""
    cells = width // feature.shape[-1]
    left, top, right, bottom = (side // cells for side in window)
    high, wide = feature.shape[-2:]
    return functional.pad(feature, (-left, right - wide, -top, bottom - high))
