"""What version 0.1.0 wrote is read, goes on, and is drawn again.

tests/fixtures/v0.1.0 was made by that version's own code (commit b7fbb76) on `tests.support.tiny`:
runs stopped half way, each beside the adapter that it made of the whole; a visitor's home with
photos, a finished run with its report, and a library; and a picture drawn with a stack.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from personalization.adapters.adapter import read, read_tensors
from personalization.evaluation.report import Report
from personalization.events import Finished
from personalization.recipe import Recipe
from personalization.sampling.generate import draw
from personalization.sampling.picture_record import read_record
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import loop
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspaces
from tests.support import tiny

V010 = Path(__file__).parents[1] / "fixtures" / "v0.1.0"
# Of `arithmetic` on the machine that made the fixture: processors round differently.
ARITHMETIC = "42476af4309a5edd"


def arithmetic() -> str:
    """A hash of what a forward and a backward of the tiny UNet come to, with none of our code."""
    pipe = tiny.pipeline()
    noise = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 16, 16, generator=noise)
    hidden = torch.randn(2, 24, 32, generator=noise, requires_grad=True)
    pipe.unet(latents, torch.tensor([10, 700]), hidden).sample.square().mean().backward()
    assert hidden.grad is not None
    return hashlib.sha256(hidden.grad.numpy().tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module")
def base():
    base = tiny.base()
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=2))
    return base


@pytest.fixture
def home(tmp_path: Path) -> Workspaces:
    return Workspaces(shutil.copytree(V010 / "home", tmp_path / "home"), lifetime=1e12)


def only(folder: Path) -> str:
    (entry,) = folder.iterdir()
    return entry.name


@pytest.mark.parametrize("name", ["word", "lora", "dora", "lokr"])
def test_a_run_of_0_1_0_continued_gives_the_adapter_that_0_1_0_gave(base, tmp_path, name):
    run = Run.open(shutil.copytree(V010 / name, tmp_path / name))
    before = run.state.step
    assert 0 < before < run.recipe.steps
    *_, done = loop.train(base, run, cache=tmp_path / "cache")
    assert isinstance(done, Finished)
    ours, theirs = (
        read_tensors(run.adapter_path),
        read_tensors(V010 / name / "expected.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    if arithmetic() == ARITHMETIC:
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    else:
        assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in theirs)
    assert [row.step for row in run.losses()] == list(range(1, run.recipe.steps + 1))


def test_a_home_of_0_1_0_is_read(home: Workspaces) -> None:
    workspace = home.open(only(home.root))
    photos = workspace.photos(workspace.photo_keys())
    said = sorted((photo.name, photo.caption, photo.mask is not None) for photo in photos)
    assert said[0] == ("photo-0.png", "in a room", True)
    assert [each[1:] for each in said[1:]] == [(None, False)] * 2
    (run,) = workspace.runs()
    assert (run.concept.placeholder_token, run.concept.class_noun) == ("sks", "dog")
    assert run.state.status == "finished"
    assert [step for step, _ in run.previews()] == [4, 8]
    report = Report.open(run.folder)
    assert report is not None
    assert report.figures is not None
    assert report.verdict == json.loads((run.folder / "report.json").read_text())["verdict"]
    described = {
        entry.description.trigger: entry.description.method
        for entry in workspace.library.list()
        if entry.own and entry.description
    }
    assert described == {"sks dog": "lora", "<mug>": "textual_inversion"}


def test_a_recipe_of_0_1_0_is_read() -> None:
    run = Run.open(V010 / "word")
    assert run.recipe.method_name == "textual_inversion"
    pivotal = Run.open(V010 / "lokr").recipe.learned_embedding
    assert pivotal is not None
    assert Recipe.from_json((V010 / "recipe.json").read_text()).steps == 8


def test_a_picture_of_0_1_0_is_drawn_again(base, home: Workspaces) -> None:
    record = read_record(V010 / "picture.png")
    assert record is not None
    library = home.open(only(home.root)).library
    slots = []
    for said in record.adapters:
        adapter = library.get(said.name)
        assert adapter.sha256 == said.sha256
        slots.append(Slot(adapter, said.weight, said.text_weight, said.blocks))
    with applied(base, Stack(tuple(slots))):
        picture = draw(base, record.settings)[0].image
    before = np.asarray(Image.open(V010 / "picture.png").convert("RGB")).astype(int)
    assert np.abs(np.asarray(picture).astype(int) - before).max() <= 1


def test_an_adapter_of_0_1_0_says_what_it_said() -> None:
    described = read(V010 / "word" / "expected.safetensors").description
    assert (described.method, described.trigger) == ("textual_inversion", "<sks>")
