"""A damaged file in a workspace costs what it holds; the page opens with all the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from personalization.bases.catalog import ASSETS
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.page.session import workspaces
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.training.run import Run, State

PHOTOS = tuple(
    Photo(f"{shade}.png", Image.effect_noise((96, 96), shade).convert("RGB")) for shade in (60, 80)
)
READY = ASSETS / "adapters" / "crowned-dog.safetensors"


def later_recipe(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["of_a_later_version"] = 1
    (run / "run.json").write_text(json.dumps(record))


DAMAGE = {
    "run.json is empty": lambda run, photo: (run / "run.json").write_text(""),
    "a later recipe": lambda run, photo: later_recipe(run),
    "a photo of the run is missing": lambda run, photo: (run / "photos" / "000.png").unlink(),
    "state.json is empty": lambda run, photo: (run / "state.json").write_text(""),
    "the adapter is missing": lambda run, photo: (run / "adapter.safetensors").unlink(),
    "the adapter is cut": lambda run, photo: (run / "adapter.safetensors").write_bytes(b"\x80"),
    "a picture is cut": lambda run, photo: (run / "pictures" / "0.png").write_bytes(b""),
    "the report is cut": lambda run, photo: (run / "report.json").write_text("{"),
    "the log is cut": lambda run, photo: (run / "log.jsonl").write_text("{"),
    "a photo is cut": lambda run, photo: photo.write_bytes(b""),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_page_opens(what):
    import app

    workspace = workspaces().new()
    keys = workspace.save_photos(PHOTOS)
    concept = Concept("object", "<zzq>", "dog", PHOTOS)
    folder = workspace.new_run_folder("zzq")
    run = Run.create(folder, concept, Recipe(LearnedEmbedding(), 1), "pocket")
    run.set_state(State("finished", 1, 1.0))
    shutil.copy(READY, run.adapter_path)
    (folder / "pictures").mkdir()
    PHOTOS[0].image.save(folder / "pictures" / "0.png")
    photo = workspace.folder / "photos" / f"{keys[0]}.png"
    DAMAGE[what](folder, photo)
    values = {part: part.default_value for part in app.stored}
    values |= {app.browser: workspace.id, app.kept_word.keys: keys}
    reply = app.arrive(values)
    assert reply[app.word_tab.photos.keys] == (keys[1:] if what == "a photo is cut" else keys)
    workspace.delete()
