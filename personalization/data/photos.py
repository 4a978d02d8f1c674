"""Photos: what a visitor brings, made into upright RGB pictures, and what is wrong with them.

A photo leaves this module as pixels only: EXIF, with the place where it was taken, stays behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from personalization.data.image_file import as_rgb, open_image, size_words
from personalization.data.mask_file import as_mask
from personalization.errors import PhotoError

KEPT_SIDE = 1536  # pixels; the shorter side of a larger photo is brought down to it


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
