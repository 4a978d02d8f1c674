"""A mask is what is opaque, or light, or 1 of 0 and 1; what does not tell is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from personalization.data.frames import crop
from personalization.data.photos import Photo, open_mask
from personalization.errors import PhotoError

SIZE = (160, 120)
SUBJECT = Image.new("L", SIZE)
ImageDraw.Draw(SUBJECT).rectangle((0, 0, 39, 119), fill=255)
INSIDE = np.asarray(SUBJECT) > 0
PHOTO = Image.effect_noise(SIZE, 90).convert("RGB")


def cut_out(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(SUBJECT)
    return image


def palette(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(INSIDE.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *colour])
    return image


def soft() -> Image.Image:
    return SUBJECT.filter(ImageFilter.GaussianBlur(3))


def specks() -> Image.Image:
    mask = SUBJECT.copy()
    for place in ((150, 3), (100, 100), (90, 20)):
        mask.putpixel(place, 255)
    return mask


MASKS = {
    "white on nothing": cut_out(Image.new("RGB", SIZE, "white")),
    "black on nothing": cut_out(Image.new("RGB", SIZE, "black")),
    "cut-out": cut_out(PHOTO),
    "half opaque": Image.merge("LA", (SUBJECT, Image.new("L", SIZE, 128))),
    "opaque": SUBJECT.convert("RGBA"),
    "0 and 1": Image.fromarray(INSIDE.astype(np.uint8)),
    "0 and 1 of 16 bits": Image.fromarray(INSIDE.astype(np.uint16)),
    "0 and 65535": Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "0 and 255 of 16 bits": Image.fromarray(INSIDE.astype(np.uint16) * 255),
    "one bit": SUBJECT.convert("1"),
    "VOC palette": palette((128, 0, 0)),
    "dark grey": SUBJECT.point(lambda v: 20 + v // 4),
    "red on black": Image.merge("RGB", (SUBJECT, *2 * [Image.new("L", SIZE)])),
    "soft": soft(),
    "stray pixels": specks(),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_subject_is_white_and_the_rest_black(tmp_path: Path, name: str) -> None:
    MASKS[name].save(tmp_path / "p-mask.png")
    found = np.asarray(open_mask(tmp_path / "p-mask.png")) > 127
    assert found[INSIDE].mean() > 0.99
    assert found[~INSIDE].mean() < 0.01


@pytest.mark.parametrize("name", ["0 and 1", "dark grey", "VOC palette", "half opaque"])
def test_any_two_levels_are_black_and_white(tmp_path: Path, name: str) -> None:
    MASKS[name].save(tmp_path / "p-mask.png")
    assert np.array_equal(open_mask(tmp_path / "p-mask.png"), SUBJECT)


def test_fractions_are_a_mask_as_well(tmp_path: Path) -> None:
    Image.fromarray(INSIDE.astype(np.float32)).save(tmp_path / "p-mask.tif")
    assert np.array_equal(open_mask(tmp_path / "p-mask.tif"), SUBJECT)


def test_a_jpegs_mask_keeps_its_tones(tmp_path: Path) -> None:
    soft().save(tmp_path / "p-mask.jpg", quality=90)
    with Image.open(tmp_path / "p-mask.jpg") as file:
        assert np.array_equal(open_mask(tmp_path / "p-mask.jpg"), file)


def labels() -> Image.Image:
    image = Image.fromarray(INSIDE.astype(np.uint8))
    image.paste(2, (80, 0, 120, 120))
    return image


@pytest.mark.parametrize(
    ("image", "fact"),
    [
        (Image.new("L", SIZE), "the same everywhere"),
        (Image.new("L", SIZE, 1), "the same everywhere"),
        (Image.new("RGBA", SIZE), "the same everywhere"),
        (labels(), "holds 3 labels"),
        (PHOTO.filter(ImageFilter.GaussianBlur(1)), "many tones"),
        (cut_out(Image.linear_gradient("L").resize(SIZE).point(lambda v: v // 128 * 255)), "two"),
    ],
)
def test_what_does_not_tell_is_refused(tmp_path: Path, image: Image.Image, fact: str) -> None:
    image.save(tmp_path / "p-mask.png")
    with pytest.raises(PhotoError, match=f"mask p-mask.png .*{fact}"):
        open_mask(tmp_path / "p-mask.png")


def test_the_crop_follows_the_subject_and_no_stray_pixel() -> None:
    clean = Image.new("L", (400, 100))
    clean.paste(255, (20, 20, 80, 80))
    noisy = clean.copy()
    noisy.putpixel((395, 50), 255)
    veiled = clean.point(lambda v: max(v, 9))
    photo = PHOTO.resize(clean.size)
    right = photo.crop((0, 0, 100, 100))
    for mask in (clean, noisy, veiled):
        assert crop(Photo("p", photo, mask), 100) == right
