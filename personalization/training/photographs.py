"""Which photos lie outside the world that a base draws: photographs, on one that knows cartoons.

    outside(spec, photos) -> the photos that it will make patches of

A base that knows little of the world has a file beside its weights, `photographs.json`: a linear
discriminant of what its autoencoder sees in drawings and in photographs, and a threshold; a base
without that file draws photographs. `tests.benchmarks.photographs` fits and writes it. The
autoencoder is loaded anew, on the CPU, so that nothing waits for the base and no GPU is touched.
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
from torch.nn.functional import avg_pool2d

from personalization.bases.catalog import BaseSpec
from personalization.data.frames import crop
from personalization.data.photos import Photo

FILE = "photographs.json"
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
    """(n, d) float32: of the autoencoder in that folder, and of the pictures themselves."""
    rows = [_features(_autoencoder(source), picture) for picture in pictures]
    return torch.cat(rows)


@lru_cache(maxsize=2)
def _autoencoder(source: str) -> Any:
    return AutoencoderKL.from_pretrained(source, subfolder="vae", local_files_only=True).eval()


@lru_cache(maxsize=2)
def _discriminant(path: Path) -> Discriminant:
    said = json.loads(path.read_text())
    mean, spread, weights = (tuple(said[name]) for name in ("mean", "spread", "weights"))
    return Discriminant(mean, spread, weights, said["threshold"])


@torch.inference_mode()
def _features(autoencoder: Any, picture: Image.Image) -> Tensor:
    """(1, d): what is lost by the autoencoder, its first block's statistics, the picture's."""
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    levels = pixels.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2).float()
    images = levels / 127.5 - 1
    seen: list[Tensor] = []
    block = autoencoder.encoder.down_blocks[0]
    hook = block.register_forward_hook(lambda _block, _given, answer: seen.append(answer))
    try:
        latents = autoencoder.encode(images).latent_dist.mean
    finally:
        hook.remove()
    lost = (autoencoder.decode(latents).sample.clamp(-1, 1) - images).square().mean(1).flatten()
    grey = images.mean(1, keepdim=True)
    contrast = (avg_pool2d(grey * grey, 5, 1, 2) - avg_pool2d(grey, 5, 1, 2).square()).clamp_min(0)
    losses = torch.stack(
        [
            lost.mean().log10(),
            (lost.mean() / (contrast.mean() + 1e-3)).log10(),
            (lost.median() + 1e-7).log10(),
        ]
    )
    channels = seen[0][0].flatten(1)
    texture = [channels.mean(1), (channels.std(1) + 1e-4).log()]
    return torch.cat([losses, *texture, _steps(levels[0]), _spectrum(levels[0])])[None]


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
