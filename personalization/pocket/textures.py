"""Procedural pictures with the statistics of photographs, so that the autoencoder spares them.

A fifth of the autoencoder's training: a visitor's photo has soft gradients, occlusion edges at
all scales, noise and strokes, none of which the drawn world knows.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .world.vocabulary import RGB


def smooth_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Colour noise with a 1/f-like spectrum, (size, size, 3) in 0..255."""
    total = np.zeros((size, size, 3), np.float32)
    mixing = rng.normal(0, 0.35, (3, 3)) + np.eye(3) * 0.3 + 0.35  # channels are correlated
    for octave in range(1, 7):
        cells = 2**octave
        noise = rng.normal(0, 1, (cells, cells, 3)) @ mixing / cells ** rng.uniform(0.6, 1.1)
        for channel in range(3):
            layer = Image.fromarray(noise[:, :, channel].astype(np.float32))
            total[:, :, channel] += np.asarray(layer.resize((size, size), Image.Resampling.BICUBIC))
    total = total / (np.abs(total).max() + 1e-6)
    return np.clip(rng.uniform(60, 200, 3) + total * rng.uniform(40, 160), 0, 255)


def random_colour(rng: np.random.Generator) -> RGB:
    """Any colour, muted ones more often."""
    grey, tint = rng.uniform(10, 245), rng.normal(0, rng.choice([10, 60]), 3)
    red, green, blue = np.clip(grey + tint, 0, 255).astype(int)
    return int(red), int(green), int(blue)


def dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Discs and polygons that cover one another, radii by a power law (Lee et al. 2001)."""
    image = Image.new("RGB", (size * 2, size * 2), random_colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(20, 140))):
        radius = min(8 / rng.uniform(0.08, 1) ** 1.2, size)
        x, y = rng.uniform(0, size * 2, 2)
        if rng.random() < 0.5:
            box = (x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius)
            pen.ellipse(box, fill=random_colour(rng))
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
            pen.polygon(corners, fill=random_colour(rng))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), np.float32)


def strokes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Text-like and hair-like lines on a soft ground."""
    image = Image.fromarray(smooth_noise(rng, size).astype(np.uint8)).resize((size * 2, size * 2))
    pen = ImageDraw.Draw(image)
    ink = random_colour(rng)
    for _ in range(int(rng.integers(15, 90))):
        x, y = rng.uniform(0, size * 2, 2)
        steps = np.cumsum(rng.normal(0, rng.uniform(4, 20), (5, 2)), axis=0)
        points = [(x + dx, y + dy) for dx, dy in steps]
        pen.line(points, fill=ink, width=int(rng.integers(1, 6)), joint="curve")
        if rng.random() < 0.2:
            ink = random_colour(rng)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), np.float32)


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """One procedural picture, uint8 of shape (size, size, 3)."""
    kind = rng.choice(3, p=(0.3, 0.45, 0.25))
    picture = (smooth_noise, dead_leaves, strokes)[kind](rng, size)
    if kind == 1:  # leaves have shading and grain of their own
        shade = smooth_noise(rng, size)
        picture = picture * (1 - 0.25) + shade * 0.25
    grain = rng.normal(0, rng.choice([0, 2, 8]), picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)
