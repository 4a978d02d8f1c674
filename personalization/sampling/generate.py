"""Pictures from prompts, each with its record inside.

Everything is drawn by diffusers' own pipelines over the base's modules as they are at the moment:
whatever a stack or a run has put into them is in the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from math import ceil
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor

from personalization.bases.base import Base
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling import fast, pace
from personalization.sampling.guides import NO_GUIDES, Guides
from personalization.sampling.guiding import guided
from personalization.sampling.picture_record import (
    AdapterRecord,
    Picture,
    PictureRecord,
    ReferenceRecord,
    StructureRecord,
)
from personalization.sampling.regional import regional
from personalization.sampling.settings import Settings, Start
from personalization.stacking.stack import Stack

PER_BATCH = 8
FEW = 12  # steps, where a base without a LoRA for few is slow
SEAM = 4  # pixels
AS_THE_BASE = Settings()
NO_STACK = Stack(())

OnStep = Callable[[int, int], None]
"""on_step(done, total), after each step of the sampler, over all batches."""


def draw(
    base: Base,
    settings: Settings,
    *,
    stack: Stack = NO_STACK,
    start: Start | None = None,
    guides: Guides = NO_GUIDES,
    on_step: OnStep | None = None,
) -> list[Picture]:
    """Draw `settings.count` pictures; `stack` is what is applied now, for their records."""
    settings = settings.check()
    prompts = [settings.prompt] * settings.count
    drawn = as_drawn(base, settings)
    with regional(base, stack, drawn), guided(base, guides, guidance=drawn.guidance or 0.0):
        images = draw_each(base, prompts, settings.seeds, settings, start=start, on_step=on_step)
    record = record_of(base, settings, stack, start, guides)
    return [
        Picture(image, replace(record, seed=seed))
        for image, seed in zip(images, settings.seeds, strict=True)
    ]


def record_of(
    base: Base,
    settings: Settings,
    stack: Stack,
    start: Start | None = None,
    guides: Guides = NO_GUIDES,
) -> PictureRecord:
    """What draws the picture again."""
    values = asdict(as_drawn(base, settings))
    del values["count"], values["draft"]  # a record is of one picture, which is kept
    return PictureRecord(
        **values,
        base=base.spec.name,
        fingerprint=base.fingerprint,
        adapters=tuple(AdapterRecord.of(slot) for slot in stack.slots),
        combine=stack.combine,
        density=stack.density,
        rank=stack.rank,
        start=start.key if start else "",
        reference=ReferenceRecord.of(guides.reference),
        structure=StructureRecord.of(guides.structure),
    )


def as_drawn(base: Base, settings: Settings) -> Settings:
    """The settings with the base's own steps and guidance where they name none.

    Raises `RecipeError` where the base cannot be drawn fast.
    """
    sampling = base.spec.sampling
    if settings.fast:
        way = base.spec.fast_way()
        sampling = way.sampling
        settings = replace(settings, scheduler=settings.scheduler or way.scheduler)
    return replace(
        settings,
        steps=settings.steps or sampling.steps,
        guidance=sampling.guidance if settings.guidance is None else settings.guidance,
    )


def draw_each(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings = AS_THE_BASE,
    *,
    start: Start | None = None,
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """A picture for each prompt at its seed, in batches; all else is as `settings` say."""
    settings = as_drawn(base, settings)
    _check_steps(base, settings)
    start = None if settings.task == "text" else _fitted(base, settings, start)
    arguments = _arguments(base, settings, start)
    at_once = per_batch(base)
    batches = range(0, len(prompts), at_once)
    images: list[Image.Image] = []
    hooks = fast.installed(base) if settings.fast else nullcontext()
    decoder = fast.decoder(base) if settings.draft and start is None else None
    with torch.inference_mode(), base.autocast(), hooks:
        for number, first in enumerate(batches):
            part = slice(first, first + at_once)
            if on_step:
                reporter = _reporter(
                    on_step, number, len(batches), arguments["num_inference_steps"]
                )
                arguments["callback_on_step_end"] = reporter
            if arguments["guidance_scale"] > 1:
                arguments["negative_prompt"] = [settings.negative] * len(prompts[part])
            pipe = base.pipeline(settings.task, settings.scheduler)
            if decoder is not None:
                pipe.vae = decoder
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
            images += pipe(prompt=list(prompts[part]), generator=generators, **arguments).images
    if start and start.mask:
        return [_restored_outside(start.mask, start.image, image) for image in images]
    return images


def quick(base: Base, usual: Settings = AS_THE_BASE, size: int = 0) -> Settings:
    """How pictures are drawn that show what was learned: as `usual`, or sooner where that is slow.

    Then it is in a few steps where the base has a LoRA for it, and with `FEW` where it has none.
    size: pixels to a side; 0: the base's own.
    """
    sized = replace(usual, width=size or None, height=size or None)
    if not pace.is_slow(base.spec, base.device):
        return sized
    if fast.is_there(base.spec):
        return replace(sized, fast=True, steps=None, guidance=None)
    return replace(sized, steps=min(FEW, usual.steps or FEW))


def per_batch(base: Base) -> int:
    """Pictures at once: one where each takes long anyway, so that it is seen how far it is."""
    return 1 if pace.is_slow(base.spec, base.device) else PER_BATCH


def _check_steps(base: Base, settings: Settings) -> None:
    """Raise `RecipeError` where the change is so small that no step of the sampler is run.

    The UNet's pipelines round the steps down; those of the flow transformers take one at least.
    """
    steps, strength = settings.steps or 0, settings.strength
    if settings.task == "text" or base.spec.module != "unet" or int(steps * strength) >= 1:
        return
    raise RecipeError(
        f"A change of {strength:g} at {steps} steps leaves no step to draw with. Take at least "
        f"{ceil(1 / strength)} steps, or a larger change.",
        field="strength",
    )


def _fitted(base: Base, settings: Settings, start: Start | None) -> Start:
    """The start in the size that is drawn. Raises what is missing of it."""
    if start is None:
        raise PersonalizationError(
            "There is no picture to start from. Add one, or draw from text.", field="image"
        )
    size = settings.size(base.spec.size)
    image = start.image.convert("RGB").resize(size)
    if settings.task == "image":
        return Start(image)
    if start.mask is None or not start.mask.getbbox():
        raise PersonalizationError(
            "Nothing is painted. Brush over what is to be drawn anew.", field="mask"
        )
    return Start(image, start.mask.convert("L").resize(size))


def _arguments(base: Base, settings: Settings, start: Start | None) -> dict[str, Any]:
    """What every batch hands to the pipeline; `start` is fitted."""
    arguments: dict[str, Any] = {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
    }
    if settings.task != "image":
        arguments["width"], arguments["height"] = settings.size(base.spec.size)
    if start:
        arguments |= {"image": start.image, "strength": settings.strength}
    if start and start.mask:
        arguments["mask_image"] = start.mask
    return arguments


def _restored_outside(mask: Image.Image, before: Image.Image, after: Image.Image) -> Image.Image:
    """Outside the mask the picture as it was, which an autoencoder does not quite give back."""
    soft = mask.filter(ImageFilter.MaxFilter(2 * SEAM + 1)).filter(ImageFilter.BoxBlur(SEAM))
    return Image.composite(after, before, soft)


def draw_latents(base: Base, prompts: Sequence[str], seeds: Sequence[int], size: int = 0) -> Tensor:
    """One batch, not decoded: (batch, channels, h, w) in the denoiser's scale, on the CPU.

    size: pixels to a side; 0: the base's own.
    """
    with torch.inference_mode(), base.autocast():
        latents: Tensor = base.pipeline("text")(
            prompt=list(prompts),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=base.spec.sampling.steps,
            guidance_scale=base.spec.sampling.guidance,
            width=size or base.spec.size,
            height=size or base.spec.size,
            output_type="latent",
        ).images
    return latents.float().cpu().clone()


def _reporter(
    on_step: OnStep, batch: int, batches: int, steps: int
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def report(_pipe: Any, step: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
        on_step(batch * steps + step + 1, batches * steps)
        return values

    return report
