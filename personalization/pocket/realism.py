"""How near the pocket's pictures are to real drawings, beyond the facts that a classifier reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import pictures
from .world import Scene

SHARPEST = 0.05  # the share of pixels that counts as outlines


def variant(scene: Scene, other: Scene) -> Scene:
    """Another drawing of the same caption: all that words leave open is taken from `other`."""
    return replace(
        scene,
        x=other.x,
        scale=other.scale,
        flip=other.flip,
        lean=other.lean,
        individual=other.individual,
        seed=other.seed,
    )


def variants(scenes: list[Scene], seed: int) -> list[Scene]:
    """For each scene another drawing of the same caption."""
    numbers = np.random.default_rng([seed, 8]).integers(pictures.UNSEEN, size=len(scenes))
    pairs = zip(scenes, numbers, strict=True)
    return [variant(scene, pictures.scene_at(seed, int(n))) for scene, n in pairs]


def frechet(some: np.ndarray, others: np.ndarray) -> float:
    """The squared Fréchet distance of two sets of embeddings (n, d), taken as normal.

    Heusel et al. 2017, arXiv:1706.08500: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)). Of finite sets
    it is above nothing even where both have the same source: see it beside such a pair.
    """
    a, b = some.astype(np.float64), others.astype(np.float64)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    between = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * between)


def outline_energy(images: np.ndarray) -> float:
    """The mean squared gradient of grey levels over each picture's steepest pixels.

    images: (n, h, w, 3) uint8; the gradient by central differences, in levels a pixel.
    """
    energies = []
    for image in images:
        grey = image.astype(np.float32).mean(axis=2)
        down, across = np.gradient(grey)
        steep = np.sort((down**2 + across**2).ravel())
        energies.append(steep[-max(1, int(len(steep) * SHARPEST)) :].mean())
    return float(np.mean(energies))
