"""Files of pictures: the main picture of one, upright, with its values as the file means them.

What is thrown away anyway (words, a broken EXIF, previews) never decides whether a picture is read.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from personalization.data.colour_space import ADOBE_RGB, ColourSpace, by_number, to_srgb
from personalization.errors import PhotoError

pillow_heif.register_heif_opener()

# Named, so that a file that poses as a photo never reaches Pillow's openers that run programs.
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF")
MIN_SIDE = 64  # pixels
MAX_PIXELS = 64_000_000
AT_ONCE = 2  # pictures that are decoded at the same time, each of which may take half a gigabyte
_AT_ONCE = threading.BoundedSemaphore(AT_ONCE)
MAX_PAGES = 64  # of a TIFF, that are looked at for the main one
BACKGROUND = (255, 255, 255)  # what shows through where a photo is transparent

# How cameras' raw files begin that are no TIFF: Canon, Fujifilm, Olympus, Panasonic, Sigma.
_RAW = (b"\0\0\0\x18ftypcrx ", b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"tRNS", b"iCCP", b"cICP", b"eXIf"}  # beside what no picture can be read without
_XMP = b"XML:com.adobe.xmp\0\0"  # not compressed; it may say which way is up
_ORIENTATION, _INTEROP = 0x0112, 0xA005
# TIFF tags.
_SUBFILE, _BITS, _PHOTOMETRIC, _MAX_SAMPLE, _SUB_IFDS, _DNG = 254, 258, 262, 281, 330, 50706
_ASIDE = 1 | 4  # of _SUBFILE: a reduced copy, or a transparency mask


@dataclass(frozen=True)
class OpenImage:
    """The main picture of the file `name`, loaded and upright, in its own mode.

    `tags` are a TIFF's; `space` is what is said of the colours otherwise than by an ICC profile.
    """

    image: Image.Image
    name: str
    tags: dict[int, Any]
    space: ColourSpace | None


@contextmanager
def open_image(path: Path, name: str) -> Iterator[OpenImage]:
    """The file's main picture.

    An animation gives its first frame. Raises `PhotoError`, which names the file, also for what the
    decoders raise while it is open.
    """
    try:
        with _AT_ONCE:
            yield from _open(path, name)
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{name} is no longer there. Add it again.", field="photos") from error
    except UnidentifiedImageError as error:
        with path.open("rb") as stream:
            if stream.read(16).startswith(_RAW):
                raise _raw(name) from error
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


def check_pixels(path: Path, name: str) -> None:
    """Refuse a picture that is larger than any that is read, by its header. Raises `PhotoError`."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            _check_pixels(file, name)
    except Image.DecompressionBombError as error:
        raise PhotoError(_too_large(name, "far too many"), field="photos") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotoError(f"{name} is not a picture that can be read.", field="photos") from error


def _open(path: Path, name: str) -> Iterator[OpenImage]:
    if path.stat().st_size == 0:
        raise PhotoError(f"{name} is empty (0 bytes). Add it again.", field="photos")
    with Image.open(_essential(path), formats=FORMATS) as file:
        if file.format == "TIFF":
            _seek_main(file, name)
        _check_size(file, name)
        file.load()
        tags = dict(getattr(file, "tag_v2", None) or {})
        yield OpenImage(_upright(file), name, tags, _colour_space(file, path))


def as_rgb(file: OpenImage) -> Image.Image:
    """Any mode that Pillow opens, as RGB in sRGB, a new picture that carries no metadata.

    Raises `PhotoError` where it cannot be told what its numbers mean.
    """
    image, profile = file.image, file.image.info.get("icc_profile")
    if image.mode[0] in "IF":  # 16 or 32 bits of grey, which `convert` would clip
        image = _in_eight_bits(file)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, BACKGROUND)
        image.paste(layer, mask=layer.getchannel("A"))
    elif image.mode == "P":
        image = image.convert("RGB")
    pixels = (_in_srgb(image, profile) if profile else None) or image.convert("RGB")
    if file.space and not profile:
        pixels = to_srgb(pixels, file.space)
    return Image.frombytes("RGB", pixels.size, pixels.tobytes())


