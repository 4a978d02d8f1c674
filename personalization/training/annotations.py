"""What the base itself sees in photos, before it learns from them (`Recipe.annotate`).

Of a thing, where it is, so that photos without a mask teach little of what lies around it. Of a
style, what its pictures show, so that captions explain that and the look alone is left to learn.
Both ask the denoiser, which is there wherever something can be taught.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from personalization.bases.base import Base
from personalization.bases.encoders import encoder_pair
from personalization.training.batches import generator_at

# Levels of noise: below them the denoiser hardly asks the prompt.
OF_SUBJECT = (0.4, 0.4, 0.6, 0.6, 0.8, 0.8)
OF_THING = (0.5, 0.6)
PER_PHOTO = 2 * len(OF_SUBJECT)  # passes that a subject is found in
SMOOTHED = 3  # latents a side
PER_FORWARD = 16  # samples


@torch.no_grad()
def subject_maps(base: Base, latents: Tensor, class_prompt: str, seed: int) -> Tensor:
    """(photos, h, w) in [0, 1]: how far each place of the latents is the subject's.

    latents: (photos, channels, h, w). DiffEdit's mask (Couairon et al. 2022, arXiv 2210.11427,
    3.2): where the denoiser expects something else of the class's prompt than of none. Its mean
    over channels, noises and levels, smoothed; 1 from Otsu's threshold on, which parts the subject
    from what is around it, and below that its share of it.
    """
    found = torch.zeros(len(latents), *latents.shape[2:])
    asked = base.encode_prompts([class_prompt, ""])
    for noise, u in _chances(latents, seed, OF_SUBJECT):
        named, unnamed = (
            base.predict(latents, asked[[which] * len(latents)], noise, u) for which in (0, 1)
        )
        found += (named - unnamed).abs().mean(1).cpu()
    smooth = avg_pool2d(found[:, None], SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)[:, 0]
    return torch.stack([(each / threshold(each)).clamp(max=1) for each in smooth])


def described(base: Base, photos: Sequence[Image.Image], latents: Tensor, seed: int) -> list[str]:
    """Of each of the photos, which of the base's classes it shows in which of its scenes.

    photos and their latents (photos, channels, h, w). Which thing it is, the denoiser tells through
    looks that it never saw, where the base's encoder does not; of scenes it is the other way round
    (docs/LOG.md). Each errs, which costs less than to say nothing.
    """
    spec = base.spec
    asked = [f"a photo of {thing}" for thing in spec.classes]
    things = [spec.classes[i] for i in best_named(base, latents, asked, seed)]
    encoder = encoder_pair(spec, base.device).prompt
    scenes = encoder.texts([f"a photo of a thing {scene}" for scene in spec.scenes])
    where = (encoder.images(photos) @ scenes.T).argmax(1).tolist()
    return [f"{thing} {spec.scenes[i]}" for thing, i in zip(things, where, strict=True)]


@torch.no_grad()
def best_named(base: Base, latents: Tensor, prompts: Sequence[str], seed: int) -> list[int]:
    """Which of the prompts says best what each of the latents (photos, channels, h, w) shows.

    The denoiser as a classifier (Li et al. 2023, arXiv 2303.16203): the prompt with which it errs
    least, over the same noise for all.
    """
    conditioning = base.encode_prompts(list(prompts))
    errors = torch.zeros(len(latents), len(prompts))
    pairs = [(photo, prompt) for photo in range(len(latents)) for prompt in range(len(prompts))]
    for noise, u in _chances(latents, seed, OF_THING):
        target = base.target(latents, noise, u)
        for start in range(0, len(pairs), PER_FORWARD):
            photos, asked = map(list, zip(*pairs[start : start + PER_FORWARD], strict=True))
            told = base.predict(latents[photos], conditioning[asked], noise[photos], u[photos])
            error = (told - target[photos]).square().flatten(1).mean(1)
            errors[photos, asked] += error.cpu()
    return errors.argmin(1).tolist()


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
