"""Maps that say where things go: what a structure adapter is given beside the prompt.

Each is a picture of the size that will be drawn; edges are found here (Canny 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

LOW, HIGH = 60, 140  # Canny's thresholds of the gradient, of 8-bit greys
SIGMA = 0.8  # pixels that are blurred before, against noise


def edges(picture: Image.Image) -> Image.Image:
    """The picture's edges, one pixel wide: white on black, mode L, of the same size."""
    import cv2  # which takes a tenth of a second, and most visitors draw no map

    grey = np.asarray(picture.convert("L"))
    return Image.fromarray(cv2.Canny(cv2.GaussianBlur(grey, (0, 0), SIGMA), LOW, HIGH))


MapKind = Literal["edges", "depth", "lineart", "pose"]
MAPS: dict[MapKind, str] = {
    "edges": "edges, white on black",
    "depth": "depth, white where it is near",
    "lineart": "lines, white on black",
    "pose": "a skeleton in OpenPose’s colours",
}
"""What each is; those that are not in `MAKERS` are made by a model, drawn, or brought."""

MAKERS: dict[MapKind, Callable[[Image.Image], Image.Image]] = {"edges": edges}


def fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest part around its middle that has that shape, in that size; RGB.

    size: (width, height)
    """
    return ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.LANCZOS)
