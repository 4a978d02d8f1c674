"""Pictures from prompts, each with its record inside.

Everything is drawn by diffusers' own pipelines over the base's modules as they are at the moment:
whatever a stack or a run has put into them is in the picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from personalization.bases.base import Base, Task
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.picture_record import RECORD

PER_BATCH = 8
MAX_COUNT = 16
SEAM = 4  # pixels


@dataclass(frozen=True)
class Settings:
    """What to draw, and how. None stands for the base's own."""

    prompt: str
    negative: str = ""
    seed: int = 0
    count: int = 1  # pictures, at seed, seed + 1, ...
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None  # see `bases.schedulers`
    width: int | None = None
    height: int | None = None
    task: Task = "text"
    strength: float = 0.6  # of image and inpaint: how much of the schedule is run

    def check(self) -> Settings:
        """Return self, or raise `RecipeError` with the setting and its limits."""
        limits = [
            ("number of pictures", self.count, 1, MAX_COUNT),
            ("seed", self.seed, 0, 2**32 - 1),
            ("steps", self.steps if self.steps is not None else 1, 1, 200),
            ("guidance", self.guidance if self.guidance is not None else 1, 0, 30),
            ("strength", self.strength, 0.05, 1),
        ]
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value:g}; it must lie between {low:g} and {high:g}.", field=name
                )
        return self


@dataclass(frozen=True)
class Picture:
    """An image and the record of how it came to be."""

    image: Image.Image
    record: dict[str, Any] = field(hash=False)

    def save(self, path: Path) -> Path:
        """Write a PNG with the record in its text."""
        info = PngInfo()
        info.add_text(RECORD, json.dumps(self.record))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        self.image.save(part, "PNG", pnginfo=info)
        part.replace(path)
        return path


def draw(
    base: Base,
    settings: Settings,
    *,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    adapters: Sequence[dict[str, Any]] = (),
    on_step: Callable[[int, int], None] | None = None,
) -> list[Picture]:
    """Draw `settings.count` pictures.

    `image` is what "image" and "inpaint" start from; `mask` is white where "inpaint" draws.
    `adapters` goes into the record as it is; `on_step(done, total)` is called after each step of
    the sampler, over all batches.
    """
    settings = settings.check()
    seeds = [settings.seed + i for i in range(settings.count)]
    images = draw_each(
        base,
        [settings.prompt] * settings.count,
        seeds,
        negative=settings.negative,
        steps=settings.steps,
        guidance=settings.guidance,
        scheduler=settings.scheduler,
        width=settings.width,
        height=settings.height,
        task=settings.task,
        strength=settings.strength,
        image=image,
        mask=mask,
        on_step=on_step,
    )
    sampling = base.spec.sampling
    common = asdict(settings) | {
        "steps": settings.steps or sampling.steps,
        "guidance": sampling.guidance if settings.guidance is None else settings.guidance,
        "base": base.spec.name,
        "fingerprint": base.fingerprint,
        "adapters": list(adapters),
        "count": 1,
    }
    return [
        Picture(picture, common | {"seed": seed})
        for picture, seed in zip(images, seeds, strict=True)
    ]


def draw_each(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    width: int | None = None,
    height: int | None = None,
    task: Task = "text",
    strength: float = 0.6,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Image.Image]:
    """A picture for each prompt at its seed, in batches."""
    width, height = width or base.spec.size, height or base.spec.size
    steps = steps or base.spec.sampling.steps
    common: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": base.spec.sampling.guidance if guidance is None else guidance,
    }
    if task == "text":
        common |= {"width": width, "height": height}
    else:
        if image is None:
            raise PersonalizationError(
                "There is no picture to start from. Add one, or draw from text.", field="image"
            )
        common |= {"image": image.convert("RGB").resize((width, height)), "strength": strength}
    if task == "inpaint":
        if mask is None or not mask.getbbox():
            raise PersonalizationError(
                "Nothing is painted. Brush over what is to be drawn anew.", field="mask"
            )
        mask = mask.convert("L").resize((width, height))
        common |= {"mask_image": mask, "width": width, "height": height}
    drawn: list[Image.Image] = []
    batches = range(0, len(prompts), PER_BATCH)
    with torch.inference_mode(), base.autocast():
        for number, start in enumerate(batches):
            part = slice(start, start + PER_BATCH)
            pipe = base.pipeline(task, scheduler)
            if on_step:
                common["callback_on_step_end"] = _reporter(on_step, number, len(batches), steps)
            if common["guidance_scale"] > 1:
                common["negative_prompt"] = [negative] * len(prompts[part])
            drawn += pipe(
                prompt=list(prompts[part]),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                **common,
            ).images
    if task == "inpaint" and mask is not None:
        return [_kept_outside(mask, common["image"], picture) for picture in drawn]
    return drawn


def _kept_outside(mask: Image.Image, before: Image.Image, after: Image.Image) -> Image.Image:
    """Outside the mask the picture as it was, which an autoencoder does not quite give back."""
    soft = mask.filter(ImageFilter.MaxFilter(2 * SEAM + 1)).filter(ImageFilter.BoxBlur(SEAM))
    return Image.composite(after, before, soft)


def draw_latents(base: Base, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """One batch, not decoded: (batch, channels, h, w) in the denoiser's scale, on the CPU."""
    with torch.inference_mode(), base.autocast():
        latents = base.pipeline("text")(
            prompt=list(prompts),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=base.spec.sampling.steps,
            guidance_scale=base.spec.sampling.guidance,
            width=base.spec.size,
            height=base.spec.size,
            output_type="latent",
        ).images
    return latents.float().cpu().clone()


def _reporter(
    on_step: Callable[[int, int], None], batch: int, batches: int, steps: int
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def report(_pipe: Any, step: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
        on_step(batch * steps + step + 1, batches * steps)
        return values

    return report
