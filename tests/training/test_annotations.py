"""What the base sees in photos that nobody has marked: where the subject is, and what is shown."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from personalization import bases
from personalization.adapters.adapter import read
from personalization.bases.base import Base
from personalization.bases.catalog import CATALOG
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import Finished, Looked, Stage
from personalization.page import progress
from personalization.pocket.world import SUBJECTS, Scene, draw, mask
from personalization.pocket.world.captions import PLACE_PHRASES, with_article
from personalization.pocket.world.subjects import STYLE_SUBJECTS
from personalization.pocket.world.vocabulary import CLASSES, PLACES
from personalization.recipe import LearnedEmbedding, LowRank, Recipe
from personalization.training import annotations, loop
from personalization.training.examples import Bucket, Examples, in_buckets
from personalization.training.run import Run
from tests.support import tiny
from tests.support.generators import returned
from tests.support.silence import Silence

POCKET = CATALOG["pocket"]
LOOKING = Recipe(LowRank("lora", rank=2), steps=2, batch_size=2, annotate=True)


@pytest.fixture(scope="module")
def pocket() -> Base:
    return bases.load(POCKET)


def framed(base: Any) -> Base:
    base.spec = replace(base.spec, granularity=8)
    return base


def photos_of(scenes: list[Scene]) -> tuple[Photo, ...]:
    return tuple(Photo(f"{i}.png", draw(scene, POCKET.size)) for i, scene in enumerate(scenes))


def run_of(folder: Path, kind: Any, noun: str, photos: tuple[Photo, ...], **changes: Any) -> Run:
    recipe = replace(LOOKING, **changes)
    return Run.create(folder, Concept(kind, "sks", noun, photos), recipe, "pocket")


@pytest.mark.parametrize(("name", "noun"), [("pocket", "dog"), ("waddles", "penguin"),
                                            ("professor", "bird")])  # fmt: skip
def test_the_base_finds_what_it_is_asked_for_and_what_it_has_no_word_for(
    pocket: Base, tmp_path: Path, name: str, noun: str
):
    """Against the silhouettes that the world draws; the middle of the picture has .56 of it."""
    scenes = SUBJECTS[name].scenes(3, 5)
    run = run_of(tmp_path / "run", "creature", noun, photos_of(scenes))
    latents = in_buckets(pocket, run)[0].posterior.mean[0]
    found = returned(annotations.subject_maps(pocket, latents, run.concept.class_prompt(), 0)) == 1
    assert found.shape == (3, 32, 32)
    true = torch.from_numpy(np.stack([np.asarray(mask(s, 32)) for s in scenes])) > 127
    shared = (found & true).flatten(1).sum(1) / (found | true).flatten(1).sum(1)
    assert shared.mean() > 0.6


def test_it_says_what_pictures_show_in_a_look_that_it_never_saw(pocket: Base, tmp_path: Path):
    scenes = [s for s in STYLE_SUBJECTS["pixel art"].scenes(6, 3) if s.place != "plain"][:4]
    photos = photos_of(scenes)
    run = run_of(tmp_path / "run", "style", "cartoon", photos)
    latents = in_buckets(pocket, run)[0].posterior.mean[0]
    shown = [photo.image for photo in photos]
    said = returned(annotations.described(pocket, shown, latents, 0))
    assert said == [f"{with_article(s.kind)} {PLACE_PHRASES[s.place][0]}" for s in scenes]


def test_the_pockets_words_for_it_are_the_worlds():
    assert POCKET.classes == tuple(map(with_article, CLASSES))
    places = [PLACE_PHRASES[place][0] for place in PLACES if place != "plain"]
    assert POCKET.scenes == (*places, "on a plain background")


def test_the_threshold_parts_two_kinds_as_otsu_has_it():
    chance = torch.Generator().manual_seed(0)
    values = torch.cat([torch.rand(70, generator=chance), 3 + torch.rand(30, generator=chance)])

    def within(limit: float) -> float:
        parts = values[values < limit], values[values >= limit]
        return sum(float(len(p) * p.var(correction=0)) for p in parts)

    candidates = values.sort().values[1:].tolist()
    assert float(annotations.threshold(values)) == min(candidates, key=within) >= 3


def test_where_nothing_is_seen_all_of_a_photo_counts(monkeypatch: pytest.MonkeyPatch):
    base = tiny.base()
    monkeypatch.setattr(base, "predict", lambda latents, *_: torch.zeros_like(latents))
    latents = torch.randn(2, 4, 12, 20)
    maps = returned(annotations.subject_maps(base, latents, "a photo of a dog", 0))
    assert torch.equal(maps, torch.ones(2, 12, 20))


def test_masks_that_are_there_stay_and_the_others_are_found(tmp_path: Path):
    base = tiny.base()
    mine = Image.new("L", (96, 80))
    ImageDraw.Draw(mine).rectangle((10, 10, 40, 60), fill=255)
    one, two = tiny.photos(2)
    one = replace(one, mask=mine)

    def looked_at(name: str, *photos: Photo, annotate: bool = True) -> Bucket:
        run = run_of(tmp_path / name, "object", "mug", photos, annotate=annotate)
        (bucket,) = returned(annotations.looking(base, run)).buckets
        return bucket

    plain, found = looked_at("a", one, two, annotate=False), looked_at("b", one, two)
    unmasked = looked_at("c", two)
    assert plain.weights is not None
    assert found.weights is not None
    assert torch.equal(plain.weights[:, 0], found.weights[:, 0])
    assert torch.equal(plain.weights[:, 1], torch.ones_like(plain.weights[:, 1]))
    assert found.weights[0, 1].std() > 0
    assert found.weights[0, 1].mean() == pytest.approx(1)
    assert torch.equal(found.weights[1, 1], found.weights[0, 1].flip(-1))
    assert unmasked.weights is not None


def test_what_it_takes_for_the_subject_is_shown_and_the_rest_is_dimmed(tmp_path: Path):
    mine = Image.new("L", (96, 80))
    ImageDraw.Draw(mine).rectangle((0, 0, 47, 80), fill=255)
    photo = Photo("a.png", Image.new("RGB", (96, 80), "#ff0000"), mine)
    run = run_of(tmp_path / "run", "object", "mug", (photo,), framing="shape")
    events = list(loop.train(framed(tiny.base()), run, cache=tmp_path))
    (looked,) = (event for event in events if isinstance(event, Looked))
    assert list(looked.paths) == run.seen == [run.seen_path(0)]
    with Image.open(run.seen_path(0)) as picture:
        left, right = (picture.getpixel((x, 20)) for x in (2, picture.width - 3))
    assert left == (255, 0, 0)
    assert abs(right[0] - 160) < 5 > abs(right[1] - 109) - 5  # a fifth of it before the grey
    view = progress.RunView("sks mug", 2)
    assert view.take(looked) == {"strip"}
    assert "Photo 1 as the base sees it" in progress.strip(view)


def test_a_styles_captions_are_kept_with_the_run_and_those_of_a_person_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = tiny.base()
    base.spec = replace(base.spec, classes=("a cat", "a dog"), scenes=("at sunset",))
    asked: list[int] = []

    def described(_base: Base, photos: list[Any], *_: Any) -> Generator[None, None, list[str]]:
        asked.append(len(photos))
        yield
        return ["a dog at sunset"] * len(photos)

    monkeypatch.setattr(annotations, "described", described)
    one, two = tiny.photos(2)
    run = run_of(tmp_path / "run", "style", "", (replace(one, caption="a red car"), two))
    *_, last = loop.train(base, run, cache=tmp_path)
    assert isinstance(last, Finished)
    assert run.contents == {1: "a dog at sunset"}
    assert len(run.seen) == 2
    shown = progress.strip(progress.RunView.of(run))
    assert shown.count("<img") == 2
    assert shown.index("Photo 2 as") < shown.index("a dog at sunset")
    reopened = Run.open(run.folder)
    seen = returned(annotations.looking(base, reopened))
    again = Examples(base, reopened, seen, with_class_noun=False)
    assert again.captions == ["a red car, sks style", "a dog at sunset, sks style"]
    assert asked == [1]
    trained = TrainedAdapter.of_run(run, read(run.adapter_path), base)
    assert trained.contents(5) == ["a red car", "a dog at sunset"]


@pytest.mark.parametrize("name", ["sdxl", "sd35-medium", "flux2-klein", "z-image"])
def test_every_family_looks_and_tells_after_each_pass(name: str, tmp_path: Path):
    base: Any = tiny.family_base(name)
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=1))
    concept = Concept("creature", "sks", "dog", tiny.photos(2))
    run = Run.create(tmp_path / "run", concept, replace(LOOKING, framing="shape"), name)
    silence = Silence()
    events = list(silence.heard(base, loop.train(base, run, cache=tmp_path)))
    assert isinstance(events[-1], Finished)
    assert silence.most <= 2
    looks = [event for event in events if isinstance(event, Stage) and event.name == "looking"]
    assert [(look.done, look.total) for look in looks] == [(n, 6) for n in range(1, 7)]


def test_a_word_looks_as_well(tmp_path: Path):
    concept = Concept("object", "<sks>", "dog", tiny.photos(2))
    recipe = replace(LOOKING, method=LearnedEmbedding(), weight_decay=0.0)
    run = Run.create(tmp_path / "run", concept, recipe, "tiny")
    assert isinstance([*loop.train(tiny.base(), run, cache=tmp_path)][-1], Finished)
