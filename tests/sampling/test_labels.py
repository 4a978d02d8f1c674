"""What is written on a sheet is readable in any script, and keeps to its room."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from personalization.bases.catalog import ASSETS
from personalization.sampling.image_grid import image_grid
from personalization.sampling.labels import FONTS, MAX_LINES, UNKNOWN, Typeface, clusters, runs

TEXTS = (
    *(
        "strength 0.5 × 2 …",
        "кот на мате",
        "γάτα",
        "中文字，繁體字",
        "日本語のねこ",
        "한국어 고양이",
    ),
    *("ไทย แมวสีแดง", "عربي قطة", "שלום", "हिन्दी", "தமிழ்", "ქართული", "አማርኛ", "🐱🎨", "ᚠᛇᚻ"),
)


def pixels(font: str, text: str) -> bytes:
    face = ImageFont.truetype(ASSETS / "fonts" / font, 24, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (40, 40))
    ImageDraw.Draw(canvas).text((8, 4), text, fill=255, font=face)
    return canvas.tobytes()


@pytest.mark.parametrize("text", TEXTS)
def test_no_character_is_drawn_as_the_box_of_a_missing_one(text: str) -> None:
    boxes = {font: pixels(font, UNKNOWN) for font in FONTS}
    assert all(any(box) for box in boxes.values())
    for font, run in runs(text):
        for character in run.replace(" ", ""):
            assert pixels(font, character) != boxes[font], f"{character} in {font}"
    assert "".join(run for _, run in runs(text)) == text


def test_different_words_look_different() -> None:
    typeface, seen = Typeface(16), set()
    for text in TEXTS:
        canvas = Image.new("RGB", (260, 30), (255, 255, 255))
        typeface.draw(ImageDraw.Draw(canvas), (130, 15), text, (0, 0, 0), "middle")
        assert (np.asarray(canvas)[:, 1:-1] < 128).any()
        assert (np.asarray(canvas)[[0, -1]] == 255).all(), f"{text} is cut"
        seen.add(canvas.tobytes())
    assert len(seen) == len(TEXTS)


@pytest.mark.parametrize("text", [*TEXTS, "x" * 2000, "中" * 2000, "a photo of a dog " * 100, ""])
@pytest.mark.parametrize("width", [60, 128, 256])
def test_lines_keep_to_their_width_whatever_the_script(text: str, width: int) -> None:
    typeface, started = Typeface(16), time.monotonic()
    lines = typeface.wrapped(text, width)
    assert 1 <= len(lines) <= MAX_LINES
    assert all(typeface.length(line) <= width for line in lines)
    whole = "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert whole or lines[-1].endswith("…")
    assert time.monotonic() - started < 2


def test_words_are_broken_between_and_marks_stay_on_their_letters() -> None:
    assert Typeface(16).wrapped("a photo of a red dog", 100) == ["a photo of a", "red dog"]
    assert list(clusters("e\u0301ที่x")) == ["e\u0301", "ที่", "x"]


def test_a_sheet_has_room_for_its_labels_and_fits_pictures_of_any_shape() -> None:
    red, blue = Image.new("RGB", (64, 32), (255, 0, 0)), Image.new("RGB", (8, 16), (0, 0, 255))
    plain = image_grid([[red, blue], [red]], cell=64)
    sheet = image_grid([[red, blue], [red]], ["кот", "中文"], ["a × 2", "b"], cell=64)
    assert plain.width < sheet.width
    assert plain.height < sheet.height
    pictures = np.asarray(plain).astype(int)
    assert ((pictures == (255, 0, 0)).all(-1)).sum() == 2 * 64 * 32
    assert ((pictures == (0, 0, 255)).all(-1)).sum() == 32 * 64
