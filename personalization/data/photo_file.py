"""A photo with its mask, name and caption as one PNG: how workspaces and runs keep them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import overload

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from personalization.data.photos import Photo
from personalization.errors import PhotoError


def encode(photo: Photo) -> bytes:
    """A PNG without loss: the mask is the alpha channel, under which the colours stay."""
    image = photo.image
    if photo.mask is not None:
        image = image.copy()
        image.putalpha(photo.mask.convert("L"))
    text = PngInfo()
    text.add_itxt("name", photo.name)
    if photo.caption:
        text.add_itxt("caption", photo.caption)
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=text, compress_level=3)
    return buffer.getvalue()


def decode(path: Path) -> Photo:
    """The photo that `encode` wrote. Raises `PhotoError` where the file is missing or damaged.

    A picture without a name in it, as version 0.1.0 kept in runs, is called as its file.
    """
    try:
        with Image.open(path, formats=["PNG"]) as file:
            file.load()
            image = file.convert("RGB")
            mask = file.getchannel("A") if file.mode == "RGBA" else None
            name, caption = file.info.get("name", path.name), file.info.get("caption")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on a damaged PNG
        raise PhotoError(f"{path.name} cannot be read ({error}).", field="photos") from error
    for picture in filter(None, (image, mask)):
        picture.info.clear()
    return Photo(str(name), image, mask, str(caption) if caption else None)


def pixel_hash(photo: Photo) -> str:
    """SHA-256 of size and colours: the same photo whatever its name, caption and mask."""
    return sha256(repr(photo.image.size).encode() + photo.image.tobytes()).hexdigest()


class StoredPhotos(Sequence[Photo]):
    """Photos in files: how many there are is known, and all are read when one is asked for."""

    def __init__(self, readers: Sequence[Callable[[], Photo]]):
        self._readers = readers

    @cached_property
    def _photos(self) -> tuple[Photo, ...]:
        return tuple(read() for read in self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Photo]: ...
    def __getitem__(self, index: int | slice) -> Photo | Sequence[Photo]:
        return self._photos[index]
