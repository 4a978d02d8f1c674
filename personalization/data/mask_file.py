"""Masks as people save them: what is opaque, or light, or 1 of 0 and 1 is the subject."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from personalization.data.image_file import OpenImage, grey_values
from personalization.errors import PhotoError

SPECK = 3  # pixels; what is thinner than half of it is noise
FAINT = 32  # of 255: what differs by less is the same
LABELS = 32  # numbers up to here count things and are no brightness
AT_AN_END = 64  # of 255, from black or from white
STRAY = 0.01  # of the mask's mass, on each side, that no crop follows


def as_mask(file: OpenImage) -> Image.Image:
    """L, white where the subject is. Raises `PhotoError` where the file does not tell."""
    grey, coloured = _lightness(file)
    alpha = _alpha(file.image)
    if alpha is not None:
        _check_agreement(file.name, grey, alpha)
        return Image.fromarray(alpha)
    return Image.fromarray(_stretched(file.name, grey, coloured))


def subject_box(mask: Image.Image) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of all of a mask's white but stray pixels; None for no white."""
    white = np.asarray(mask.convert("L"), dtype=np.float64)
    if (white > 127).any():
        white = np.where(white > 127, white, 0)  # a faint veil is noise as well
    if not white.any():
        return None
    (left, right), (top, bottom) = (_extent(white.sum(axis)) for axis in (0, 1))
    return left, top, right, bottom


def _extent(mass: np.ndarray) -> tuple[int, int]:
    """From the first place that more than `STRAY` of the mass has reached to behind the last."""
    share = mass.cumsum() / mass.sum()
    return int(np.argmax(share > STRAY)), int(np.argmax(share >= 1 - STRAY)) + 1


def _lightness(file: OpenImage) -> tuple[np.ndarray, bool]:
    """(h, w), how light each place is in the file's own numbers, and whether there are colours."""
    if file.image.mode[0] in "IF":
        values, _ = grey_values(file.image)
        return values, False
    rgb = np.asarray(file.image.convert("RGB"))
    spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    grey = np.asarray(file.image.convert("RGB").convert("L"))
    return grey.astype(np.float32), bool((spread > FAINT).mean() > 0.01)


def _alpha(image: Image.Image) -> np.ndarray | None:
    """How opaque each place is, 0 to 255; None where all of it is the same."""
    if image.mode[0] in "IF":
        _, there = grey_values(image)
        alpha = there.astype(np.uint8) * 255
    elif image.has_transparency_data:
        alpha = np.array(image.convert("RGBA").getchannel("A"))
    else:
        return None
    even = _without_specks(alpha)
    return alpha if even.max() - even.min() > FAINT else None


def _check_agreement(name: str, grey: np.ndarray, alpha: np.ndarray) -> None:
    """Refuse a black and white mask that is transparent in places as well."""
    shown = grey[alpha > 127]
    if not shown.size:
        raise _unclear(name, "is transparent nearly everywhere")
    top = max(float(grey.max()), 1.0)
    black, white = (shown < 0.1 * top).mean(), (shown > 0.9 * top).mean()
    if min(black, white) > 0.02 and black + white > 0.98:
        raise _unclear(name, "is black and white, and transparent in places: two masks in one")


def _stretched(name: str, grey: np.ndarray, coloured: bool) -> np.ndarray:
    """(h, w) of 0 to 255 from any numbers: the lowest is black and the highest white.

    A mask that has both as it is stays so, to the bit.
    """
    even = _without_specks(grey)
    low, high = float(even.min()), float(even.max())
    if low == high == 255:  # all of it is the subject
        return np.full(grey.shape, 255, np.uint8)
    if low == high or (high > LABELS and high - low < FAINT):
        raise _unclear(name, "is the same everywhere")
    if LABELS >= high > 1 and float(high).is_integer() and len(np.unique(even)) > 2:
        raise _unclear(name, f"holds {len(np.unique(even))} labels")
    if not (low <= 16 and 239 <= high <= 255):
        grey = (grey - low) / (high - low) * 255
    grey = grey.clip(0, 255).round().astype(np.uint8)
    middle = ((grey >= AT_AN_END) & (grey <= 255 - AT_AN_END)).mean()
    if middle > (0.05 if coloured else 0.5):
        raise _unclear(name, "is a picture of many tones")
    return grey


def _without_specks(values: np.ndarray) -> np.ndarray:
    """The median of each place and its neighbours."""
    return np.asarray(Image.fromarray(values).filter(ImageFilter.MedianFilter(SPECK)))


def _unclear(name: str, what: str) -> PhotoError:
    return PhotoError(
        f"The mask {name} {what}, and does not tell what the subject is. "
        "Save it white on black, or leave it out.",
        field="photos",
    )
