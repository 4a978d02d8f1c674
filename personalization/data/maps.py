"""Maps that say where things go: what a structure adapter is given beside the prompt.

Each is a greyscale picture of the size that will be drawn: edges white on black (Canny 1986), depth
white where it is near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

LOW, HIGH = 60, 140  # Canny's thresholds of the gradient, of 8-bit greys
SIGMA = 0.8  # pixels that are blurred before, against noise


def edges(picture: Image.Image) -> Image.Image:
    """The picture's edges, one pixel wide: white on black, mode L, of the same size."""
    import cv2  # which takes a tenth of a second, and most visitors draw no map

    grey = np.asarray(picture.convert("L"))
    return Image.fromarray(cv2.Canny(cv2.GaussianBlur(grey, (0, 0), SIGMA), LOW, HIGH))


MapKind = Literal["edges"]
MAPS: dict[MapKind, Callable[[Image.Image], Image.Image]] = {"edges": edges}


def map_of(kind: MapKind, picture: Image.Image) -> Image.Image:
    """That map of a picture, mode L, of its size."""
    return MAPS[kind](picture)
