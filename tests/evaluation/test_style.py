"""Claims about styles: what of them is seen, in the looks of the drawn world."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from PIL import Image

from personalization.bases.encoders import (
    DebiasedFeatures,
    EncoderPair,
    ImageEncoder,
    ImageTextEncoder,
)
from personalization.evaluation import metrics
from personalization.evaluation.figures import ROOM
from personalization.evaluation.style import StyleStatistics, room, telling
from personalization.pocket import world
from personalization.pocket.world import vocabulary
from personalization.pocket.world.subjects import varied_scenes

STYLES = ("sketch", *vocabulary.HELD_OUT_STYLE_WORDS, *vocabulary.HELD_OUT_STYLES)


@cache
def drawn(style: str, count: int, seed: int) -> tuple[Image.Image, ...]:
    """Other contents for each seed."""
    scenes = varied_scenes(count, seed)
    return tuple(world.draw(replace(scene, style=style), 128) for scene in scenes)


def plain() -> tuple[Image.Image, ...]:
    """What the untouched base draws, as well as can be: pictures in no such style."""
    return drawn("cartoon", 8, 1)


def told_apart(encoder: ImageEncoder, style: str) -> float:
    """How often an unseen picture of the style is more like its photos than a plain one is."""
    photos = encoder.images(drawn(style, 5, 2026))
    own, other = (
        metrics.subject_fidelity(encoder.images(drawn(name, 12, 7)), photos)
        for name in (style, "cartoon")
    )
    return float((own[:, None] > other).float().mean())


@pytest.fixture
def pair(pocket_encoder: ImageTextEncoder) -> EncoderPair:
    return EncoderPair(DebiasedFeatures(pocket_encoder), pocket_encoder)


@pytest.mark.parametrize("style", STYLES)
def test_what_tells_a_style_tells_it_in_other_contents(style, pair):
    photos, statistics = drawn(style, 5, 2026), StyleStatistics(plain())
    chosen = telling(pair, photos, plain()).subject
    assert room(chosen, photos, plain()) >= ROOM
    assert told_apart(chosen, style) >= 0.9
    assert told_apart(statistics, style) >= 0.95


def test_statistics_stand_in_only_where_the_encoder_tells_no_more_than_chance(pair):
    for style in STYLES:
        blind = told_apart(pair.subject, style) < 0.6
        chosen = telling(pair, drawn(style, 5, 2026), plain())
        assert isinstance(chosen.subject, StyleStatistics) == blind == (style == "pixel art")


def test_no_style_is_seen_where_there_is_none(pair):
    assert telling(pair, drawn("cartoon", 5, 2026), plain()) is pair
