"""Claims about what was drawn already: only what is damaged is drawn again."""

from __future__ import annotations

import pytest
from PIL import Image

from personalization.evaluation.renderer import ImageCache, Renderer
from tests.support.known import PLAN

PROMPTS, SEEDS = ["one", "two", "three"], [1, 2, 3]


def drawn_again(folder) -> list[int]:
    """The seeds that are drawn by whoever goes on."""
    seeds: list[int] = []

    def draw(strength, prompts, numbers):
        seeds.extend(numbers)
        return [Image.new("RGB", (8, 8), (number, 0, 0)) for number in numbers]

    list(Renderer(draw, ImageCache(folder)).draw("all", 0.8, PROMPTS, SEEDS))
    return seeds


@pytest.fixture
def folder(tmp_path):
    ImageCache(tmp_path).agree(PLAN)
    assert drawn_again(tmp_path) == SEEDS
    assert drawn_again(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize("length", [0, 20, 45])
def test_of_damaged_pictures_those_alone_are_drawn_again(folder, length):
    damaged = sorted(folder.glob("*.png"))[1]
    damaged.write_bytes(damaged.read_bytes()[:length])
    assert len(drawn_again(folder)) == 1
    assert drawn_again(folder) == []


def test_a_damaged_plan_takes_no_picture_with_it(folder):
    (folder / "plan.json").write_text('{"prompts": ')
    cache = ImageCache(folder)
    assert cache.plan is None
    assert len(list(folder.glob("*.png"))) == 3
    assert not (folder / "plan.json").exists()
