"""What each place of a photo counts in the loss: all of the subject, and little of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from personalization.data.frames import Frame
from personalization.data.photos import Photo


def whites(
    photos: Sequence[Photo], frames: Sequence[Frame], grid: tuple[int, int]
) -> list[Tensor | None]:
    """Of each photo (1, h, w): how much of each place of the latents' `grid` its mask has white."""
    masks = [frame.mask(photo) for photo, frame in zip(photos, frames, strict=True)]
    return [None if mask is None else _on_grid(mask, grid) for mask in masks]


def _on_grid(mask: Image.Image, grid: tuple[int, int]) -> Tensor:
    return adaptive_avg_pool2d(torch.from_numpy(np.array(mask))[None].float() / 255, grid)


def weights(
    whites: Sequence[Tensor | None], grid: tuple[int, int], background: float
) -> Tensor | None:
    """(photos, 1, h, w) with a mean of 1 in each photo, or None where no photo has a mask.

    A place counts 1 where the mask is white and `background` where it is black, and in between by
    how much of it is white; divided by the mean, so that a small subject teaches as much as a large
    one. A photo without a mask counts the same everywhere.
    """
    if all(white is None for white in whites):
        return None
    found = []
    for white in whites:
        weight = torch.ones(1, *grid)
        if white is not None:
            weight = background + (1 - background) * white
        # Nothing painted, and a background that does not count: all of it does.
        found.append(weight / weight.mean() if weight.any() else torch.ones_like(weight))
    return torch.stack(found)
