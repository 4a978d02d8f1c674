"""Regions: a place in the picture for an adapter, with a prompt of its own.

Within its region an adapter's weights count, outside the others'. A region is a box in fractions
of the picture, or what was brushed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from PIL import Image, ImageChops, ImageDraw, ImageStat

from personalization.errors import StackError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, each in 0 to 1 of the picture."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
HALVES: dict[str, Box] = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
}
LEAST = 0.02  # of the picture, below which nothing can be drawn
OVERLAP = 0.1  # of the smaller region: a brush's slip
STRETCH = 1.1  # by which a brushed region's shape may differ from the picture's
GRID = 128  # cells to a side in which regions are compared


@dataclass(frozen=True)
class Region:
    """Where an adapter counts, and what is drawn there.

    `prompt` is put before the picture's own, which says the scene. `mask` is white where it was
    brushed and stands in place of the box; `key` is what the visitor's workspace finds it by.
    """

    box: Box = WHOLE
    prompt: str = ""
    mask: Image.Image | None = field(default=None, hash=False)
    key: str = ""

    def cover(self, size: tuple[int, int]) -> Image.Image:
        """Mode L, in that size (width, height): 255 where it is."""
        if self.mask is not None:
            return self.mask.convert("L").resize(size, Image.Resampling.BOX)
        width, height = size
        left, top, right, bottom = self.box
        cover = Image.new("L", size)
        corners = (round(left * width), round(top * height))
        ends = (round(right * width) - 1, round(bottom * height) - 1)
        if ends[0] >= corners[0] and ends[1] >= corners[1]:
            ImageDraw.Draw(cover).rectangle((corners, ends), fill=255)
        return cover

    def joined(self, prompt: str) -> str:
        """The region's prompt, and the picture's after it."""
        return f"{self.prompt.strip()} {prompt.strip()}".strip()

    def check(self, name: str) -> None:
        """Raise `StackError` for a region in which nothing can be drawn; `name` is the adapter's.

        A box in numbers that are none, outside the picture, or that ends before it begins is one.
        """
        left, top, right, bottom = self.box
        inside = all(math.isfinite(side) and 0 <= side <= 1 for side in self.box)
        if not (inside and left < right and top < bottom):
            raise StackError(
                f"The region of “{name}” is the box {', '.join(f'{side:g}' for side in self.box)}; "
                "it is left, top, right, bottom, each from 0 to 1, and ends after it begins.",
                field="region",
            )
        if share(self.cover((GRID, GRID))) < LEAST:
            what = (
                "Nothing is brushed for" if self.mask else "There is too little room in the box of"
            )
            raise StackError(
                f"{what} “{name}”: its region is less than {LEAST:.0%} of the picture. "
                "Make it larger, or let it count everywhere.",
                field="region",
            )

    def check_shape(self, name: str, size: tuple[int, int]) -> None:
        """Raise `StackError` where it was brushed on a picture of another shape."""
        if self.mask is None:
            return
        brushed, drawn = self.mask.width / self.mask.height, size[0] / size[1]
        if not 1 / STRETCH <= brushed / drawn <= STRETCH:
            raise StackError(
                f"The region of “{name}” was brushed on {self.mask.width} × {self.mask.height}, "
                f"and the picture is {size[0]} × {size[1]}. Brush it on a canvas of that shape.",
                field="region",
            )


def named(text: str) -> Box:
    """The box that a half's name or four numbers say: "left", "0, 0, 0.6, 1".

    Raises `StackError`.
    """
    if text in HALVES:
        return HALVES[text]
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise StackError(
            f"There is no region “{text[:40]}”. Choose {', '.join(HALVES)}, or give left, top, "
            "right and bottom as numbers from 0 to 1.",
            field="region",
        ) from error
    return left, top, right, bottom


def cover_all(regions: Sequence[Region]) -> bool:
    """Whether nothing of the picture is outside of them."""
    covers = (region.cover((GRID, GRID)) for region in regions)
    return share(reduce(ImageChops.add, covers)) > 1 - LEAST


def check_apart(regions: Sequence[tuple[str, Region]]) -> None:
    """Raise `StackError` where two regions, with their adapters' names, lie over each other."""
    distinct = {region: name for name, region in regions}
    covers = [(name, region.cover((GRID, GRID))) for region, name in distinct.items()]
    for i, (name, cover) in enumerate(covers):
        for other, under in covers[:i]:
            common = share(ImageChops.multiply(cover, under))
            part = common / min(share(cover), share(under))
            if part > OVERLAP:
                raise StackError(
                    f"The regions of “{other}” and “{name}” lie over each other, by {part:.0%} of "
                    "the smaller one. Move them apart, or give both the same region and prompt.",
                    field="region",
                )


def share(cover: Image.Image) -> float:
    """The part of the picture that is white."""
    (mean,) = ImageStat.Stat(cover).mean
    return float(mean) / 255


def bounds(cover: Image.Image, margin: int, step: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is white with `margin` around it, in whole `step`s."""
    box = cover.getbbox() or (0, 0, *cover.size)
    width, height = cover.size

    def fitted(low: int, high: int, most: int) -> tuple[int, int]:
        low, high = max(0, low - margin), min(most, high + margin)
        low = low // step * step
        high = min(most, -(-high // step) * step)
        return low, high

    (left, right), (top, bottom) = fitted(box[0], box[2], width), fitted(box[1], box[3], height)
    return left, top, right, bottom
