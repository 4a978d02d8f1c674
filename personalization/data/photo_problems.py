"""What is wrong with photos that are to be learned from: a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image

from personalization.data.frames import Canvas, Frame, frame
from personalization.data.image_file import size_words
from personalization.data.photos import Photo

FEW = 3  # photos
SHARP = 40.0  # variance of the Laplacian of the crop, in grey levels squared
ALIKE = 5  # bits of 64 in which the hashes of two almost equal photos differ at most
LITTLE = 0.5  # of a photo that is in its frame


def problems(photos: Sequence[Photo], canvas: Canvas) -> list[str]:
    """What will make learning on that canvas worse: a sentence each, with the file's name."""
    found = []
    if 0 < len(photos) < FEW:
        few = "is only one photo" if len(photos) == 1 else "are only two photos"
        found.append(
            f"There {few}: the background will be learned with the subject. "
            "Add some more, in other places and from other sides."
        )
    for photo in photos:
        seen = frame(photo, canvas)
        if seen.enlarged:
            found.append(
                f"{photo.name} is {size_words(photo.image)} pixels and will be enlarged to "
                f"{canvas.size}: it teaches a soft look. Use a larger one."
            )
        if canvas.framing != "subject" and seen.share < LITTLE:
            found.append(_narrow(photo, seen, canvas))
        if _sharpness(seen.crop(photo) if not seen.enlarged else photo.image) < SHARP:
            found.append(f"{photo.name} looks blurry. Use a sharper one, or leave it out.")
    hashes = [_hash(photo) for photo in photos]
    for (a, one), (b, other) in combinations(zip(photos, hashes, strict=True), 2):
        if np.count_nonzero(one != other) <= ALIKE:
            found.append(
                f"{a.name} and {b.name} are almost the same. "
                "Leave one out: it adds nothing, and the other would count twice."
            )
    return found


def _narrow(photo: Photo, seen: Frame, canvas: Canvas) -> str:
    square, remedy = "frame", "Crop it around the subject."
    if canvas.framing == "crop":
        square, remedy = "square", "Let photos keep their shape, or crop it around the subject."
    return (
        f"{photo.name} is long and narrow: {1 - seen.share:.0%} of it lies outside the {square} "
        f"that is learned. {remedy}"
    )


def _sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) in the sharpest of 4 × 4 tiles.

    A sharp subject before a soft background is no blurry photo.
    """
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    laplacian = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    rows = np.array_split(laplacian, 4)
    return max(float(tile.var()) for row in rows for tile in np.array_split(row, 4, axis=1))


def _hash(photo: Photo) -> np.ndarray:
    """64 bits: is each cell of 8 × 8 brighter than its neighbour to the left ("dHash")."""
    small = photo.image.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()
