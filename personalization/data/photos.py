"""Photos: what a visitor brings, made into upright RGB pictures, and what is wrong with them.

A photo leaves this module as pixels only: EXIF, with the place where it was taken, stays behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from personalization.data.image_file import as_rgb, open_image, size_words
from personalization.data.mask_file import as_mask, subject_box
from personalization.errors import PhotoError

KEPT_SIDE = 1536  # pixels; the shorter side of a larger photo is brought down to it

FEW = 3  # photos
SHARP = 40.0  # variance of the Laplacian of the crop, in grey levels squared
ALIKE = 5  # bits of 64 in which the hashes of two almost equal photos differ at most
LONG = 2.0  # longer side by shorter side


@dataclass(frozen=True)
class Photo:
    """A picture to learn from: RGB, upright, without metadata.

    `mask` is L and of the image's size, white where the subject is. `caption` is what a person says
    of this photo. Raises `PhotoError` where the mask has another size.
    """

    name: str
    image: Image.Image
    mask: Image.Image | None = None
    caption: str | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.size != self.image.size:
            raise PhotoError(
                f"The mask of {self.name} is {size_words(self.mask)} pixels, "
                f"the photo {size_words(self.image)}. Draw the mask on this photo again.",
                field="photos",
            )


def open_photo(path: Path, name: str | None = None) -> Photo:
    """Open one file: turned as its EXIF says, in sRGB, on white where transparent.

    An animation gives its first frame, 16 bits become 8, and a photo larger than any base needs is
    brought down to `KEPT_SIDE`. Raises `PhotoError`, which names the file.
    """
    path = Path(path)
    name = name or path.name
    with open_image(path, name) as file:
        image = as_rgb(file)
    return Photo(name, _brought_down(image))


def open_mask(path: Path) -> Image.Image:
    """The mask that a file holds, L, white where the subject is: what is opaque, or light.

    As large as `open_photo` makes a photo of its size. Raises `PhotoError`, which names the file.
    """
    with open_image(path, path.name) as file:
        mask = as_mask(file)
    return _brought_down(mask)


def _brought_down(image: Image.Image) -> Image.Image:
    shrink = min(image.size) / KEPT_SIDE
    if shrink > 1:
        width, height = (round(side / shrink) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image


def open_photos(paths: Iterable[Path]) -> tuple[list[Photo], list[PhotoError]]:
    """Open each file; those that cannot be used come back as errors, and the others are kept.

    A file called as another with "-mask" or, as OneTrainer has it, "-masklabel" behind is the mask
    of that photo, as `open_mask` reads it.
    """
    photos: dict[str, Photo] = {}
    masks: list[tuple[str, str, Image.Image]] = []
    errors: list[PhotoError] = []
    for path in map(Path, paths):
        stem = path.stem.removesuffix("-masklabel").removesuffix("-mask")
        try:
            if stem == path.stem:
                photos[str(path)] = open_photo(path)
            else:
                masks.append((path.name, stem, open_mask(path)))
        except PhotoError as error:
            errors.append(error)
    for name, stem, mask in masks:
        owners = [key for key in photos if Path(key).stem == stem]
        try:
            if not owners:
                raise PhotoError(
                    f"{name} is a mask, and no photo called {stem} came with it. "
                    "Add the photo and its mask together.",
                    field="photos",
                )
            for key in owners:
                photos[key] = replace(photos[key], mask=mask)
        except PhotoError as error:
            errors.append(error)
    return list(photos.values()), errors


def crop(photo: Photo, size: int) -> Image.Image:
    """The square that training sees, RGB of `size` × `size`: the largest around the middle.

    With a mask it lies around the middle of the subject, as far as the photo reaches.
    """
    return photo.image.resize((size, size), Image.Resampling.LANCZOS, box=_square(photo))


def crop_mask(photo: Photo, size: int) -> Image.Image | None:
    """The mask under `crop`, L of `size` × `size`, or None where the photo has none."""
    if photo.mask is None:
        return None
    return photo.mask.convert("L").resize((size, size), Image.Resampling.BOX, box=_square(photo))


def problems(photos: Sequence[Photo], size: int) -> list[str]:
    """What will make learning at `size` pixels worse: a sentence each, with the file's name."""
    found = []
    if 0 < len(photos) < FEW:
        few = "is only one photo" if len(photos) == 1 else "are only two photos"
        found.append(
            f"There {few}: the background will be learned with the subject. "
            "Add some more, in other places and from other sides."
        )
    for photo in photos:
        width, height = photo.image.size
        if min(width, height) < size:
            found.append(
                f"{photo.name} is {size_words(photo.image)} pixels and will be enlarged to {size}: "
                "it teaches a soft look. Use a larger one."
            )
        if max(width, height) > LONG * min(width, height):
            lost = 1 - min(width, height) / max(width, height)
            found.append(
                f"{photo.name} is long and narrow: {lost:.0%} of it lies outside the square "
                "that is learned. Crop it around the subject."
            )
        if _sharpness(crop(photo, min(size, width, height))) < SHARP:
            found.append(f"{photo.name} looks blurry. Use a sharper one, or leave it out.")
    hashes = [_hash(photo) for photo in photos]
    for (a, one), (b, other) in combinations(zip(photos, hashes, strict=True), 2):
        if np.count_nonzero(one != other) <= ALIKE:
            found.append(
                f"{a.name} and {b.name} are almost the same. "
                "Leave one out: it adds nothing, and the other would count twice."
            )
    return found


def _square(photo: Photo) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that is learned."""
    width, height = photo.image.size
    side = min(width, height)
    x, y = width / 2, height / 2
    subject = subject_box(photo.mask) if photo.mask is not None else None
    if subject:
        x, y = (subject[0] + subject[2]) / 2, (subject[1] + subject[3]) / 2
    left = int(min(max(x - side / 2, 0), width - side))
    top = int(min(max(y - side / 2, 0), height - side))
    return left, top, left + side, top + side


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
