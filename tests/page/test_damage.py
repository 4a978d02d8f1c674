"""A damaged file in a workspace costs what it holds; the page opens with the rest, and says so."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from personalization.adapters.adapter import HEADER
from personalization.bases.catalog import ASSETS
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.errors import RunError
from personalization.evaluation.report import FORMAT
from personalization.files import read_header
from personalization.page import things_html
from personalization.page.session import workspaces
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.sampling.picture_record import KEY, read_record
from personalization.training.run import LossRow, Run, State
from personalization.workspaces.belongings import belongings
from personalization.workspaces.workspace import Workspace

PHOTOS = tuple(
    Photo(f"{shade}.png", Image.effect_noise((96, 96), shade).convert("RGB")) for shade in (60, 80)
)
READY = ASSETS / "adapters" / "crowned-dog.safetensors"


def later_recipe(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["of_a_later_version"] = 1
    (run / "run.json").write_text(json.dumps(record))


def later(name: str, **fields: object) -> Callable[[Path], None]:
    """The file as a later version writes it."""

    def write(folder: Path) -> None:
        path = folder / name
        record = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(record | {"format": 99, "new": {}} | fields))

    return write


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: put(folder / name, (folder / name).read_bytes()[:30])


def zeroed(name: str) -> Callable[[Path], None]:
    return lambda folder: put(folder / name, bytes(4096))


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


AT_THE_DOOR = gr.Request(query_params={})
RUN = "runs/20260101-000000-000000-zzq"
FILES = {
    "run.json": f"{RUN}/run.json",
    "state.json": f"{RUN}/state.json",
    "the log": f"{RUN}/log.jsonl",
    "the checkpoint": f"{RUN}/checkpoint.safetensors",
    "the run's adapter": f"{RUN}/adapter.safetensors",
    "the run's photo": f"{RUN}/photos/000.png",
    "the run's picture": f"{RUN}/pictures/0.png",
    "a preview": f"{RUN}/previews/step-000001-0.png",
    "the report": f"{RUN}/report.json",
    "the report's page": f"{RUN}/report.html",
    "the library's file": "adapters/mine.safetensors",
    "a drawn picture": "pictures/a.png",
    "a preset": "presets/a.json",
}
DAMAGE: dict[str, Callable[[Path], None]] = {
    f"{what} is {how}": damage(name)
    for what, name in FILES.items()
    for how, damage in (("cut", cut), ("zeroed", zeroed), ("gone", gone))
} | {
    "run.json of a later version": later(f"{RUN}/run.json"),
    "a later recipe": lambda folder: later_recipe(folder / RUN),
    "state.json of a later version": later(f"{RUN}/state.json"),
    "the report of a later version": later(f"{RUN}/report.json"),
    "a preset of a later version": later("presets/a.json"),
    "a folder in the trash": lambda folder: (folder / "trash" / "odd").mkdir(parents=True),
    "a file among the runs": lambda folder: put(folder / "runs" / "odd", b""),
    "a link among the pictures": lambda folder: (folder / "pictures" / "b").symlink_to("/nowhere"),
}


@pytest.fixture
def whole() -> Iterator[Workspace]:
    """A workspace with one of each."""
    workspace = workspaces().new()
    workspace.save_photos(PHOTOS)
    folder = workspace.folder / RUN
    recipe = Recipe(LearnedEmbedding(), 1)
    run = Run.create(folder, Concept("object", "<zzq>", "dog", PHOTOS), recipe, "pocket")
    run.log([LossRow(1, 0.5, None, 1.0)])
    run.save_checkpoint({"a": torch.zeros(2)}, 1, 1.0)
    run.set_state(State("finished", 1, 1.0))
    shutil.copy(READY, run.adapter_path)
    shutil.copy(READY, workspace.folder / "adapters" / "mine.safetensors")
    for name in ("previews", "pictures"):
        (folder / name).mkdir()
    PHOTOS[0].image.save(folder / "pictures" / "0.png")
    PHOTOS[0].image.save(folder / "previews" / "step-000001-0.png")
    shutil.copy(READY.with_suffix("") / "0.png", workspace.pictures / "a.png")
    (folder / "report.json").write_text(json.dumps({"format": FORMAT, "verdict": "It knows it."}))
    (folder / "report.html").write_text("<p>")
    workspace.presets.keep("a", recipe)
    yield workspace
    workspace.delete()


# What is said of it under “Your things”, in the row of the piece that it belongs to: what is wrong
# with it, and what can be done. Of what a kill may leave as well nothing can be said.
SAID: dict[str, tuple[str, str]] = {
    "run.json": ("run", "can be read .*Delete it, and start a new one"),
    "run.json of a later version": ("run", "later version of the app. Update the app"),
    "a later recipe": ("run", "can be read .*Delete it, and start a new one"),
    "state.json": ("run", "can be read .*Delete it, and start a new one"),
    "state.json of a later version": ("run", "later version of the app. Update the app"),
    "the log": ("run", "Its log is damaged after step 0 of 1: the curve ends there"),
    "the checkpoint": ("run", "Its checkpoint is damaged: .* start it anew"),
    "the run's adapter": ("run", "Its adapter is damaged: take the copy .*start it anew"),
    "the run's photo": ("run", "1 of its photos is damaged or gone: start it anew"),
    "the run's picture": ("run", "1 of its pictures is damaged or gone: the others are shown"),
    "a preview": ("run", "1 of its pictures is damaged or gone: the others are shown"),
    "the report": ("run", "Its report is damaged: measure again"),
    "the report of a later version": ("run", "Its report is of a later version .*measure again"),
    "the library's file": ("adapter", "mine.safetensors .*(Download it again|again)"),
    "a drawn picture": ("picture", "This picture is damaged, .*draw it again"),
    "a photo": ("photo", "This photo is damaged. Add it again"),
    "a preset": ("preset", "not a recipe that the app wrote. Save one here"),
    "a preset of a later version": (
        "preset",
        "saved by a later version of the app. Update the app",
    ),
}
UNSEEN = ("gone", "the report's page", "in the trash", "among the")


@pytest.mark.parametrize("what", DAMAGE)
def test_the_page_opens_and_says_what_is_damaged(whole: Workspace, what: str):
    import app

    (key, *others) = whole.photo_keys()
    assert not [each for each in belongings(whole) if each.error]
    before = {path for path in whole.folder.rglob("*") if path.is_file()}
    DAMAGE[what](whole.folder)
    left = {path for path in whole.folder.rglob("*") if path.is_file()} & before
    values = {part: part.default_value for part in app.stored}
    values |= {app.browser: whole.id, app.kept_word.keys: [key, *others]}
    values |= {app.kept_list: [["mine", 1.0, None, None]]}
    reply = app.arrive(values, AT_THE_DOOR)
    assert reply[app.word_tab.photos.keys] == [key, *others]
    found = belongings(whole)
    assert "photo" in {each.kind for each in found}
    assert all(path.exists() for path in left), "what is damaged is not deleted by itself"
    kind, said = SAID.get(what) or SAID.get(what.partition(" is ")[0], ("", ""))
    wrong = {each.kind: each.error for each in found if each.error}
    if not any(sign in what for sign in UNSEEN):
        assert wrong.keys() == {kind}, wrong
        assert re.search(said, wrong[kind]), wrong
        shown = things_html.listing(found, found, (), 0.0)
        assert escape(wrong[kind]) in shown


@pytest.mark.parametrize("damage", [cut, zeroed])
def test_a_photo_of_the_form_that_is_damaged_is_left_out(whole: Workspace, damage):
    import app

    keys = whole.photo_keys()
    damage(f"photos/{keys[0]}.png")(whole.folder)
    values = {part: part.default_value for part in app.stored}
    values |= {app.browser: whole.id, app.kept_word.keys: keys}
    reply = app.arrive(values, AT_THE_DOOR)
    assert reply[app.word_tab.photos.keys] == keys[1:]
    wrong = {each.kind: each.error for each in belongings(whole) if each.error}
    assert wrong.keys() == {"photo"}
    assert re.search(SAID["a photo"][1], wrong["photo"])


@pytest.mark.parametrize("damage", [cut, zeroed])
def test_a_run_with_a_damaged_checkpoint_says_so(whole: Workspace, damage):
    damage(FILES["the checkpoint"])(whole.folder)
    with pytest.raises(RunError, match=r"checkpoint of .* is damaged"):
        whole.runs()[0].load_checkpoint()


def test_a_thing_of_a_later_version_says_that_the_app_is_to_be_updated(whole: Workspace):
    DAMAGE["run.json of a later version"](whole.folder)
    (run,) = (each for each in belongings(whole) if each.kind == "run")
    assert "a later version of the app. Update the app" in run.error


def test_what_a_later_version_adds_to_log_picture_and_adapter_is_passed_over(whole: Workspace):
    drawn, mine = whole.pictures / "a.png", whole.folder / "adapters" / "mine.safetensors"
    log = whole.folder / FILES["the log"]
    log.write_text(json.dumps(json.loads(log.read_text()) | {"new": 1}) + "\n")
    record, info = read_record(drawn), PngInfo()
    assert record
    info.add_text(KEY, json.dumps(record.to_dict() | {"new": 1}))
    Image.open(drawn).save(drawn, pnginfo=info)
    header, tensors = read_header(mine).metadata, load_file(mine)
    header[HEADER] = json.dumps(json.loads(header[HEADER]) | {"new": 1})
    save_file(tensors, mine, metadata=header)
    assert not [each for each in belongings(whole) if each.error]
    assert read_record(drawn) == record
    assert whole.runs()[0].losses() == [LossRow(1, 0.5, None, 1.0)]
