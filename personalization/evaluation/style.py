"""How a picture is made, apart from what it shows: how it changes from pixel to pixel.

An encoder that learned to name things can be blind to a look: the pocket's sees no more of pixel
art in pixel art than in any picture. What an edge is like, how much is flat, and at which scale,
says nothing of what is shown and much of how (the statistics of a texture: Portilla and Simoncelli
2000, "A parametric texture model based on joint statistics of complex wavelet coefficients"). They
are no measure by themselves: what counts is in which direction pictures differ from those that the
untouched base draws of the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from personalization.bases.encoders import EncoderPair, ImageEncoder
from personalization.evaluation import metrics
from personalization.evaluation.figures import ROOM

SCALES = (1, 2, 4, 8)  # pixels that are averaged, a side
REACHES = (1, 2)  # pixels between two that are compared, at each scale
FLAT = (0.01, 0.05, 0.15)  # a change that is less than this is none, of a range of 1
LEAST = 1e-3  # added before a logarithm
# ITU-R BT.601: brightness, and two differences of colours.
_YCBCR = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


class StyleStatistics:
    """Pictures by how far their statistics are from those of `plain` ones, in their deviations."""

    name = "changes from pixel to pixel"

    def __init__(self, plain: Sequence[Image.Image]):
        known = statistics(plain)
        self.mean, self.std = known.mean(0), known.std(0)
        self.std = self.std.clamp(min=1e-3 * float(self.std.max()))

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, d), of length one."""
        return normalize((statistics(pictures) - self.mean) / self.std, dim=-1)


def statistics(pictures: Sequence[Image.Image]) -> Tensor:
    """(n, d): at each scale how large the changes are, how many are none, how many are corners."""
    return torch.stack([_statistics(picture) for picture in pictures])


def _statistics(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
    planes = torch.einsum("ij,jhw->ihw", _YCBCR, pixels)
    found = []
    for scale in SCALES:
        scaled = avg_pool2d(planes, scale)
        found += [_of_changes(scaled, reach) for reach in REACHES]
    colours = planes.flatten(1)
    found += [colours.mean(1), colours.std(1), colours[1:].norm(dim=0).mean(0, keepdim=True)]
    return torch.cat(found)


def _of_changes(planes: Tensor, reach: int) -> Tensor:
    """planes: (3, h, w)."""
    across = (planes[:, :-reach, reach:] - planes[:, :-reach, :-reach]).abs()
    down = (planes[:, reach:, :-reach] - planes[:, :-reach, :-reach]).abs()
    both = torch.stack([across, down]).flatten(2)  # (2, 3, places)
    size = both.mean(2)
    spread = both.square().mean(2).sqrt()
    flat = [(both < limit).float().mean(2) for limit in FLAT]
    corners = (both[0] * both[1]).mean(1).sqrt() / (size.mean(0) + LEAST)
    parts = [(size + LEAST).log(), (spread + LEAST).log(), *flat, corners]
    return torch.cat([part.flatten() for part in parts])


def room(
    encoder: ImageEncoder, photos: Sequence[Image.Image], plain: Sequence[Image.Image]
) -> float:
    """How much more the photos are like each other than `plain` pictures are like them."""
    seen = encoder.images(photos)
    among = metrics.among_themselves(seen)
    if not len(among):
        return 0.0
    return float(among.mean() - metrics.subject_fidelity(encoder.images(plain), seen).mean())


def telling(
    pair: EncoderPair, photos: Sequence[Image.Image], plain: Sequence[Image.Image]
) -> EncoderPair:
    """The pair, by statistics in the subject's place where they alone tell the photos' style.

    `plain` pictures are the untouched base's of the report's prompts, at least two.
    """
    if room(pair.subject, photos, plain) >= ROOM:
        return pair
    found = StyleStatistics(plain)
    return replace(pair, subject=found) if room(found, photos, plain) >= ROOM else pair
