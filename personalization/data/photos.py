"""Photos: what a visitor brings, made into upright RGB pictures, and what is wrong with them.

A photo leaves this module as pixels only: EXIF, with the place where it was taken, stays behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from personalization.errors import PhotoError

pillow_heif.register_heif_opener()

# Named, so that a file that poses as a photo never reaches Pillow's openers that run programs.
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF")
MIN_SIDE = 64  # pixels
MAX_PIXELS = 64_000_000
KEPT_SIDE = 1536  # pixels; the shorter side of a larger photo is brought down to it
BACKGROUND = (255, 255, 255)  # what shows through where a photo is transparent

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
                f"The mask of {self.name} is {_by(self.mask)} pixels, the photo {_by(self.image)}. "
                "Draw the mask on this photo again.",
                field="photos",
            )


def open_photo(path: Path, name: str | None = None) -> Photo:
    """Open one file: turned as its EXIF says, in sRGB, on white where transparent.

    An animation gives its first frame, 16 bits become 8, and a photo larger than any base needs is
    brought down to `KEPT_SIDE`. Raises `PhotoError`, which names the file.
    """
    path = Path(path)
    name = name or path.name
    try:
        if path.stat().st_size == 0:
            raise PhotoError(f"{name} is empty (0 bytes). Add it again.", field="photos")
        with Image.open(path, formats=FORMATS) as file:
            _check_size(file, name)
            image = _as_rgb(ImageOps.exif_transpose(file))
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{name} is no longer there. Add it again.", field="photos") from error
    except UnidentifiedImageError as error:
        raise PhotoError(
            f"{name} is not a picture that can be read. Use JPEG, PNG, WebP or HEIC.",
            field="photos",
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(_too_large(name, "far too many"), field="photos") from error
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise PhotoError(
            f"{name} is damaged and cannot be read to its end. Save it again, or leave it out.",
            field="photos",
        ) from error
    shrink = min(image.size) / KEPT_SIDE
    if shrink > 1:
        width, height = (round(side / shrink) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return Photo(name, image)


def open_photos(paths: Iterable[Path]) -> tuple[list[Photo], list[PhotoError]]:
    """Open each file; those that cannot be used come back as errors, and the others are kept.

    A file called as another with "-mask" or, as OneTrainer has it, "-masklabel" behind is the mask
    of that photo: white where the subject is.
    """
    photos: dict[str, Photo] = {}
    masks: list[tuple[str, Photo]] = []
    errors: list[PhotoError] = []
    for path in map(Path, paths):
        try:
            photo = open_photo(path)
        except PhotoError as error:
            errors.append(error)
            continue
        stem = path.stem.removesuffix("-masklabel").removesuffix("-mask")
        if stem == path.stem:
            photos[str(path)] = photo
        else:
            masks.append((stem, photo))
    for stem, mask in masks:
        owners = [key for key in photos if Path(key).stem == stem]
        try:
            if not owners:
                raise PhotoError(
                    f"{mask.name} is a mask, and no photo called {stem} came with it. "
                    "Add the photo and its mask together.",
                    field="photos",
                )
            for key in owners:
                photos[key] = replace(photos[key], mask=mask.image.convert("L"))
        except PhotoError as error:
            errors.append(error)
    return list(photos.values()), errors


def crop(photo: Photo, size: int) -> Image.Image:
    """The square that training sees, RGB of `size` × `size`: the largest around the middle.

    With a mask it lies around the middle of the mask, as far as the photo reaches.
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
                f"{photo.name} is {_by(photo.image)} pixels and will be enlarged to {size}: "
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


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise PhotoError(
            f"{name} is {_by(image)} pixels; each side needs at least {MIN_SIDE}. "
            "Use a larger photo.",
            field="photos",
        )
    if width * height > MAX_PIXELS:
        raise PhotoError(_too_large(name, f"{width * height / 1e6:.0f} million"), field="photos")


def _too_large(name: str, count: str) -> str:
    return (
        f"{name} has {count} pixels; at most {MAX_PIXELS / 1e6:.0f} million are read. "
        "Make it smaller first."
    )


def _by(image: Image.Image) -> str:
    return f"{image.width} × {image.height}"


def _as_rgb(image: Image.Image) -> Image.Image:
    """Any mode that Pillow opens, as RGB in sRGB, a new picture that carries no metadata."""
    if image.mode[0] in "IF":  # 16 or 32 bits of grey, which `convert` would clip
        grey = np.asarray(image, dtype=np.float64)
        white = next((w for w in (1.0, 255.0, 65535.0) if grey.max() <= w), grey.max())
        image = Image.fromarray((grey.clip(0) / white * 255).round().astype(np.uint8))
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, BACKGROUND)
        image.paste(layer, mask=layer.getchannel("A"))
    elif image.mode == "P":
        image = image.convert("RGB")
    converted = _in_srgb(image, profile) if profile else None
    pixels = converted or image.convert("RGB")
    return Image.frombytes("RGB", pixels.size, pixels.tobytes())


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture with its colour profile applied, or None where the profile does not fit it.

    Phones photograph in Display P3, and print shops in CMYK: without this both come out wrong.
    """
    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def _square(photo: Photo) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that is learned."""
    width, height = photo.image.size
    side = min(width, height)
    x, y = width / 2, height / 2
    subject = photo.mask.convert("L").getbbox() if photo.mask is not None else None
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
