"""A file's main picture is read by what its numbers mean, whatever else is in the file."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, TiffImagePlugin

from personalization.data.colour_space import by_number, to_srgb
from personalization.data.image_file import AT_ONCE, check_pixels, open_image
from personalization.data.photos import open_photo
from personalization.errors import PhotoError

pillow_heif.register_heif_opener()
RAMP = np.tile(np.linspace(0, 1, 160, dtype=np.float32), (120, 1))


def seen(path: Path) -> np.ndarray:
    return np.asarray(open_photo(path).image).astype(int)


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(
    rows: np.ndarray, *more: bytes, colour: int = 0, dtype: type[np.unsignedinteger] = np.uint8
) -> bytes:
    """A PNG of `rows`, (h, w) or (h, w, 3), with chunks before its pixels."""
    height, width = rows.shape[:2]
    size = np.dtype(dtype).itemsize
    body = rows.astype(np.dtype(dtype).newbyteorder(">")).reshape(height, -1)
    lines = b"".join(b"\0" + line.tobytes() for line in body)
    header = struct.pack(">IIBBBBB", width, height, 8 * size, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(lines)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("top", [1.0, 1.05, 1.2])
def test_fractions_are_white_at_the_scale_that_holds_the_bulk_of_them(
    tmp_path: Path, white: float, top: float
) -> None:
    Image.fromarray(RAMP * top * white).save(tmp_path / "p.tif")
    right = (RAMP * top).clip(0, 1) * 255
    assert np.abs(seen(tmp_path / "p.tif")[..., 0] - right).max() <= 1


def test_a_few_bright_lights_do_not_darken_the_rest(tmp_path: Path) -> None:
    lit = RAMP.copy()
    lit[:4, :4] = 60.0
    lit[4, 4] = np.inf
    Image.fromarray(lit).save(tmp_path / "p.tif")
    assert np.abs(seen(tmp_path / "p.tif")[20:, :, 0] - RAMP[20:] * 255).max() <= 1


def test_what_is_no_number_is_transparent(tmp_path: Path) -> None:
    holed = RAMP.copy()
    holed[:, :40] = np.nan
    Image.fromarray(holed).save(tmp_path / "p.tif")
    assert (seen(tmp_path / "p.tif")[:, :40] == 255).all()
    assert np.abs(seen(tmp_path / "p.tif")[:, 40:, 0] - RAMP[:, 40:] * 255).max() <= 1


def test_numbers_of_no_known_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP * 1e7).save(tmp_path / "p.tif")
    with pytest.raises(PhotoError, match=r"brightness of p\.tif cannot be told"):
        open_photo(tmp_path / "p.tif")


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_dark_picture_of_sixteen_bits_stays_dark(tmp_path: Path, kind: str) -> None:
    Image.fromarray((RAMP * 250).astype(np.uint16)).save(tmp_path / f"p.{kind}")
    assert seen(tmp_path / f"p.{kind}").max() <= 1


def test_the_largest_sample_and_the_inverted_scale_of_a_tiff_are_heard(tmp_path: Path) -> None:
    tones = (RAMP * 4095).astype(np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    Image.fromarray(tones).save(tmp_path / "p.tif", tiffinfo=tags)
    assert np.abs(seen(tmp_path / "p.tif")[..., 0] - RAMP * 255).max() <= 1
    content = (tmp_path / "p.tif").read_bytes()
    black_is_zero, white_is_zero = (struct.pack("<HHII", 262, 3, 1, n) for n in (1, 0))
    assert content.count(black_is_zero) == 1
    (tmp_path / "p.tif").write_bytes(content.replace(black_is_zero, white_is_zero))
    assert np.abs(seen(tmp_path / "p.tif")[..., 0] - (1 - RAMP) * 255).max() <= 1


def test_white_shows_through_one_clear_value_of_sixteen_bits(tmp_path: Path) -> None:
    grey = np.full((120, 160), 30000)
    grey[:, 80:] = 12345
    content = png(grey, chunk(b"tRNS", struct.pack(">H", 12345)), dtype=np.uint16)
    (tmp_path / "p.png").write_bytes(content)
    assert (seen(tmp_path / "p.png")[:, :80] == 117).all()
    assert (seen(tmp_path / "p.png")[:, 80:] == 255).all()
    colours = np.full((120, 160, 3), 30000)
    colours[:, 80:] = (1000, 40000, 20000)
    clear = chunk(b"tRNS", struct.pack(">HHH", 1000, 40000, 20000))
    (tmp_path / "p.png").write_bytes(png(colours, clear, colour=2, dtype=np.uint16))
    assert (seen(tmp_path / "p.png")[:, :80] == 117).all()
    assert (seen(tmp_path / "p.png")[:, 80:] == 255).all()


def red_and_blue() -> Image.Image:
    picture = Image.new("RGB", (160, 120), (200, 40, 40))
    picture.paste((40, 60, 210), (80, 0, 160, 120))
    return picture


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "heic", "tif"])
@pytest.mark.parametrize(
    "exif", [b"no TIFF at all", b"II*\0", b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"]
)
def test_an_exif_that_cannot_be_read_is_passed_over(tmp_path: Path, kind: str, exif: bytes) -> None:
    path = tmp_path / f"p.{kind}"
    if kind == "tif":
        red_and_blue().save(path)  # its EXIF are its own tags
    else:
        red_and_blue().save(path, exif=b"Exif\0\0" + exif)
    assert np.abs(seen(path)[60, 40] - (200, 40, 40)).max() < 12


@pytest.mark.parametrize(
    "more",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"parameters\0" + bytes(70_000_000)),
        chunk(b"tEXt", b"Comment\0broken", crc=7),
        chunk(b"eXIf", b"II*\0", crc=7),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile")),
        chunk(b"tIME", b"soon"),
    ],
)
def test_a_pngs_long_and_broken_notes_are_passed_over(tmp_path: Path, more: bytes) -> None:
    (tmp_path / "p.png").write_bytes(png(RAMP * 255, more))
    assert np.abs(seen(tmp_path / "p.png")[..., 0] - RAMP * 255).max() <= 1


def test_broken_pixels_are_still_damage(tmp_path: Path) -> None:
    content = bytearray(png(RAMP * 255, chunk(b"tEXt", b"Comment\0fine")))
    content[-30] ^= 255
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(PhotoError, match="damaged"):
        open_photo(tmp_path / "p.png")


@pytest.mark.parametrize("small_first", [True, False])
def test_of_a_tiffs_pages_the_photo_is_taken_and_not_its_copy_in_small(
    tmp_path: Path, small_first: bool
) -> None:
    large, small = Image.new("RGB", (400, 300), "red"), Image.new("RGB", (96, 72), "blue")
    pages = [small, large] if small_first else [large, small]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert open_photo(tmp_path / "p.tif").image == large


def test_of_pages_of_one_size_the_first_is_taken(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (96, 72), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert open_photo(tmp_path / "p.tif").image == pages[0]


@pytest.mark.parametrize(
    "tags", [{254: 0, 50706: b"\1\4\0\0"}, {254: 1, 330: 8}], ids=["DNG", "preview"]
)
def test_a_raw_file_is_called_one(tmp_path: Path, tags: dict[int, int | bytes]) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    red_and_blue().save(tmp_path / "p.dng", "TIFF", tiffinfo=info)
    with pytest.raises(PhotoError, match=r"p\.dng is a camera's raw file"):
        open_photo(tmp_path / "p.dng")


def test_a_raw_file_of_its_own_kind_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "p.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(4000))
    with pytest.raises(PhotoError, match=r"p\.raf is a camera's raw file"):
        open_photo(tmp_path / "p.raf")


def test_display_p3_by_number_comes_out_as_by_its_matrices(tmp_path: Path) -> None:
    """(200, 40, 40) in P3 is (218, 0, 26) in sRGB."""
    picture = Image.new("RGB", (160, 120), (200, 40, 40))
    numbers = {"color_primaries": 12, "transfer_characteristics": 13}
    picture.save(tmp_path / "p.heic", quality=100, chroma=444, **numbers)
    rows = np.array(picture)
    (tmp_path / "p.png").write_bytes(png(rows, chunk(b"cICP", bytes([12, 13, 0, 1])), colour=2))
    picture.save(tmp_path / "p.avif", quality=100, subsampling="4:4:4")
    content = (tmp_path / "p.avif").read_bytes()
    assert content.count(b"colrnclx\0\1\0\x0d") == 1
    (tmp_path / "p.avif").write_bytes(content.replace(b"colrnclx\0\1", b"colrnclx\0\x0c"))
    for kind in ("heic", "png", "avif"):
        assert np.abs(seen(tmp_path / f"p.{kind}")[60, 80] - (218, 0, 26)).max() <= 6, kind


def test_a_profile_goes_before_numbers_and_srgb_by_number_stays(tmp_path: Path) -> None:
    assert by_number(1, 13) is None
    assert by_number(1, 1) is None  # a camera's curve is shown as sRGB
    assert by_number(2, 2) is None
    picture = Image.new("RGB", (160, 120), (200, 40, 40))
    picture.save(tmp_path / "p.heic", quality=100, chroma=444, color_primaries=1)
    assert np.abs(seen(tmp_path / "p.heic")[60, 80] - (200, 40, 40)).max() <= 6


@pytest.mark.parametrize(("transfer", "signal"), [(16, 0.58), (18, 0.75)])
def test_diffuse_white_of_hdr_is_white(transfer: int, signal: float) -> None:
    """BT.2408: 203 cd/m² is 58% of PQ's signal, and 75% of HLG's."""
    space = by_number(9, transfer)
    assert space is not None
    white = Image.new("RGB", (8, 8), (round(signal * 255),) * 3)
    assert min(to_srgb(white, space).getpixel((4, 4))) >= 252  # type: ignore[type-var]


def test_a_cameras_adobe_rgb_is_heard(tmp_path: Path) -> None:
    """DCF 2.0: the index R03. By the matrices, (120, 180, 100) is (81, 181, 94) in sRGB."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    picture = Image.new("RGB", (160, 120), (120, 180, 100))
    picture.save(tmp_path / "p.jpg", quality=100, subsampling=0, exif=exif)
    with Image.open(BytesIO((tmp_path / "p.jpg").read_bytes())) as file:
        assert file.getexif().get_ifd(0xA005)[1] == "R03"
    assert np.abs(seen(tmp_path / "p.jpg")[60, 80] - (81, 181, 94)).max() <= 4


def test_no_more_pictures_are_decoded_at_once_than_memory_is_meant_for(tmp_path: Path):
    Image.effect_noise((96, 96), 80).save(tmp_path / "a.png")
    all_there, now, most = threading.Barrier(6), [0], [0]
    lock = threading.Lock()

    def look() -> None:
        all_there.wait()
        with open_image(tmp_path / "a.png", "a.png"):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == AT_ONCE


def test_the_size_of_a_picture_is_checked_by_its_header(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("1", (1, 1)).save(path)
    check_pixels(path, "a.png")
    content = bytearray(path.read_bytes())
    for side in (9000, 60000):
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        path.write_bytes(content)
        with pytest.raises(PhotoError, match="at most 64 million"):
            check_pixels(path, "a.png")
    path.write_text("no picture")
    with pytest.raises(PhotoError, match="not a picture"):
        check_pixels(path, "a.png")
