"""What is learned of a photo: the square, its own shape, or the subject; one frame says it all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from personalization.data.frames import Canvas, Frame, bucket, buckets, crop, frame, square
from personalization.data.photos import Photo
from personalization.recipe import Framing
from tests.data.test_photos import corners, texture

SDXL = Canvas(1024, 64, "shape")


def masked(width: int, height: int, box: tuple[int, int, int, int]) -> Photo:
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    return Photo("photo", texture(0, width, height), mask)


def test_the_crop_is_the_middle_square():
    photo = Photo("wide", corners(128, 64))
    assert crop(photo, 64) == corners(128, 64).crop((32, 0, 96, 64))


@pytest.mark.parametrize(("where", "left"), [(0, 0), (80, 58), (180, 128)])
def test_the_crop_follows_the_mask_as_far_as_the_photo_reaches(where: int, left: int):
    mask = Image.new("L", (192, 64))
    mask.paste(255, (where, 20, where + 20, 40))
    photo = Photo("wide", texture(0, 192, 64), mask)
    assert crop(photo, 64) == photo.image.crop((left, 0, left + 64, 64))
    assert frame(photo, Canvas(64, 64)).mask(photo) == mask.crop((left, 0, left + 64, 64))


def test_without_a_mask_there_is_none_to_crop():
    photo = Photo("plain", corners())
    assert frame(photo, Canvas(64, 64)).mask(photo) is None


@pytest.mark.parametrize(("size", "granularity"), [(1024, 64), (512, 64), (768, 64), (128, 32)])
def test_every_bucket_is_of_about_the_bases_area_and_of_its_granularity(size, granularity):
    found = buckets(size, granularity)
    assert (size, size) in found
    assert len(found) > 2
    for width, height in found:
        assert (height, width) in found
        assert width % granularity == height % granularity == 0
        assert 0.8 * size**2 <= width * height <= size**2
        assert max(width, height) <= 2.5 * min(width, height)


def test_sdxls_buckets_are_of_those_that_it_was_trained_on():
    """Podell et al. 2023, appendix I, as far as they take no more than the square."""
    papers = {(1024, 1024), (1088, 960), (1152, 896), (1216, 832), (1280, 768), (1344, 768)}
    assert papers <= set(buckets(1024, 64))


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ((4032, 3024), (1152, 896)),
        ((3024, 4032), (896, 1152)),
        ((3000, 2000), (1216, 832)),
        ((1000, 1000), (1024, 1024)),
        ((1920, 1080), (1344, 768)),
        ((9000, 1000), (1600, 640)),
    ],
)
def test_a_photo_goes_to_the_size_that_shows_most_of_it(photo, expected):
    assert bucket(photo, SDXL) == expected


def test_a_photo_in_its_own_shape_loses_little_and_is_not_stretched():
    photo = Photo("photo", texture(0, 400, 300))
    seen = frame(photo, Canvas(512, 64, "shape"))
    assert seen.size == (576, 448)
    left, top, right, bottom = seen.box
    assert (right - left) / (bottom - top) == pytest.approx(576 / 448, abs=0.01)
    assert seen.share > 0.95
    assert seen.crop(photo).size == seen.size
    assert frame(photo, Canvas(512, 64)).share == 0.75


def test_the_frame_of_the_subject_is_around_its_mask_whatever_its_place():
    photo = masked(1200, 900, (700, 100, 1000, 700))
    seen = frame(photo, Canvas(512, 64, "subject"))
    left, top, right, bottom = seen.box
    assert left <= 700
    assert right >= 1000
    assert top <= 100
    assert bottom >= 700
    assert seen.size[1] > seen.size[0]  # as it is
    assert seen.share < 0.4
    cut = np.asarray(seen.mask(photo))
    assert cut.mean() / 255 > 0.5  # most of what is learned is the subject


def test_a_report_compares_with_a_square_around_what_was_learned():
    image = Image.new("RGB", (600, 400), "grey")
    mask = Image.new("L", (600, 400))
    mask.paste(255, (400, 100, 500, 200))
    image.paste("red", (400, 100, 500, 200))
    photo = Photo("p", image, mask)

    def red(framing: Framing) -> float:
        pixels = np.asarray(square(photo, 64, framing))
        assert pixels.shape == (64, 64, 3)
        return float((pixels[..., 0] > 200).mean())

    assert red("subject") > 0.6
    assert red("shape") == red("crop") == pytest.approx(100 * 100 / (400 * 400), abs=0.02)


def test_a_small_subject_is_not_enlarged_and_one_without_a_mask_keeps_its_shape():
    small = frame(masked(1200, 900, (600, 400, 640, 440)), Canvas(512, 64, "subject"))
    assert small.box[2] - small.box[0] == small.size[0] == 512
    plain = replace(masked(1200, 900, (0, 0, 1, 1)), mask=None)
    shape, subject = (frame(plain, Canvas(512, 64, how)) for how in ("shape", "subject"))
    assert shape == subject


def test_a_frame_lies_within_its_photo_whatever_its_sides():
    sides = [1, 2, 7, 63, 64, 65, 128, 500, 3001]
    for width in sides:
        for height in sides:
            for framing in ("crop", "shape", "subject"):
                photo = Photo("photo", Image.new("RGB", (width, height)))
                left, top, right, bottom = frame(photo, Canvas(64, 16, framing)).box
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height


def test_sdxl_is_told_the_sizes_and_the_corner_as_its_paper_has_them():
    seen = Frame((100, 50, 1252, 946), (1152, 896), (1536, 1000))
    assert seen.conditioning == (1000, 1536, 50, 100, 896, 1152)
    assert seen.mirrored.conditioning == (1000, 1536, 50, 1536 - 1252, 896, 1152)
    half = Frame((100, 50, 2404, 1842), (1152, 896), (3000, 2000))
    assert half.conditioning == (2000, 3000, 25, 50, 896, 1152)
