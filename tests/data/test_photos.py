"""Photos come in upright, as the eye sees them, without metadata, or are refused by name."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from personalization.data.image_file import MAX_PIXELS
from personalization.data.photos import (
    KEPT_SIDE,
    Photo,
    open_photo,
    open_photos,
)
from personalization.errors import PhotoError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION, GPS = 0x0112, 0x8825


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Red, green and blue in the corners of a white picture: every turn shows."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, 24, 24))
    image.paste(GREEN, (width - 24, 0, width, 24))
    image.paste(BLUE, (0, height - 24, 24, height))
    return image


def texture(seed: int, width: int = 160, height: int = 160) -> Image.Image:
    """Blotches with sharp edges: another seed is another picture."""
    blotches = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize((width, height), Image.Resampling.NEAREST)


def near(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.asarray(image, dtype=int)[place[::-1]] - colour).max() <= 24)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_upright_whatever_way_the_camera_was_held(tmp_path: Path, orientation: int):
    stored = corners()
    stored.getexif()[ORIENTATION] = {6: 8, 8: 6}.get(orientation, orientation)  # the way back
    stored = ImageOps.exif_transpose(stored)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert open_photo(tmp_path / "turned.png").image == corners()


def test_an_iphones_heic_is_read_and_turned_once(tmp_path: Path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    corners().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.heic", exif=exif.tobytes())
    image = open_photo(tmp_path / "a.heic").image
    assert image.size == (96, 64)
    assert near(image, (8, 8), RED)
    assert near(image, (88, 8), GREEN)


def test_a_colour_profile_is_applied(tmp_path: Path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    corners().save(tmp_path / "a.png", icc_profile=swapped)
    image = open_photo(tmp_path / "a.png").image
    assert near(image, (8, 8), GREEN)
    assert near(image, (88, 8), RED)


def test_a_colour_profile_that_is_noise_is_passed_over(tmp_path: Path):
    corners().save(tmp_path / "a.png", icc_profile=b"noise")
    assert open_photo(tmp_path / "a.png").image == corners()


def test_cmyk_keeps_its_colours(tmp_path: Path):
    corners().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    image = open_photo(tmp_path / "print.jpg").image
    assert near(image, (8, 8), RED)
    assert near(image, (48, 48), WHITE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str):
    if mode == "P":
        image = Image.new("P", (64, 64), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.paste(0, (0, 0, 32, 64))
        image.save(tmp_path / "a.png", transparency=1)
    else:
        image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), (0, 0, 32, 64))
        image.convert(mode).save(tmp_path / "a.png")
    opened = open_photo(tmp_path / "a.png").image
    assert opened.getpixel((8, 8)) == (0, 0, 0)
    assert opened.getpixel((40, 8)) == WHITE


def test_an_animation_gives_its_first_frame(tmp_path: Path):
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    assert open_photo(tmp_path / "a.gif").image.getpixel((8, 8)) == RED


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_keep_their_tones(tmp_path: Path, kind: str):
    tones = np.linspace(0, 65535, 64).astype(np.uint16)
    Image.fromarray(np.tile(tones, (64, 1))).save(tmp_path / f"a.{kind}")
    row = np.asarray(open_photo(tmp_path / f"a.{kind}").image)[0, :, 0]
    assert np.abs(row - tones / 257).max() <= 1


def test_where_a_photo_was_taken_stays_behind(tmp_path: Path):
    exif = Image.Exif()
    exif[GPS] = {1: "N", 2: (52.0, 31.0, 12.0)}
    corners().save(tmp_path / "a.jpg", exif=exif, comment=b"at home")
    image = open_photo(tmp_path / "a.jpg").image
    assert not image.info
    assert not image.getexif()
    image.save(tmp_path / "again.jpg")
    with Image.open(tmp_path / "again.jpg") as again:
        assert not again.getexif()


def test_a_photo_larger_than_any_base_needs_is_brought_down(tmp_path: Path):
    Image.new("L", (1600, 2000)).save(tmp_path / "a.png", compress_level=1)
    assert open_photo(tmp_path / "a.png").image.size == (KEPT_SIDE, KEPT_SIDE * 2000 // 1600)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)


def cut_short() -> bytes:
    buffer = BytesIO()
    texture(0).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "empty"),
        (b"these are words", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nquit\n", "not a picture"),
        (cut_short(), "damaged"),
        (png_header(99, 99), "damaged"),
        (png_header(63, 500), "63 × 500 pixels; each side needs at least 64"),
        (png_header(10_000, 8_000), "80 million pixels"),
        (png_header(100_000, 100_000), "far too many pixels"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes, fact: str):
    (tmp_path / "upload-3").write_bytes(content)
    with pytest.raises(PhotoError, match=r"^my mug\.jpg ") as caught:
        open_photo(tmp_path / "upload-3", name="my mug.jpg")
    assert fact in str(caught.value)
    assert caught.value.field == "photos"
    assert str(tmp_path) not in str(caught.value)


def test_the_limit_on_pixels_lies_under_pillows_own():
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS <= Image.MAX_IMAGE_PIXELS


def test_one_broken_photo_among_five_leaves_four(tmp_path: Path):
    for number in range(5):
        texture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    photos, errors = open_photos(sorted(tmp_path.iterdir()))
    assert [photo.name for photo in photos] == ["0.png", "1.png", "3.png", "4.png"]
    assert [str(error).split()[0] for error in errors] == ["2.png"]


def test_a_mask_of_another_photo_is_refused():
    with pytest.raises(PhotoError, match=r"mask of mug\.jpg is 64 × 64 pixels, the photo 96 × 64"):
        Photo("mug.jpg", corners(), Image.new("L", (64, 64)))


def test_a_file_named_as_a_mask_goes_to_its_photo_and_a_lone_one_is_named(tmp_path: Path) -> None:
    texture(0).save(tmp_path / "mug.png")
    texture(1).save(tmp_path / "cup.png")
    mask = Image.new("L", (160, 160))
    mask.paste(255, (0, 0, 80, 160))
    mask.save(tmp_path / "mug-mask.png")
    mask.save(tmp_path / "cup-masklabel.png")
    mask.save(tmp_path / "jug-mask.png")
    mask.resize((80, 80)).save(tmp_path / "small-mask.png")
    texture(2).save(tmp_path / "small.png")
    photos, errors = open_photos(sorted(tmp_path.glob("*.png")))
    found = {photo.name: photo.mask for photo in photos}
    assert found.keys() == {"cup.png", "mug.png", "small.png"}
    for name in ("mug.png", "cup.png"):
        assert found[name] is not None
        assert found[name].tobytes() == mask.tobytes()
    assert found["small.png"] is None
    assert [str(error).split(" is ")[0] for error in errors] == [
        "jug-mask.png",
        "The mask of small.png",
    ]
