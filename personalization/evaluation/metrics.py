"""What is measured, as pure functions over features.

Features are (n, d) of length one, so that a product of two is their cosine. Each function gives one
value for each output and leaves the averaging to `interval`, which knows how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from personalization.evaluation.figures import Estimate

RESAMPLES = 2000

NEARLY = 0.9  # of the best product: what may be given up for a class that stays as it was
THUMB = 16  # pixels, a side
NEAR_COPY = 0.965  # in the drawn world: same subject elsewhere 0.96 at most, redrawn 0.94 to 0.99


def interval(values: Tensor, over: Tensor | None = None, *, seed: int = 0) -> Estimate:
    """Mean and bootstrap interval of `values` (n,): percentiles, expanded for a small n.

    With `over` (n,) it is the ratio of the two means, resampled in pairs: values of the same prompt
    and seed stay together. Two models are compared by the interval of their differences. Plain
    percentiles of eight values hold the truth in 88 cases of 100; expanded (Hesterberg 2015, "What
    teachers should know about the bootstrap") in about the 95 that they claim.
    """
    values = values.double()
    below = torch.ones_like(values) if over is None else over.double()
    n = len(values)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(n, (RESAMPLES, n), generator=generator)
    means = values[picks].mean(1) / below[picks].mean(1)
    reach = _student(max(1, n - 1)) * math.sqrt(n / max(1, n - 1))
    tail = math.erfc(reach / math.sqrt(2)) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    mean = float(values.mean() / below.mean())
    return Estimate(mean, min(low, mean), max(high, mean))


def _student(freedom: int) -> float:
    """The 97.5th percentile of Student's t (Abramowitz and Stegun 26.7.5)."""
    z = 1.959964
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def subject_fidelity(outputs: Tensor, photos: Tensor) -> Tensor:
    """(n,): mean similarity of each output to the photos (DINO, CLIP-I of Ruiz et al. 2022)."""
    return (outputs @ photos.T).mean(1)


def among_themselves(photos: Tensor) -> Tensor:
    """(m,): the mean similarity of each photo to the others; empty where there are no others."""
    m = len(photos)
    if m < 2:
        return photos.new_empty(0)
    return ((photos @ photos.T).sum(1) - 1) / (m - 1)


def prompt_fidelity(outputs: Tensor, texts: Tensor) -> Tensor:
    """(n,): the similarity of each output to its own prompt (CLIP-T of Ruiz et al. 2022)."""
    return (outputs * texts).sum(1)


def preservation(class_pictures: Tensor, photos: Tensor) -> Tensor:
    """(n,): how like the subject the class without the token is (PRES of Ruiz et al. 2022).

    Lower is better; the untouched base's own is what to compare it with.
    """
    return subject_fidelity(class_pictures, photos)


def diversity(pictures: Tensor) -> Tensor:
    """(n,): the mean distance of each picture to the others (DIV of Ruiz et al. 2022).

    Distance is one minus the similarity, where the paper has LPIPS. Higher is better.
    """
    return 1 - among_themselves(pictures)


def moved(pictures: Tensor, before: Tensor) -> Tensor:
    """(n,): the distance of each picture to the one of the same prompt and seed before."""
    return 1 - (pictures * before).sum(1)


def thumbs(pictures: Sequence[Image.Image]) -> Tensor:
    """(n, d) of length one: layout and colours, as pictures of 16 pixels without their mean.

    What a judge calls alike may be the same thing elsewhere; here only the same picture is alike.
    """
    import numpy as np

    small = [p.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX) for p in pictures]
    flat = torch.stack([torch.from_numpy(np.array(s)).float().flatten() for s in small])
    return normalize(flat - flat.mean(1, keepdim=True), dim=1)


def copying(outputs: Tensor, photos: Tensor) -> tuple[Tensor, Tensor, float]:
    """Nearest photo of each output, its similarity, and the similarity from which it is a copy.

    outputs: (n, d), photos: (m, d), of `thumbs`. A copy is an output that is nearer to a photo
    than any two photos are to each other (Somepalli et al. 2023, arXiv 2212.03860, compare with
    the training set's own distances), and near at all.
    """
    similarity, nearest = (outputs @ photos.T).max(1)
    between_photos = photos @ photos.T
    between_photos.fill_diagonal_(-1)
    nearest_photos = float(between_photos.max()) if len(photos) > 1 else -1.0
    return nearest, similarity, max(NEAR_COPY, min(nearest_photos, 0.99))


def attainable(photos: Tensor, pictures: Tensor, text: Tensor) -> float:
    """How much of the base's prompt fidelity the subject itself leaves, at most 1.

    photos: (m, d) of the subject; pictures: (n, d) that the untouched base draws of its class;
    text: (d,), which names the class. A subject is seldom what a base draws of its class: where its
    own photos are less like the text, nothing that is true to them can be more. Of a style, (m, d)
    each: a text says what a photo shows, and the base draws it.
    """
    drawn = float((pictures * text).sum(-1).mean())
    shown = float((photos * text).sum(-1).mean())
    return min(1.0, max(0.0, shown) / drawn) if drawn > 0 else 1.0


def balance(subject: Tensor, prompt: Tensor, attainable: float = 1.0) -> list[int]:
    """The strengths with the best product of the two, best first, down to `NEARLY` of the best.

    subject, prompt: (strengths,) each, relative to references. More than a reference is not better
    than it: above the photos' own fidelity lies copying, and above the prompt's `attainable` share
    is what looks less like the subject.
    """
    products = subject.clamp(max=1) * prompt.clamp(max=attainable)
    order = products.argsort(descending=True, stable=True).tolist()
    best = products[order[0]]
    # What is worse than the base has a product below 0, of which nine tenths are more.
    return [i for i in order if products[i] >= min(best, NEARLY * best)]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's: of the ranks, ties averaged."""

    def ranks(values: Tensor) -> Tensor:
        below = (values[:, None] > values).sum(1)
        equal = (values[:, None] == values).sum(1)
        return (below + (equal - 1) / 2).double()

    x, y = ranks(a) - ranks(a).mean(), ranks(b) - ranks(b).mean()
    return float((x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-12))
