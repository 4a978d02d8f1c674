"""Patterns: marks laid over a figure's body, in figure coordinates, different per individual."""

import numpy as np

from .canvas import ellipse, polygon

HEART = np.array(
    [
        (0, -1),
        (0.9, 0.05),
        (0.95, 0.55),
        (0.5, 0.8),
        (0, 0.42),
        (-0.5, 0.8),
        (-0.95, 0.55),
        (-0.9, 0.05),
    ]
)


def grid(rng: np.random.Generator, step: float, jitter: float) -> list[tuple[float, float]]:
    """Points of a staggered grid over the figure, each moved a little."""
    places = []
    for row, y in enumerate(np.arange(-0.05, 1.15, step)):
        for x in np.arange(-0.75, 0.75, step):
            dx, dy = rng.uniform(-jitter, jitter, 2)
            places.append((x + step / 2 * (row % 2) + dx, y + dy))
    return places


def spotted(rng: np.random.Generator) -> list[np.ndarray]:
    """Large round spots."""
    radius = rng.uniform(0.06, 0.085)
    return [ellipse(x, y, radius, radius) for x, y in grid(rng, radius * 3.1, radius * 0.4)]


def striped(rng: np.random.Generator) -> list[np.ndarray]:
    """Wide stripes at an angle of their own."""
    angle, step = rng.uniform(-0.6, 0.6), rng.uniform(0.15, 0.19)
    across = np.array([np.cos(angle), np.sin(angle)])
    along = np.array([-across[1], across[0]])
    offset = rng.uniform(0, step)
    return [
        np.array([a - along * 2, a + along * 2, b + along * 2, b - along * 2])
        for k in range(-8, 9)
        for a, b in [((k * step + offset) * across, (k * step + offset + step * 0.48) * across)]
    ]


def checkered(rng: np.random.Generator) -> list[np.ndarray]:
    """A chequerboard."""
    step = rng.uniform(0.12, 0.14)
    return [
        polygon((x, y), (x + step, y), (x + step, y + step), (x, y + step))
        for i, x in enumerate(np.arange(-0.8, 0.8, step))
        for j, y in enumerate(np.arange(-0.1, 1.1, step))
        if (i + j) % 2
    ]


def hearts(rng: np.random.Generator) -> list[np.ndarray]:
    """Hearts on a staggered grid."""
    size = rng.uniform(0.065, 0.075)
    return [HEART * size + at for at in grid(rng, size * 2.9, size * 0.15)]


MARKS = {"spotted": spotted, "striped": striped, "checkered": checkered, "hearts": hearts}
