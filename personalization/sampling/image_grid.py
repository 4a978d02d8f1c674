"""Pictures in rows and columns as one, labelled at the left and above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from personalization.sampling.labels import Colour, Typeface

LARGEST = 256  # pixels of a cell, unless more are asked for
LIGHT: tuple[Colour, Colour] = ((255, 255, 255), (55, 60, 78))  # ground, ink
DARK: tuple[Colour, Colour] = ((17, 20, 31), (214, 217, 228))


@dataclass(frozen=True)
class Layout:
    """Where things are on a sheet, in pixels; `left` and `top` are the labels' room."""

    cell: int
    rows: int
    columns: int
    left: int
    top: int

    @property
    def gap(self) -> int:
        """Between two pictures."""
        return max(4, self.cell // 24)

    @property
    def margin(self) -> int:
        """Around everything."""
        return max(10, self.cell // 10)

    @property
    def size(self) -> tuple[int, int]:
        """Of the whole sheet."""
        x, y = self.corner(self.rows, self.columns)
        return x - self.gap + self.margin, y - self.gap + self.margin

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """The upper left of a cell."""
        step = self.cell + self.gap
        return self.margin + self.left + column * step, self.margin + self.top + row * step


def image_grid(
    pictures: Sequence[Sequence[Image.Image]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    *,
    cell: int | None = None,
    dark: bool = False,
) -> Image.Image:
    """One sheet of `pictures[row][column]`, labelled at the left and above, RGB.

    Every picture is fitted into a square of `cell` pixels (by default the first picture's width,
    256 at most); rows may be of different lengths.
    """
    ground, ink = DARK if dark else LIGHT
    cell = cell or min(LARGEST, next(picture.width for row in pictures for picture in row))
    typeface = Typeface(max(12, min(18, cell // 9)))
    rows = [typeface.wrapped(label, cell) for label in row_labels]
    columns = [typeface.wrapped(label, cell) for label in column_labels]
    layout = _layout(pictures, rows, columns, cell, typeface)
    sheet = Image.new("RGB", layout.size, ground)
    canvas = ImageDraw.Draw(sheet)
    _write_columns(canvas, layout, columns, typeface, ink)
    _write_rows(canvas, layout, rows, typeface, ink)
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            _paste(sheet, layout.corner(y, x), picture, cell)
    return sheet


def _layout(
    pictures: Sequence[Sequence[Image.Image]],
    rows: Sequence[Sequence[str]],
    columns: Sequence[Sequence[str]],
    cell: int,
    typeface: Typeface,
) -> Layout:
    """With room for the labels, which are given in lines."""
    bare = Layout(cell, len(pictures), max(len(row) for row in pictures), 0, 0)
    left = top = 0
    if rows:
        widest = max(typeface.length(line) for lines in rows for line in lines)
        left = int(widest + 1.2 * bare.gap + typeface.size / 2)
    if columns:
        top = int(max(len(lines) for lines in columns) * typeface.line_height + bare.gap)
    return Layout(cell, bare.rows, bare.columns, left, top)


def _write_columns(
    canvas: ImageDraw.ImageDraw,
    layout: Layout,
    labels: Sequence[Sequence[str]],
    typeface: Typeface,
    ink: Colour,
) -> None:
    """Above the columns, the last lines level."""
    for column, lines in enumerate(labels):
        x, y = layout.corner(0, column)
        for n, line in enumerate(reversed(lines)):
            at = x + layout.cell / 2, y - layout.gap - (n + 0.5) * typeface.line_height
            typeface.draw(canvas, at, line, ink, "middle")


def _write_rows(
    canvas: ImageDraw.ImageDraw,
    layout: Layout,
    labels: Sequence[Sequence[str]],
    typeface: Typeface,
    ink: Colour,
) -> None:
    """Left of the rows, at half their height."""
    for row, lines in enumerate(labels):
        x, y = layout.corner(row, 0)
        right, middle = x - layout.gap - typeface.size / 4, y + layout.cell / 2
        for n, line in enumerate(lines):
            at = right, middle + (n - (len(lines) - 1) / 2) * typeface.line_height
            typeface.draw(canvas, at, line, ink, "right")


def _paste(sheet: Image.Image, corner: tuple[int, int], picture: Image.Image, cell: int) -> None:
    """Fit the picture into its cell, in the middle."""
    scale = cell / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    fitted = picture.convert("RGB")
    if picture.size != (cell, cell):
        resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
        fitted = fitted.resize((size[0], size[1]), resample)
    x, y = corner
    sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
