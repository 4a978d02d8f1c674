"""Pictures in rows and columns as one, labelled at the left and above."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


def image_grid(
    pictures: Sequence[Sequence[Image.Image]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    *,
    cell: int | None = None,
    dark: bool = False,
) -> Image.Image:
    """A contact sheet: `pictures[row][column]`, labelled at the left and above, RGB.

    Every picture is fitted into a square of `cell` pixels (by default the first picture's width,
    256 at most); rows may be of different lengths.
    """
    ground, ink = ((17, 20, 31), (214, 217, 228)) if dark else ((255, 255, 255), (55, 60, 78))
    first = next(picture for row in pictures for picture in row)
    cell = cell or min(256, first.width)
    gap, margin, size = max(4, cell // 24), max(10, cell // 10), max(12, min(18, cell // 9))
    font = ImageFont.load_default(size)
    rows = [_wrapped(label, font, cell) for label in row_labels]
    columns = [_wrapped(label, font, cell) for label in column_labels]
    line = size * 1.3
    left = max((font.getlength(t) for lines in rows for t in lines), default=0)
    left = int(left + 1.2 * gap + size / 2) if rows else 0
    top = int(max((len(lines) for lines in columns), default=0) * line + gap) if columns else 0
    width = max(len(row) for row in pictures)
    sheet = Image.new(
        "RGB",
        (
            2 * margin + left + width * (cell + gap) - gap,
            2 * margin + top + len(pictures) * (cell + gap) - gap,
        ),
        ground,
    )
    draw = ImageDraw.Draw(sheet)
    for x, lines in enumerate(columns):
        middle = margin + left + x * (cell + gap) + cell / 2
        for n, text in enumerate(lines):
            y = margin + top - gap - (len(lines) - n - 0.5) * line
            draw.text((middle, y), text, fill=ink, font=font, anchor="mm")
    for y, row in enumerate(pictures):
        middle = margin + top + y * (cell + gap) + cell / 2
        for n, text in enumerate(rows[y] if y < len(rows) else ()):
            at = middle + (n - (len(rows[y]) - 1) / 2) * line
            right = margin + left - gap - size / 4
            draw.text((right, at), text, fill=ink, font=font, anchor="rm")
        for x, picture in enumerate(row):
            fitted = picture.convert("RGB")
            if fitted.size != (cell, cell):
                fitted.thumbnail((cell, cell), Image.Resampling.LANCZOS)
                if max(fitted.size) < cell:
                    scale = cell / max(fitted.size)
                    fitted = fitted.resize([round(s * scale) for s in fitted.size])
            sheet.paste(
                fitted,
                (
                    margin + left + x * (cell + gap) + (cell - fitted.width) // 2,
                    margin + top + y * (cell + gap) + (cell - fitted.height) // 2,
                ),
            )
    return sheet


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """`text` in lines of at most `width` pixels, broken between words; three lines at most."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > 3:
        lines = [*lines[:2], lines[2] + "…"]
    return lines or [""]
