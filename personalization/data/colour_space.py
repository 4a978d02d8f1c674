"""Colours that a file tells by number (ITU-T H.273, "nclx", "cICP") brought into sRGB.

Phones write Display P3, and HDR cameras BT.2020, without any ICC profile: the numbers alone say it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

# Chromaticities of red, green and blue by H.273's ColourPrimaries; all but XYZ have D65 for white.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709 and sRGB
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
BAND = 128  # rows that are converted at a time: a large photo in floats is too much at once


@dataclass(frozen=True)
class ColourSpace:
    """Chromaticities, and the number of H.273's TransferCharacteristics."""

    primaries: tuple[tuple[float, float], ...]
    transfer: int


ADOBE_RGB = ColourSpace(_ADOBE, 4)  # gamma 2.2


def by_number(primaries: int, transfer: int) -> ColourSpace | None:
    """The space that the numbers name; None for sRGB's own, and for what is not known."""
    if primaries not in _PRIMARIES or (primaries == 1 and transfer not in _CURVES):
        return None
    return ColourSpace(_PRIMARIES[primaries], transfer)


def to_srgb(image: Image.Image, space: ColourSpace) -> Image.Image:
    """An RGB picture of `space` in sRGB; what lies outside of it is clipped."""
    curve = _CURVES.get(space.transfer, _from_srgb)
    linear = np.array([curve(value) for value in np.linspace(0, 1, 256)], dtype=np.float32)
    matrix = np.linalg.inv(_to_xyz(_PRIMARIES[1])) @ _to_xyz(space.primaries)
    matrix = matrix.T.astype(np.float32)
    pixels = np.array(image)
    for top in range(0, len(pixels), BAND):
        band = (linear[pixels[top : top + BAND]] @ matrix).clip(0, 1)
        band = np.where(band <= 0.0031308, band * 12.92, 1.055 * band ** (1 / 2.4) - 0.055)
        pixels[top : top + BAND] = (band * 255).round()
    return Image.fromarray(pixels)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(3, 3): linear RGB to XYZ, where (1, 1, 1) is D65 (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def _from_srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _from_pq(value: float) -> float:
    """SMPTE ST 2084; diffuse white, at 203 of 10,000 cd/m² (BT.2408), becomes 1."""
    root = value ** (32 / 2523)
    light = max(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
    return float(light ** (8192 / 1305) * 10_000 / 203)


def _from_hlg(value: float) -> float:
    """ARIB STD-B67; diffuse white, at three quarters of the signal (BT.2408), becomes 1."""

    def scene(signal: float) -> float:
        if signal <= 0.5:
            return signal**2 / 3
        return float((np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)

    return scene(value) / scene(0.75)


# By TransferCharacteristics. BT.709's own curve is the camera's; what is shown is as sRGB's.
_CURVES = {
    4: lambda value: value**2.2,
    5: lambda value: value**2.8,
    8: lambda value: value,
    16: _from_pq,
    18: _from_hlg,
}
