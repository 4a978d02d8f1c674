"""A workspace that expires under an open page: a new one begins by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from personalization.data.photos import Photo
from personalization.page.session import Visit, workspaces


def picture(shade: int) -> Image.Image:
    return Image.effect_noise((96, 96), shade).convert("RGB")


@pytest.fixture
def gone():
    """The id of a workspace that was deleted, and the key of a photo that was in it."""
    workspace = workspaces().new()
    (key,) = workspace.save_photos([Photo("a.png", picture(60))])
    workspace.delete()
    yield workspace.id, key
    workspaces().open(workspace.id).delete()


def test_the_next_photo_begins_a_new_one_and_what_is_gone_is_said(gone, tmp_path: Path):
    import app

    photos = app.word_tab.photos
    picture(80).save(tmp_path / "b.png")
    values = {
        photos.visitor: gone[0],
        photos.base: "",
        photos.framing: "shape",
        photos.resolution: 0,
        photos.keys: [gone[1]],
    }
    reply = photos.add(values | {photos.drop: [str(tmp_path / "b.png")]})
    assert reply[photos.visitor] == gone[0]
    assert len(reply[photos.keys]) == 1
    assert gone[1] not in reply[photos.keys]
    assert "a new one has begun" in reply[photos.notes]
    again = photos.add({**values, photos.keys: reply[photos.keys], photos.drop: []})
    assert again[photos.keys] == reply[photos.keys]
    assert "begun" not in again[photos.notes]


def test_the_stack_goes_on_with_the_ready_adapters_and_names_what_is_gone(gone):
    import app

    listed = app.stack_tab.adapter_list
    values = dict.fromkeys(listed.weights, 1.0)
    values |= {listed.visitor: gone[0], listed.base: "", listed.stored: [["mine", 1.0, None, None]]}
    reply = listed.put(values | {listed.add: "crowned-dog"})
    assert [row[0] for row in reply[listed.stored]] == ["crowned-dog"]
    assert "mine" in reply[listed.notes]


def test_who_comes_back_without_a_prompt_finds_one_that_calls_the_list():
    import app

    tab = app.stack_tab
    workspace = workspaces().new()
    visit = Visit(workspace, "")
    values = {tab.adapter_list.stored: [["crowned-dog", 1.0, None, None]], tab.drawing: []}
    reply = tab.restore(visit, values | dict.fromkeys(tab.adapter_list.weights, 1.0))
    assert "sks dog" in reply[tab.prompt]
    workspace.delete()