def grey_values(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) each, of grey with more than 8 bits: its values, and which of them are there.

    NaN is no value, nor is the one that the file calls transparent.
    """
    values = np.asarray(image).astype(np.float32)
    there = ~np.isnan(values)
    if (clear := image.info.get("transparency")) is not None:
        there &= values != clear
    return np.where(there, values, 0), there


def size_words(image: Image.Image) -> str:
    """Width and height, for a sentence."""
    return f"{image.width} × {image.height}"


def _essential(path: Path) -> Path | BytesIO:
    """A PNG without the chunks that say nothing of its pixels: long or broken ones stop Pillow.

    16 bits of a transparent colour become 8, as Pillow reads the colours.
    """
    with path.open("rb") as stream:
        if stream.read(len(_PNG)) != _PNG:
            return path
        rest = stream.read()
    chunks, at = bytearray(_PNG), 0
    deep_colour = rest[16:18] == b"\x10\x02"
    by_icc = b"cICP" not in rest[:4096]  # which goes before a profile
    while at < len(rest):
        (length,) = struct.unpack_from(">I", rest.ljust(at + 4, b"\0"), at)
        kind, end = rest[at + 4 : at + 8], at + 12 + length
        body = rest[at + 8 : end - 4]
        kept = kind in _PNG_KEPT or (kind == b"iTXt" and body.startswith(_XMP))
        whole = rest[end - 4 : end] == struct.pack(">I", zlib.crc32(kind + body))
        if deep_colour and kind == b"tRNS" and len(body) == 6:
            chunks += _chunk(kind, bytes(v for high in body[::2] for v in (0, high)))
        elif kind == b"iCCP" and not by_icc:
            pass
        elif kind[:1].isupper() or (kept and whole):
            chunks += rest[at:end]
        at = end
    return BytesIO(bytes(chunks))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _seek_main(file: Image.Image, name: str) -> None:
    """Turn a TIFF to the largest of its pictures that is no copy in small.

    Raises `PhotoError` where that is a camera's raw data, or lies where Pillow does not go.
    """
    tags = file.tag_v2  # type: ignore[attr-defined]
    if _DNG in tags or _begins_as_cr2(file):
        raise _raw(name)
    pages = []
    for number in range(MAX_PAGES):
        try:
            file.seek(number)
        except Exception:  # the end, or a page that cannot be read: those before it can
            break
        aside = bool(file.tag_v2.get(_SUBFILE, 0) & _ASIDE)  # type: ignore[attr-defined]
        pages.append((aside, -file.width * file.height, number))
    aside, _, number = min(pages)
    file.seek(number)
    if aside and _SUB_IFDS in tags:
        raise _raw(name)


def _begins_as_cr2(file: Any) -> bool:
    file.fp.seek(8)
    return bool(file.fp.read(2) == b"CR")


def _raw(name: str) -> PhotoError:
    return PhotoError(
        f"{name} is a camera's raw file, and only its small preview could be read. "
        "Develop it, save it as JPEG, and add that.",
        field="photos",
    )


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says, where that can be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a parser stumbles over; the pixels are whole
        return image
    if orientation == 1:
        return image
    with suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise PhotoError(
            f"{name} is {size_words(image)} pixels; each side needs at least {MIN_SIDE}. "
            "Use a larger photo.",
            field="photos",
        )
    _check_pixels(image, name)


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PhotoError(_too_large(name, f"{width * height / 1e6:.0f} million"), field="photos")


def _too_large(name: str, count: str) -> str:
    return (
        f"{name} has {count} pixels; at most {MAX_PIXELS / 1e6:.0f} million are read. "
        "Make it smaller first."
    )


def _in_eight_bits(file: OpenImage) -> Image.Image:
    """Grey of more than 8 bits, as L or, where values are missing, LA."""
    values, there = grey_values(file.image)
    white = _white(file, values)
    if file.tags.get(_PHOTOMETRIC) == 0:  # "WhiteIsZero", which Pillow turns with 8 bits only
        values = white - values
    grey = Image.fromarray((values.clip(0, white) / white * 255).round().astype(np.uint8))
    if not there.all():
        grey.putalpha(Image.fromarray(there.astype(np.uint8) * 255))
    return grey


def _white(file: OpenImage, values: np.ndarray) -> float:
    """The value that is white: of whole numbers the largest there is, of fractions 1.

    Programs write fractions of 0 to 255 and of 0 to 65535 as well: the bulk of them tells, for
    single pixels overshoot. Raises `PhotoError` where it fits none.
    """
    whole = file.image.mode[0] == "I"
    if whole and (said := file.tags.get(_MAX_SAMPLE)):
        return float(said[0] if isinstance(said, tuple) else said)
    if file.image.mode.startswith("I;16"):
        return float(2 ** file.tags.get(_BITS, (16,))[0] - 1)
    most = values.max() if whole else np.percentile(values, 99) / 1.5
    scales = (255.0, 65535.0, 2.0**32 - 1) if whole else (1.0, 255.0, 65535.0)
    for white in scales:
        if most <= white:
            return white
    raise PhotoError(
        f"The brightness of {file.name} cannot be told from its numbers, of up to "
        f"{values.max():g}. Save it as PNG or JPEG.",
        field="photos",
    )


def _colour_space(file: Image.Image, path: Path) -> ColourSpace | None:
    """What the file says of its colours by number, in the way of its format."""
    if numbers := file.info.get("nclx_profile"):
        return by_number(numbers["color_primaries"], numbers["transfer_characteristics"])
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if file.format == "AVIF":
        return _numbered(head, b"colrnclx", ">HH")
    if file.format == "PNG":
        return _numbered(head.partition(b"IDAT")[0], b"cICP", "BB")
    with suppress(Exception):  # an EXIF that cannot be read says nothing
        if file.getexif().get_ifd(_INTEROP).get(1) == "R03":  # DCF 2.0
            return ADOBE_RGB
    return None


def _numbered(head: bytes, mark: bytes, layout: str) -> ColourSpace | None:
    """The space whose numbers stand behind `mark`."""
    at = head.find(mark) + len(mark)
    if at < len(mark) or len(head) < at + 4:
        return None
    return by_number(*struct.unpack_from(layout, head, at))


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
