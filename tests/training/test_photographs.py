"""The pocket tells photographs from drawings before they are taught; other bases draw them."""

from __future__ import annotations

import json
from pathlib import Path

import gradio
import numpy as np
import pytest
import torch
from PIL import Image

from personalization.bases import CATALOG
from personalization.data.photos import Photo, open_photos
from personalization.page.photographs import photograph_notes, remedy
from personalization.pocket.world import draw
from personalization.pocket.world.subjects import STYLE_SUBJECTS, held_out_word_scenes
from personalization.training.base_selection import PATIENCE, for_photographs
from personalization.training.estimate import outlook_on
from personalization.training.photographs import FILE, outside
from personalization.training.presets import SMALLER
from tests.support.packaged_photographs import OF_GRADIO, is_fitted

POCKET = CATALOG["pocket"]
# Not among what the threshold was set on; see tests.benchmarks.photographs.
IMAGES = Path(gradio.__file__).parent / "media_assets" / "images"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "photographs.json"
PHOTOGRAPHS = [IMAGES / name for name in OF_GRADIO]


def test_photographs_are_recognised() -> None:
    photos, _ = open_photos(PHOTOGRAPHS)
    assert outside(POCKET, photos) == photos
    assert photograph_notes(POCKET, photos, "subject")


def test_what_was_counted_is_as_asked_and_of_the_pockets_file() -> None:
    """And of packages that nothing was fitted on."""
    counted = json.loads(RESULTS.read_text())
    assert counted["photographs"] >= 0.95
    assert counted["drawings"] <= 0.02
    assert max(counted["a style left out of the fitting"].values()) < 0.06  # two drawings of 38
    flags = json.loads((Path(POCKET.source) / FILE).read_text())["flags"]
    assert flags == {name: counted[name] for name in flags}
    assert not any(is_fitted(name.split(":")[0]) for name in counted["crops, by photograph"])


@pytest.mark.parametrize("style", ["watercolour", "neon", *STYLE_SUBJECTS])
def test_a_set_of_drawings_of_a_held_out_style_brings_no_notice(style: str) -> None:
    held_out = style in ("watercolour", "neon")
    scenes = held_out_word_scenes(style, 4, 9) if held_out else STYLE_SUBJECTS[style].scenes(4, 9)
    photos = [Photo(str(i), draw(scene, 256)) for i, scene in enumerate(scenes)]
    assert photograph_notes(POCKET, photos, "subject") == []


def test_what_is_no_picture_of_anything_is_answered_too() -> None:
    grey, black = (Image.new("RGB", (200, 120), colour) for colour in ("grey", "black"))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 90, 3), dtype=np.uint8))
    outside(POCKET, [Photo("grey", grey), Photo("black", black), Photo("noise", noise)])
    assert outside(POCKET, []) == []


def test_the_notice_names_a_base_for_photographs_and_the_time_it_takes() -> None:
    photos, _ = open_photos(PHOTOGRAPHS[:2])
    (said,) = photograph_notes(POCKET, photos, "word")
    assert said.startswith("These are photographs; the pocket draws cartoons")
    assert any(CATALOG[name].title in said for name in ("sd15", "bk-sdm-small", "bk-sdm-tiny"))
    assert "would take about" in said
    assert photograph_notes(CATALOG["sd15"], photos, "word") == []


def test_a_slow_processor_is_offered_smaller_photos_before_hours() -> None:
    """Smaller photos take less time: what is named is within an hour, or the quickest of all."""
    device = torch.device("cpu")
    found = for_photographs("subject", device)
    assert found is not None
    assert found.seconds is not None
    if found.seconds > PATIENCE:
        assert found.size == min(SMALLER)
    if found.size < found.spec.size:
        recipe = found.spec.recipes["subject"]
        own = outlook_on(found.spec, recipe, device).seconds
        assert own is not None
        assert own > max(PATIENCE, found.seconds)
        assert f"with photos of {found.size} px" in remedy("subject")
