"""Your things: all of it is listed, each piece goes and comes back, a run that is going stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from personalization.adapters.adapter import Adapter, Description
from personalization.data.photos import Photo
from personalization.errors import RecipeError, WorkspaceError
from personalization.recipe import LowRank, Recipe
from personalization.sampling.picture_record import Picture, PictureRecord
from personalization.training.run import Run
from personalization.workspaces.belongings import KINDS, Belonging, arranged, belongings, delete
from personalization.workspaces.workspace import Workspace, Workspaces
from tests.support import tiny

RECIPE = Recipe(LowRank(), 5)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One piece of every kind."""
    workspace = Workspaces(tmp_path / "root").new()
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    workspace.save_photos([Photo("mug.jpg", image)])
    Run.create(workspace.new_run_folder("dog"), tiny.concept(count=1), RECIPE, "tiny")
    about = Description("lora", "pocket", placeholder_token="sks", class_noun="dog", title="My dog")
    import torch

    tensors = {"unet.a.lora_A.weight": torch.ones(1, 2), "unet.a.lora_B.weight": torch.ones(2, 1)}
    workspace.library.add(Adapter(about, tensors), "My dog")
    Picture(image, PictureRecord("sks dog on the beach")).save(workspace.pictures / "1.png")
    workspace.presets.keep("Quick ones", RECIPE)
    return workspace


def of(workspace: Workspace, kind: str) -> list[Belonging]:
    return [each for each in belongings(workspace) if each.kind == kind]


def test_every_kind_is_listed_with_its_title_size_and_picture(workspace):
    found = {each.kind: each for each in belongings(workspace)}
    assert tuple(found) == KINDS
    assert {kind: each.title for kind, each in found.items()} == {
        "run": "sks dog",
        "adapter": "My dog",
        "photo": "mug.jpg",
        "picture": "sks dog on the beach",
        "preset": "quick-ones",
    }
    assert sum(each.size for each in found.values()) == workspace.size()
    assert all(found[kind].picture.is_file() for kind in ("run", "photo", "picture"))
    assert not any(each.error for each in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_goes_and_comes_back(workspace, kind):
    before = belongings(workspace)
    (one,) = of(workspace, kind)
    gone = delete(workspace, kind, [one.name])
    assert gone.count == 1
    assert of(workspace, kind) == []
    assert len(belongings(workspace)) == len(before) - 1
    workspace.trash.put_back(gone.ticket)
    assert belongings(workspace) == before


def test_a_run_that_is_going_stays_and_the_others_of_its_kind_go(workspace):
    second = workspace.new_run_folder("cat")
    Run.create(second, tiny.concept(count=1), RECIPE, "tiny")
    with Run.open(second).locked():
        gone = delete(workspace, "run")
    assert gone.count == 1
    assert len(gone.kept) == 1
    assert "is going" in gone.kept[0]
    assert [each.name for each in of(workspace, "run")] == [second.name]
    assert delete(workspace, "run", [second.name]).count == 1


def test_deleting_makes_room_at_once_though_it_could_come_back(workspace):
    (workspace.pictures / "much").write_bytes(bytes(5000))
    small = Workspace(workspace.folder, quota=workspace.size())
    with pytest.raises(WorkspaceError, match="Your things"):
        small.make_room(1000)
    ticket = delete(small, "picture", ["much"]).ticket
    small.make_room(1000)
    with pytest.raises(WorkspaceError, match="It is gone"):
        small.trash.put_back(ticket)


@pytest.mark.parametrize("name", ["", ".", "..", "../used", "../../x", "/etc/passwd", "no such"])
def test_a_name_that_is_not_listed_deletes_nothing(workspace, name):
    before = workspace.size()
    for kind in KINDS:
        with pytest.raises(WorkspaceError, match="There is no"):
            delete(workspace, kind, [name])
    assert workspace.size() == before


def test_a_link_is_not_listed_and_not_followed(workspace, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    (workspace.pictures / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert [each.name for each in of(workspace, "picture")] == ["1.png"]
    delete(workspace, "picture")
    assert (tmp_path / "elsewhere.png").exists()


def test_what_is_damaged_is_listed_with_a_sentence_and_can_be_deleted(workspace):
    for kind in KINDS:
        (one,) = of(workspace, kind)
        (one.path / "run.json" if kind == "run" else one.path).write_bytes(b"\x89PNG, it was")
    found = belongings(workspace)
    assert [each.kind for each in found if each.error] == list(KINDS)
    assert [delete(workspace, each.kind, [each.name]).count for each in found] == [1] * len(KINDS)


def test_it_is_searched_by_every_word_and_sorted(workspace):
    found = belongings(workspace)
    assert {each.kind for each in arranged(found, "DOG")} == {"run", "adapter", "picture"}
    assert [each.title for each in arranged(found, "dog beach")] == ["sks dog on the beach"]
    assert arranged(found, "zebra") == []
    sizes = [each.size for each in arranged(found, order="size")]
    assert sizes == sorted(sizes, reverse=True)
    assert arranged(found, order="name")[0].title == "mug.jpg"


def test_a_preset_is_the_recipe_under_a_name_of_ones_own(workspace):
    presets = workspace.presets
    assert presets.get("quick-ones") == RECIPE
    other = RECIPE.changed(steps=7)
    assert presets.keep("quick ones!", other) == "quick-ones-2"
    assert presets.get("quick-ones-2") == other
    with pytest.raises(RecipeError, match="no preset"):
        presets.get("../runs/dog")
