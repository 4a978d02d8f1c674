"""Text of any script as pixels: each character in the first of a few fonts that has it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageDraw, ImageFont

from personalization.bases.catalog import ASSETS

# Each has what those before it lack: see assets/fonts/LICENSES.md.
FONTS = ("DejaVuSans.woff", "DroidSansFallback.woff", "Unifont.woff", "UnifontUpper.woff")
UNKNOWN = "\U0010ffff"  # a character that no font has
MAX_LINES = 3

Align = Literal["middle", "right"]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Typeface:
    """Text at so many pixels' size."""

    size: int

    @property
    def line_height(self) -> float:
        """From one line to the next, in pixels."""
        return self.size * 1.3

    def length(self, text: str) -> float:
        """How wide `text` is, in pixels."""
        return sum(_font(font, self.size).getlength(run) for font, run in runs(text))

    def wrapped(self, text: str, width: float) -> list[str]:
        """`text` in lines of at most `width` pixels, MAX_LINES at most.

        Broken between words, and within a word that is wider than a line, as those of scripts
        without spaces are.
        """
        lines = [""]
        for piece in self._pieces(text, width):
            if not lines[-1] or self.length(f"{lines[-1]}{piece}".rstrip()) <= width:
                lines[-1] += piece
            elif len(lines) < MAX_LINES:
                lines.append(piece)
            else:
                lines[-1] = self._cut(lines[-1].rstrip(), width)
                break
        return [line.strip() for line in lines]

    def draw(
        self,
        canvas: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        ink: Colour,
        align: Align,
    ) -> None:
        """Write one line; `at` is its middle in height, its middle or right end in width."""
        x, middle = at
        x -= self.length(text) / (2 if align == "middle" else 1)
        ascent, descent = _font(FONTS[0], self.size).getmetrics()
        for name, run in runs(text):
            font = _font(name, self.size)
            baseline = middle + (ascent - descent) / 2
            canvas.text((x, baseline), run, fill=ink, font=font, anchor="ls")
            x += font.getlength(run)

    def _pieces(self, text: str, width: float) -> Iterator[str]:
        """What a line may be broken between; the text is done with when they are."""
        for word in text.split():
            if len(word) < width and self.length(word) <= width:
                yield f"{word} "
            else:
                yield from clusters(f"{word} ")

    def _cut(self, line: str, width: float) -> str:
        """The line's beginning with an ellipsis."""
        parts = list(clusters(line))
        while parts and self.length("".join(parts) + "…") > width:
            parts.pop()
        return "".join(parts).rstrip() + "…"


def runs(text: str) -> list[tuple[str, str]]:
    """The text in pieces, each with the file of the font that it is drawn with."""
    pieces: list[tuple[str, str]] = []
    for character in text:
        last = pieces[-1][0] if pieces else FONTS[0]
        font = last if _is_attached(character) else _font_of(character)
        if pieces and font == last:
            pieces[-1] = font, pieces[-1][1] + character
        else:
            pieces.append((font, character))
    return pieces


def clusters(text: str) -> Iterator[str]:
    """Characters with the marks that stand on them."""
    cluster = ""
    for character in text:
        if cluster and not _is_attached(character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def has(font: str, character: str) -> bool:
    """Whether the font has the character, and draws no box for it."""
    # Without shaping, which puts a syllable that is not there together from its parts.
    face = ImageFont.truetype(_path(font), 16, layout_engine=ImageFont.Layout.BASIC)
    glyph, box = face.getmask(character), face.getmask(UNKNOWN)
    return glyph.size != box.size or bytes(glyph) != bytes(box)


@lru_cache(maxsize=4096)
def _font_of(character: str) -> str:
    return next((font for font in FONTS if has(font, character)), FONTS[0])


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_path(name), size)


def _path(font: str) -> Path:
    return ASSETS / "fonts" / font


def _is_attached(character: str) -> bool:
    """Whether it stands on the character before it: a mark, a joiner, a variant's selector."""
    return unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf")
