"""What is wrong with photos is said by their names, as they will be framed."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFilter

from personalization.data.frames import Canvas
from personalization.data.photo_problems import problems
from personalization.data.photos import Photo
from tests.data.test_photos import texture

SQUARE = Canvas(128, 32)


def test_good_photos_have_no_problems():
    assert problems([Photo(f"{seed}", texture(seed)) for seed in range(5)], SQUARE) == []


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (texture(9, 100, 120), "100 × 120 pixels and will be enlarged to 128"),
        (texture(9, 160, 400), "60% of it lies outside the square"),
        (texture(9).filter(ImageFilter.GaussianBlur(8)), "looks blurry"),
        (texture(1).resize((150, 150)), "almost the same"),
    ],
)
def test_a_problem_names_its_photo(image: Image.Image, problem: str):
    good = [Photo(f"{seed}", texture(seed)) for seed in range(4)]
    found = problems([*good, Photo("odd.jpg", image)], SQUARE)
    assert len(found) == 1
    assert "odd.jpg" in found[0]
    assert problem in found[0]


def test_a_sharp_subject_before_a_soft_background_is_not_blurry():
    image = texture(5).filter(ImageFilter.GaussianBlur(8))
    image.paste(texture(6, 50, 50), (55, 55))
    photos = [Photo("portrait", image), *(Photo(f"{seed}", texture(seed)) for seed in range(2))]
    assert problems(photos, SQUARE) == []


@pytest.mark.parametrize(("count", "said"), [(1, "only one photo"), (2, "only two photos")])
def test_too_few_photos_are_named(count: int, said: str):
    photos = [Photo(f"{seed}", texture(seed)) for seed in range(count)]
    assert [said in problem for problem in problems(photos, SQUARE)] == [True]


def test_a_long_photo_that_keeps_its_shape_is_no_problem_until_it_is_too_long():
    photos = [Photo(f"{seed}", texture(seed)) for seed in range(3)]
    long, longer = (Photo("long", texture(9, side, 160)) for side in (400, 800))
    own = Canvas(128, 32, "shape")
    assert problems([*photos, long], own) == []
    assert "67% of it lies outside the frame" in problems([*photos, longer], own)[0]


def test_what_is_enlarged_is_what_lies_in_the_frame():
    mask = Image.new("L", (400, 400))
    mask.paste(255, (10, 10, 60, 60))
    photos = [Photo(f"{seed}", texture(seed)) for seed in range(3)]
    small = Photo("small", texture(9, 400, 400), mask)
    assert problems([*photos, small], Canvas(128, 32, "subject")) == []
