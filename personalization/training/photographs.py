"""Which photos lie outside the world that a base draws: photographs, on one that knows cartoons.

    outside(spec, photos) -> the photos that it will make patches of

A base that knows little of the world has a file beside its weights, `photographs.json`: a linear
discriminant of what its encoder sees in drawings and in photographs, and a threshold; a base
without that file draws photographs. `tests.benchmarks.photographs` fits and writes it. The
encoder is loaded anew, on the CPU, so that nothing waits for the base and no GPU is touched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from personalization.bases.catalog import BaseSpec
from personalization.data.frames import crop
from personalization.data.photos import Photo

FILE = "photographs.json"
DISTANCES = range(3, 25)  # pixels, of a lattice that is looked for
FREQUENCIES = range(4, 48)  # cycles a frame, of 64, over which natural pictures fall as a power


@dataclass(frozen=True)
class Discriminant:
    """Photograph where `weights` · (features - mean) / spread exceeds `threshold`."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    threshold: float

    def scores(self, features: Tensor) -> Tensor:
        """features: (n, d); (n,), above nothing for a photograph."""
        mean, spread, weights = map(torch.tensor, (self.mean, self.spread, self.weights))
        return (features - mean) / spread @ weights - self.threshold


def outside(spec: BaseSpec, photos: Sequence[Photo]) -> list[Photo]:
    """Those that the base has never seen the like of, as far as it can tell."""
    if not photos or not (path := Path(spec.source) / FILE).is_file():
        return []
    pictures = [crop(photo, spec.size) for photo in photos]
    scores = _discriminant(path).scores(features(spec.source, pictures))
    return [photo for photo, score in zip(photos, scores.tolist(), strict=True) if score > 0]


def features(source: str, pictures: Sequence[Image.Image]) -> Tensor:
    """(n, d) float32: of the encoder in that folder, and of the pictures themselves."""
    rows = [_features(_encoder(source), picture) for picture in pictures]
    return torch.cat(rows)


@lru_cache(maxsize=2)
def _encoder(source: str) -> Any:
    whole = AutoencoderKL.from_pretrained(source, subfolder="vae", local_files_only=True)
    return whole.eval().encoder


@lru_cache(maxsize=2)
def _discriminant(path: Path) -> Discriminant:
    said = json.loads(path.read_text())
    mean, spread, weights = (tuple(said[name]) for name in ("mean", "spread", "weights"))
    return Discriminant(mean, spread, weights, said["threshold"])


@torch.inference_mode()
def _features(encoder: Any, picture: Image.Image) -> Tensor:
    """(1, d): statistics of the encoder's first block, and of the picture itself."""
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    levels = pixels.view(picture.height, picture.width, 3).permute(2, 0, 1).float()
    seen = encoder.down_blocks[0](encoder.conv_in(levels[None] / 127.5 - 1))
    channels = seen[0].flatten(1)
    texture = [channels.mean(1), (channels.std(1) + 1e-4).log()]
    own = [_steps(levels), _spectrum(levels), _lattice(levels), _edges(levels)]
    return torch.cat([*texture, *own])[None]


def _steps(levels: Tensor) -> Tensor:
    """(4,): how many neighbours are alike or nearly so, and how steep the others are.

    levels: (3, height, width) from 0 to 255. Photographs slope softly nearly everywhere.
    """
    across = levels.diff(dim=2).abs().amax(0)[:-1]
    down = levels.diff(dim=1).abs().amax(0)[:, :-1]
    steep = torch.maximum(across, down)
    grey = levels.mean(0).diff(dim=1)
    fourth = (grey - grey.mean()).pow(4).mean()
    return torch.stack(
        [
            (steep < 2).float().mean(),
            ((steep >= 4) & (steep < 16)).float().mean(),
            (fourth / (grey.var() ** 2 + 1e-6) + 1e-6).log(),
            (steep.mean() + 0.1).log(),
        ]
    )


def _spectrum(levels: Tensor) -> Tensor:
    """(2,): the slope of log power over log frequency, and how far from a line that is.

    Natural pictures fall as a power of the frequency (Field 1987, "Relations between the statistics
    of natural images and the response properties of cortical cells"); drawings less evenly.
    """
    grey = levels.mean(0)
    side = min(grey.shape)
    window = torch.hann_window(side, periodic=False)
    centred = (grey[:side, :side] - grey.mean()) * window[:, None] * window
    power = torch.fft.fft2(centred).abs().square()
    frequency = torch.fft.fftfreq(side, 1 / side)
    rings = torch.hypot(frequency[:, None], frequency).long().flatten()
    sums = torch.zeros(int(rings.max()) + 1).index_add(0, rings, power.flatten())
    means = sums / torch.bincount(rings)
    x = torch.tensor([float(f) for f in FREQUENCIES]).log()
    y = (means[list(FREQUENCIES)] + 1e-3).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    rest = y - y.mean() - slope * (x - x.mean())
    return torch.stack([slope, rest.std()])


def _lattice(levels: Tensor) -> Tensor:
    """(4,): how strongly steps repeat by one distance: their sizes, then they; larger, smaller way.

    Pixel art, halftone and hatching lie on a lattice, photographs on none.
    """
    grey = levels.mean(0)
    sizes, signed = [], []
    for along in (0, 1):
        steps = grey.diff(dim=along)
        line = steps.abs().clamp_max(64).mean(1 - along)
        sizes.append(_repeating((line - line.mean())[None]))
        signed.append(_repeating(steps if along else steps.T))
    return torch.stack([max(sizes), min(sizes), max(signed), min(signed)])


def _repeating(lines: Tensor) -> Tensor:
    """The highest peak of the autocorrelation over its neighbours. lines: (n, length)."""
    length = lines.shape[1]
    power = torch.fft.rfft(lines, 2 * length).abs().square().mean(0)
    correlation = torch.fft.irfft(power)[:length]
    correlation = correlation / (correlation[0] + 1e-3)
    near, far = DISTANCES.start, DISTANCES.stop
    beside = (correlation[near - 1 : far - 1] + correlation[near + 1 : far + 1]) / 2
    return (correlation[near:far] - beside).max()


def _edges(levels: Tensor) -> Tensor:
    """(3,): of the steepest places: how wide the slope, how many level or upright, how steep.

    A lens has slopes of several pixels, a pen has none.
    """
    grey = levels.mean(0)
    across, down = grey.diff(dim=1)[:-1], grey.diff(dim=0)[:, :-1]
    steep = torch.hypot(across, down)
    least = torch.quantile(steep, 0.93)
    top = steep >= least
    step = across[:, 1:-1].abs()
    wide = (grey[:-1, 3:] - grey[:-1, :-3]).abs()
    there = step >= torch.quantile(step, 0.95)
    width = (wide[there].mean() + 1) / (step[there].mean() + 1)
    angle = torch.atan2(down[top].abs(), across[top].abs() + 1e-6)
    straight = ((angle < 0.12) | (angle > 1.45)).float().mean()
    return torch.stack([width.log(), straight, (least + 1).log()])
