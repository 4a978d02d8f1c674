"""Pictures that a run draws on its way: the same prompts at the same seeds each time."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.data.frames import frame
from personalization.files import writing
from personalization.sampling import generate
from personalization.sampling.picture_record import Picture, PictureRecord
from personalization.sampling.settings import Settings
from personalization.training.examples import Examples
from personalization.training.run import Run

COUNT = 3  # pictures each time
THUMBNAIL = 160  # pixels
DIMMED = 0.2


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


def seen(base: Base, run: Run, examples: Examples) -> tuple[Path, ...]:
    """Small pictures of what the base sees (`Recipe.annotate`), into the run's folder.

    Of a thing, what counts little is dimmed; of a style they are the photos that it has named.
    """
    if not (run.writes and run.recipe.annotate):
        return ()
    canvas, paths = base.spec.canvas(run.recipe), []
    for bucket in examples.buckets:
        for place, index in enumerate(bucket.photos):
            photo = run.concept.photos[index]
            picture = frame(photo, canvas).crop(photo)
            if bucket.weights is not None:
                picture = _dimmed(picture, bucket.weights[0, place, 0])
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            paths.append(run.seen_path(index))
            with writing(paths[-1]) as file:
                picture.save(file, "PNG")
    return tuple(sorted(paths))


def _dimmed(picture: Image.Image, weights: Tensor) -> Image.Image:
    """weights: (h, w). Where they are least, `DIMMED` of it is left before a grey."""
    share = (weights - weights.min()) / (weights.max() - weights.min()).clamp(min=1e-6)
    shade = Image.fromarray((255 * (DIMMED + (1 - DIMMED) * share)).byte().numpy())
    grey = Image.new("RGB", picture.size, "#888888")
    return Image.composite(picture, grey, shade.resize(picture.size, Image.Resampling.BILINEAR))


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
