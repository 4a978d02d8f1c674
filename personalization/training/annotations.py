"""What the base itself sees in photos, before it learns from them (`Recipe.annotate`).

Of a thing, where it is, so that photos without a mask teach little of what lies around it. Of a
style, what its pictures show, so that captions explain that and the look alone is left to learn.
Both ask the denoiser, which is there wherever something can be taught.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from personalization.bases.base import Base
from personalization.bases.encoders import encoder_pair
from personalization.events import Stage
from personalization.training.batches import generator_at
from personalization.training.examples import Bucket, Seen, in_buckets
from personalization.training.run import Run

# Levels of noise: below them the denoiser hardly asks the prompt.
OF_SUBJECT = (0.4, 0.4, 0.6, 0.6, 0.8, 0.8)
OF_THING = (0.5, 0.6)
PER_PHOTO = 2 * len(OF_SUBJECT)  # passes that a subject is found in
SMOOTHED = 3  # latents a side
PER_FORWARD = 16  # samples

T = TypeVar("T")


def looking(base: Base, run: Run) -> Generator[Stage, None, Seen]:
    """Encode the photos, and look at them where the recipe says so; tells after each pass.

    Made when nothing has been learned yet: the base sees what it saw before.
    """
    yield Stage("photos", 0, 1)
    buckets, contents = in_buckets(base, run), run.contents
    yield Stage("photos", 1, 1)
    if not run.recipe.annotate:
        return Seen(buckets, contents)
    if run.concept.kind != "style":
        found = []
        for bucket in buckets:
            found.append((yield from _found(base, run, bucket)))
        return Seen(found, contents)
    if base.spec.classes and not contents:
        for bucket in buckets:
            contents |= yield from _contents(base, run, bucket)
    return Seen(buckets, contents)


def _found(base: Base, run: Run, bucket: Bucket) -> Generator[Stage, None, Bucket]:
    """The masks that are there, and where there is none what the base takes for the subject."""
    without = [i for i, white in enumerate(bucket.whites) if white is None]
    if not without:
        return bucket
    latents, about = bucket.posterior.mean[0][without], run.concept.class_prompt()
    maps = yield from _told(subject_maps(base, latents, about, run.recipe.seed), len(OF_SUBJECT))
    found = dict(zip(without, maps.unsqueeze(1), strict=True))
    whites = [found[i] if white is None else white for i, white in enumerate(bucket.whites)]
    return replace(bucket, whites=tuple(whites))


def _contents(base: Base, run: Run, bucket: Bucket) -> Generator[Stage, None, dict[int, str]]:
    """By photo: what the base says that it shows, where nobody has said so."""
    silent = [i for i, n in enumerate(bucket.photos) if not run.concept.photos[n].caption]
    if not silent:
        return {}
    photos = [run.concept.photos[bucket.photos[i]].image for i in silent]
    passes = len(OF_THING) * -(-len(silent) * len(base.spec.classes) // PER_FORWARD)
    latents = bucket.posterior.mean[0][silent]
    said = yield from _told(described(base, photos, latents, run.recipe.seed), passes)
    return {bucket.photos[i]: shown for i, shown in zip(silent, said, strict=True)}


def _told(passes: Generator[None, None, T], count: int) -> Generator[Stage, None, T]:
    """Each pass as a part of the stage."""
    done = 0
    while True:
        try:
            next(passes)
        except StopIteration as end:
            answer: T = end.value
            return answer
        done += 1
        yield Stage("looking", done, count)


def subject_maps(
    base: Base, latents: Tensor, class_prompt: str, seed: int
) -> Generator[None, None, Tensor]:
    """(photos, h, w) in [0, 1]: how far each place of the latents is the subject's.

    latents: (photos, channels, h, w). DiffEdit's mask (Couairon et al. 2022, arXiv 2210.11427,
    3.2): where the denoiser expects something else of the class's prompt than of none. Its mean
    over channels, noises and levels, smoothed; 1 from Otsu's threshold on, which parts the subject
    from what is around it, and below that its share of it.
    """
    found = torch.zeros(len(latents), *latents.shape[2:])
    for noise, u in _chances(latents, seed, OF_SUBJECT):
        with torch.no_grad():  # a generator must not leave it switched off meanwhile
            asked = base.encode_prompts([class_prompt, ""])
            named, unnamed = (
                base.predict(latents, asked[[which] * len(latents)], noise, u) for which in (0, 1)
            )
        found += (named - unnamed).abs().mean(1).cpu()
        yield
    smooth = avg_pool2d(found[:, None], SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)[:, 0]
    return torch.stack([_shares(each) for each in smooth])


def _shares(seen: Tensor) -> Tensor:
    """Of the threshold, 1 at most; where nothing is seen anywhere, all of it is the subject."""
    limit = threshold(seen)
    return (seen / limit).clamp(max=1) if limit > 0 else torch.ones_like(seen)


def described(
    base: Base, photos: Sequence[Image.Image], latents: Tensor, seed: int
) -> Generator[None, None, list[str]]:
    """Of each of the photos, which of the base's classes it shows in which of its scenes.

    photos and their latents (photos, channels, h, w). Which thing it is, the denoiser tells through
    looks that it never saw, where the base's encoder does not; of scenes it is the other way round
    (docs/LOG.md). Each errs, which costs less than to say nothing.
    """
    spec = base.spec
    asked = [f"a photo of {thing}" for thing in spec.classes]
    things = [spec.classes[i] for i in (yield from best_named(base, latents, asked, seed))]
    encoder = encoder_pair(spec, base.device).prompt
    scenes = encoder.texts([f"a photo of a thing {scene}" for scene in spec.scenes])
    where = (encoder.images(photos) @ scenes.T).argmax(1).tolist()
    return [f"{thing} {spec.scenes[i]}" for thing, i in zip(things, where, strict=True)]


def best_named(
    base: Base, latents: Tensor, prompts: Sequence[str], seed: int
) -> Generator[None, None, list[int]]:
    """Which of the prompts says best what each of the latents (photos, channels, h, w) shows.

    The denoiser as a classifier (Li et al. 2023, arXiv 2303.16203): the prompt with which it errs
    least, over the same noise for all.
    """
    with torch.no_grad():
        conditioning = base.encode_prompts(list(prompts))
    errors = torch.zeros(len(latents), len(prompts))
    pairs = [(photo, prompt) for photo in range(len(latents)) for prompt in range(len(prompts))]
    for noise, u in _chances(latents, seed, OF_THING):
        target = base.target(latents, noise, u)
        for start in range(0, len(pairs), PER_FORWARD):
            photos, asked = map(list, zip(*pairs[start : start + PER_FORWARD], strict=True))
            with torch.no_grad():
                told = base.predict(latents[photos], conditioning[asked], noise[photos], u[photos])
            error = (told - target[photos]).square().flatten(1).mean(1)
            errors[photos, asked] += error.cpu()
            yield
    best: list[int] = errors.argmin(1).tolist()
    return best


def _chances(
    latents: Tensor, seed: int, levels: Sequence[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Noise like the latents, the same on every device, and each of the levels, (photos,)."""
    generator = generator_at(seed, "annotations")
    for level in levels:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        yield noise, torch.full((len(latents),), level, device=latents.device)


def threshold(values: Tensor) -> Tensor:
    """The value that parts the others into two kinds with the least variance in each.

    Otsu 1979, "A threshold selection method from gray-level histograms", without the histogram.
    """
    ordered = values.flatten().double().sort().values
    total = ordered.cumsum(0)
    below = torch.arange(1, len(ordered), dtype=torch.double) / len(ordered)
    gap = (total[-1] - total[:-1]) / (1 - below) - total[:-1] / below
    return ordered[1:][(below * (1 - below) * gap.square()).argmax()].to(values)
