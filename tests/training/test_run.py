"""A run's folder holds all of it, whichever version of the app wrote it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personalization.data.photo_file import decode, encode
from personalization.data.photos import Photo
from personalization.errors import PhotoError, RunError
from personalization.recipe import LearnedEmbedding, LowRank, Prior, Recipe
from personalization.training.run import LossRow, Run, State
from tests.support import tiny

V010 = Path(__file__).parents[1] / "fixtures" / "v0.1.0"
RECIPE = Recipe(LowRank(learned_embedding=LearnedEmbedding(2)), 5, prior=Prior())


def masked() -> Photo:
    plain = tiny.photos(1)[0]
    mask = Image.new("L", plain.image.size)
    mask.paste(200, (10, 10, 60, 40))
    return replace(plain, name="Tasse ☕.png", mask=mask, caption="ma tasse, à midi")


@pytest.mark.parametrize("photo", [tiny.photos(1)[0], masked()])
def test_a_photo_comes_back_from_its_file_to_the_pixel(tmp_path: Path, photo: Photo) -> None:
    (tmp_path / "a.png").write_bytes(encode(photo))
    again = decode(tmp_path / "a.png")
    assert again == photo
    assert np.array_equal(np.asarray(again.image), np.asarray(photo.image))
    assert not again.image.info


@pytest.mark.parametrize("content", [b"", b"words", encode(masked())[:300]])
def test_a_damaged_photo_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PhotoError, match=r"^a\.png cannot be read"):
        decode(tmp_path / "a.png")


def test_a_run_is_opened_as_it_was_made(tmp_path: Path) -> None:
    concept = replace(tiny.concept(), photos=(masked(), *tiny.photos(2)))
    Run.create(tmp_path / "run", concept, RECIPE, "tiny")
    run = Run.open(tmp_path / "run")
    assert (run.recipe, run.base, run.state) == (RECIPE, "tiny", State())
    assert replace(run.concept, photos=tuple(run.concept.photos)) == concept
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(tmp_path / "run", concept, RECIPE, "tiny")


def test_the_same_photos_have_the_same_hashes_in_every_version(tmp_path: Path) -> None:
    before = Run.open(V010 / "lokr")
    photos = [replace(photo, name="other.png") for photo in reversed(before.concept.photos)]
    after = Run.create(tmp_path, replace(before.concept, photos=photos), RECIPE, "tiny")
    assert after.photo_hashes == before.photo_hashes
    fewer = Run.create(tmp_path / "2", replace(before.concept, photos=photos[:2]), RECIPE, "tiny")
    assert fewer.photo_hashes != before.photo_hashes


def test_masks_and_captions_of_0_1_0_are_read() -> None:
    photo = Run.open(V010 / "lora").concept.photos[0]
    entry = json.loads((V010 / "lora" / "run.json").read_text())["concept"]["photos"][0]
    assert (photo.name, photo.caption) == (entry["name"], entry["caption"])
    if "mask" in entry:
        with Image.open(V010 / "lora" / entry["mask"]) as mask:
            assert np.array_equal(np.asarray(photo.mask), np.asarray(mask))


def test_the_log_keeps_what_is_whole(tmp_path: Path) -> None:
    run = Run.create(tmp_path, tiny.concept(), RECIPE, "tiny")
    rows = [LossRow(1, 0.1, None, 0.5, 2.0), LossRow(2, 1 / 3, 0.25, 0.5), LossRow(3, 1.0, None, 1)]
    run.log(rows)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert run.losses() == rows
    run.truncate_log(2)
    assert run.losses() == rows[:2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 3}, "a run of a later version of the app"),
        ({"base": None}, r"holds no run that can be read \(base: "),
        ({"concept": {}}, "concept"),
        ({"recipe": {"format": 3}}, "a later version"),
    ],
)
def test_a_folder_that_cannot_be_opened_says_why(tmp_path: Path, change, sentence) -> None:
    run = Run.create(tmp_path, tiny.concept(), RECIPE, "tiny")
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | change))
    with pytest.raises(RunError, match=sentence):
        Run.open(run.folder)


def test_a_state_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    run = Run.create(tmp_path, tiny.concept(), RECIPE, "tiny")
    (tmp_path / "state.json").write_text('{"status": "asleep"}')
    with pytest.raises(RunError, match="status"):
        _ = run.state


@pytest.mark.parametrize(
    ("noun", "class_noun"), [("sks dog", "dog"), ("a SKS  toy", "a toy"), ("sks", "subject")]
)
def test_a_noun_of_0_1_0_that_holds_the_word_goes_on_as_the_class_alone(
    tmp_path: Path, noun: str, class_noun: str
) -> None:
    folder = shutil.copytree(V010 / "lora", tmp_path / "lora")
    record = json.loads((folder / "run.json").read_text())
    record["concept"] |= {"token": "sks", "noun": noun}
    (folder / "run.json").write_text(json.dumps(record))
    concept = Run.open(folder).concept
    assert (concept.placeholder_token, concept.class_noun) == ("sks", class_noun)
    assert "sks" not in concept.class_prompt().split()
