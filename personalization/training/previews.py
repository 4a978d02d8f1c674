"""Pictures that a run draws on its way: the same prompts at the same seeds each time."""

from __future__ import annotations

from pathlib import Path

from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.sampling import generate
from personalization.sampling.picture_record import Picture, PictureRecord
from personalization.sampling.settings import Settings
from personalization.training.run import Run

COUNT = 3  # pictures each time


def steps(spec: BaseSpec) -> int:
    """Of the sampler: a preview is looked at, not kept. The pocket's looks the same from 8 on."""
    return 8 if spec.small else 12


def prompts(run: Run, *, with_class_noun: bool) -> list[str]:
    """What the previews show: the concept alone, twice elsewhere."""
    concept = run.concept
    words = concept.name if with_class_noun else concept.placeholder_token
    if concept.kind == "style":
        return [f"a {thing}, {words} style" for thing in ("cat", "house", "flower")]
    return [
        concept.prompts(with_class_noun=with_class_noun)[0],
        f"a photo of {words} in the snow",
        f"a photo of {words} on the beach",
    ]


def draw(base: Base, run: Run, step: int, *, with_class_noun: bool) -> tuple[Path, ...]:
    """Draw them with what has been learned at `step`, into the run's folder."""
    texts = prompts(run, with_class_noun=with_class_noun)
    seeds = [run.recipe.seed + i for i in range(len(texts))]
    size = run.recipe.size(base.spec.size)
    settings = generate.quick(base, Settings(steps=steps(base.spec), draft=True), size)
    pictures = generate.draw_each(base, texts, seeds, settings)
    paths = []
    for index, (picture, prompt) in enumerate(zip(pictures, texts, strict=True)):
        record = PictureRecord(
            prompt,
            seed=seeds[index],
            steps=settings.steps,
            width=size,
            height=size,
            fast=settings.fast,
        )
        path = run.preview_path(step, index)
        paths.append(Picture(picture, record).save(path))
    return tuple(paths)
