"""Drawing from a picture: what is brushed over is drawn anew, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from personalization.bases import schedulers
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.generate import SEAM, draw
from personalization.sampling.picture_record import PictureRecord
from personalization.sampling.settings import SEEDS, Settings, Start
from tests.support import tiny

ASKED = Settings("a photo of a dog", seed=3, steps=3, task="inpaint", strength=1.0)


@pytest.fixture(scope="module")
def base():
    return tiny.base()


@pytest.fixture
def start() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_inpainting_leaves_what_is_not_painted_over_to_the_last_bit(base, start) -> None:
    mask = Image.new("L", start.size)
    ImageDraw.Draw(mask).rectangle((0, 0, 12, 31), fill=255)
    drawn = draw(base, ASKED, start=Start(start, mask))[0].image
    before, after = np.asarray(start).astype(int), np.asarray(drawn).astype(int)
    assert abs(after - before)[:, : 12 - SEAM].mean() > 20
    assert (after == before)[:, 13 + 3 * SEAM :].all()


def test_a_picture_of_another_size_is_drawn_from_at_the_base_s_own(base, start) -> None:
    large = start.resize((100, 80))
    little = replace(ASKED, task="image", strength=0.4)
    drawn = draw(base, little, start=Start(large))[0]
    assert drawn.image.size == (32, 32)
    assert drawn.record.task == "image"
    assert drawn.record.strength == 0.4


def test_what_is_missing_to_start_from_is_named(base, start) -> None:
    empty = Image.new("L", start.size)
    for given, said in (
        (None, "no picture to start from"),
        (Start(start), "Nothing is painted"),
        (Start(start, empty), "Nothing is painted"),
    ):
        with pytest.raises(PersonalizationError, match=said):
            draw(base, ASKED, start=given)


@pytest.mark.parametrize("name", schedulers.names("unet"))
def test_each_scheduler_draws_its_own_picture_and_the_same_one_twice(base, name: str) -> None:
    asked = Settings("a photo of a dog", seed=3, steps=4, count=2, scheduler=name)
    first, second = draw(base, asked)
    assert first.record.scheduler == name
    again = draw(base, replace(asked, seed=4, count=1))[0]  # alone, at the second's seed
    assert np.abs(np.asarray(second.image, int) - np.asarray(again.image, int)).max() <= 1
    assert first.image.tobytes() != second.image.tobytes()


def test_the_named_schedulers_sample_as_they_say(base) -> None:
    drawn = {
        name: draw(base, Settings("a dog", seed=3, steps=4, scheduler=name))[0].image.tobytes()
        for name in (None, *schedulers.names("unet"))
    }
    # One of them may be the base's own.
    assert len(set(drawn.values())) >= len(schedulers.names("unet"))


def test_a_scheduler_that_is_not_for_the_base_is_refused_with_those_that_are(base) -> None:
    with pytest.raises(PersonalizationError, match=r"Turbo.*DPM\+\+ 2M, .*DDIM"):
        draw(base, Settings("a dog", scheduler="Turbo"))


def test_after_the_last_seed_comes_the_first(base) -> None:
    last = Settings("a dog", seed=SEEDS - 1, count=2, steps=2)
    pictures = draw(base, last)
    assert [picture.record.seed for picture in pictures] == [SEEDS - 1, 0]
    assert pictures[1].image.tobytes() != pictures[0].image.tobytes()
    assert PictureRecord.from_json(json.dumps(pictures[0].record.to_dict())) == pictures[0].record


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        (Settings(""), "prompt", "say what to draw"),
        (Settings(" \n"), "prompt", "say what to draw"),
        (Settings("x" * 2001), "prompt", "2001 characters; at most 2000"),
        (Settings("a dog", negative="x" * 9999), "negative", "9999 characters"),
        (Settings("a dog", seed=SEEDS), "seed", "between 0 and"),
        (Settings("a dog", count=17), "number of pictures", "between 1 and 16"),
        (Settings("a dog", guidance=float("nan")), "guidance", "between 0 and 30"),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(settings, field: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        settings.check()
    assert caught.value.field == field


@pytest.mark.parametrize("task", ["image", "inpaint"])
@pytest.mark.parametrize(
    ("steps", "strength", "enough"), [(10, 0.05, 20), (19, 0.05, 20), (1, 0.6, 2), (4, 0.2, 5)]
)
def test_a_change_that_leaves_no_step_says_how_many_it_takes(
    base, start, task, steps, strength, enough
) -> None:
    small = replace(ASKED, task=task, steps=steps, strength=strength)
    given = Start(start, Image.new("L", start.size, 255))
    with pytest.raises(RecipeError, match=f"no step to draw with. Take at least {enough} steps"):
        draw(base, small, start=given)
    assert len(draw(base, replace(small, steps=enough), start=given)) == 1
