"""Claims about the drawn world: what it shows, what it says, and what it holds back."""

from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest

from personalization.pocket import world
from personalization.pocket.world import Scene, vocabulary

ALL_CLASSES = vocabulary.CLASSES + vocabulary.HELD_OUT_CLASSES
ALL_STYLES = vocabulary.STYLES + vocabulary.HELD_OUT_STYLE_WORDS + vocabulary.HELD_OUT_STYLES
HELD_OUT_WORDS = (
    vocabulary.HELD_OUT_CLASSES
    + vocabulary.HELD_OUT_PATTERNS
    + vocabulary.HELD_OUT_ACCESSORIES
    + vocabulary.HELD_OUT_STYLES
)


def samples(n: int, **options: bool) -> list[Scene]:
    rng = np.random.default_rng(7)
    return [world.sample(rng, **options) for _ in range(n)]


def pixels(scene: Scene, size: int = 64) -> np.ndarray:
    return np.asarray(world.draw(scene, size)).astype(int)


def test_drawing_is_deterministic():
    for scene in samples(12):
        assert (pixels(scene) == pixels(Scene(**asdict(scene)))).all()


@pytest.mark.parametrize("style", ALL_STYLES)
def test_every_class_draws_in_every_style_at_the_size_asked(style):
    for kind in ALL_CLASSES:
        picture = world.draw(Scene(kind=kind, colour="red", style=style), 48)
        assert picture.size == (48, 48)
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 8


def test_every_place_pattern_and_accessory_changes_the_picture():
    base = Scene(kind="dog", colour="red", place="plain", backdrop="white")
    changes = [{"place": place} for place in vocabulary.PLACES[:-1]]
    patterns = vocabulary.PATTERNS[1:] + vocabulary.HELD_OUT_PATTERNS
    changes += [{"pattern": pattern} for pattern in patterns]
    accessories = vocabulary.ACCESSORIES[1:] + vocabulary.HELD_OUT_ACCESSORIES
    changes += [{"accessory": accessory} for accessory in accessories]
    for change in changes:
        difference = np.abs(pixels(replace(base, **change)) - pixels(base))
        assert difference.mean() > 1, change


def test_sample_never_yields_a_held_out_thing():
    known = {
        "kind": vocabulary.CLASSES,
        "colour": (*vocabulary.COLOURS, *vocabulary.HELD_OUT_COLOUR_WORDS),
        "pattern": vocabulary.PATTERNS,
        "accessory": vocabulary.ACCESSORIES,
        "place": vocabulary.PLACES,
        "style": vocabulary.STYLES + vocabulary.HELD_OUT_STYLE_WORDS,
    }
    scenes = samples(2000)
    for name, values in known.items():
        assert {getattr(scene, name) for scene in scenes} == set(values)
    assert all(scene.belly is None for scene in scenes)
    held_out = {subject.likeness.individual for subject in world.SUBJECTS.values()}
    assert max(scene.individual for scene in scenes) < min(held_out)


def test_sample_without_held_out_words_draws_nothing_of_theirs():
    held_out = vocabulary.HELD_OUT_STYLE_WORDS + vocabulary.HELD_OUT_COLOUR_WORDS
    for scene in samples(1000, held_out_words=False):
        assert not set(world.facts(scene).values()) & set(held_out)


def test_captions_never_contain_a_held_out_word():
    rng = np.random.default_rng(3)
    for scene in samples(2000):
        text = f"{world.caption(scene, rng)} {world.full_caption(scene)}"
        assert not [word for word in HELD_OUT_WORDS if word in text]
        assert text == text.lower()


def test_captions_name_a_style_of_held_out_word_exactly_when_it_is_drawn():
    rng = np.random.default_rng(3)
    for scene in samples(2000):
        text = world.caption(scene, rng)
        for style in vocabulary.HELD_OUT_STYLE_WORDS:
            assert (style in text) == (scene.style == style)


def test_the_full_caption_says_every_fact():
    scene = Scene("dog", "red", "spotted", "party hat", "beach", "sketch")
    words = "a pencil sketch of a red spotted dog wearing a party hat on the beach"
    assert world.full_caption(scene) == words


@pytest.mark.parametrize("name", world.SUBJECTS)
def test_a_subjects_photos_share_the_individual_and_differ_in_place(name):
    subject = world.SUBJECTS[name]
    photos = subject.scenes(6, seed=0)
    same = ("kind", "colour", "pattern", "accessory", "individual", "belly", "style")
    assert {tuple(getattr(photo, key) for key in same) for photo in photos} == {
        tuple(getattr(subject.likeness, key) for key in same)
    }
    assert len({photo.place for photo in photos}) == 6
    assert photos == subject.scenes(6, seed=0)
    assert photos != subject.scenes(6, seed=1)


def test_individuals_of_a_class_differ_in_shape():
    for kind in ALL_CLASSES:
        shapes = [np.asarray(world.mask(Scene(kind, "red", individual=i), 64)) for i in range(3)]
        assert all((shapes[0] != other).any() for other in shapes[1:])


@pytest.mark.parametrize("kind", ALL_CLASSES)
def test_the_mask_covers_the_figure_and_nothing_else(kind):
    scene = Scene(kind, "red", place="plain", backdrop="blue")
    without_shadow = replace(scene, place="underwater")
    inside = np.asarray(world.mask(without_shadow, 64)) > 0
    other = replace(without_shadow, colour="yellow", pattern="spotted")
    changed = (pixels(without_shadow) != pixels(other)).any(axis=-1)
    assert changed.any()
    assert not (changed & ~inside).any()
    assert 0.08 < inside.mean() < 0.6


@pytest.mark.parametrize("name", world.STYLE_SUBJECTS)
def test_a_held_out_style_is_constant_while_contents_vary(name):
    scenes = world.STYLE_SUBJECTS[name].scenes(8, seed=0)
    assert {scene.style for scene in scenes} == {name}
    assert len({scene.kind for scene in scenes}) == 8


def test_held_out_word_scenes_show_what_the_removed_word_meant():
    for style, colour in product(vocabulary.HELD_OUT_STYLE_WORDS, vocabulary.HELD_OUT_COLOUR_WORDS):
        assert {s.style for s in world.held_out_word_scenes(style, 5, 0)} == {style}
        assert {s.colour for s in world.held_out_word_scenes(colour, 5, 0)} == {colour}
    with pytest.raises(ValueError, match="not a held-out word"):
        world.held_out_word_scenes("red", 5, 0)
