"""A workspace is one visitor's alone, within its quota, until it is deleted or expires."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from personalization.adapters.adapter import Adapter, Description
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.errors import PhotoError, RunError, WorkspaceError
from personalization.recipe import LowRank, Recipe
from personalization.training.run import Run
from personalization.workspaces.belongings import belongings
from personalization.workspaces.workspace import Workspace, Workspaces, default_root
from tests.support import tiny

DAY = 24 * 3600.0
RECIPE = Recipe(LowRank(), 5)


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "root", lifetime=7 * DAY)


@pytest.fixture
def workspace(workspaces: Workspaces) -> Workspace:
    return workspaces.new()


def photo(name: str = "mug.jpg", shade: int = 90, **more) -> Photo:
    return Photo(name, Image.new("RGB", (64, 80), (shade, 20, 30)), **more)


def run_in(workspace: Workspace, title: str = "dog") -> Path:
    folder = workspace.new_run_folder(title)
    return Run.create(folder, tiny.concept(count=1), RECIPE, "tiny").folder


def test_an_id_opens_the_same_workspace_and_no_two_are_alike(workspaces: Workspaces):
    ids = {workspaces.new().id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(id) >= 32 for id in ids)
    assert {workspaces.open(id).id for id in ids} == ids


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", "a", "../" * 10, "/" + "a" * 30, "a" * 21, "a" * 32, "a" * 31 + "\n", "é" * 32],
)
def test_an_id_that_was_not_given_out_opens_nothing_and_makes_nothing(
    workspaces: Workspaces, id: str
):
    with pytest.raises(WorkspaceError, match="no longer here"):
        workspaces.open(id)
    assert not list(workspaces.root.iterdir())


def test_a_link_in_the_root_is_no_workspace(workspaces: Workspaces, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "used").touch()
    (workspaces.root / ("l" * 32)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError):
        workspaces.open("l" * 32)


def test_photos_come_back_as_they_were(workspace: Workspace):
    mask = Image.new("L", (64, 80), 0)
    mask.paste(255, (10, 10, 30, 30))
    photos = [photo(), photo("Tasse ☕.png", 91, mask=mask, caption="ma tasse, à midi")]
    assert workspace.photos(workspace.save_photos(photos)) == photos


def test_the_same_photo_again_takes_no_more_room(workspace: Workspace):
    first = workspace.save_photos([photo(), photo("other.jpg", 91)])
    size = workspace.size()
    assert workspace.save_photos([photo(), photo()]) == [first[0], first[0]]
    assert workspace.size() == size
    assert sorted(workspace.photo_keys()) == sorted(first)


def test_deleted_photos_are_gone(workspace: Workspace):
    gone, kept = workspace.save_photos([photo(), photo("other.jpg", 91)])
    workspace.delete_photos([gone, gone])
    assert workspace.photo_keys() == [kept]
    with pytest.raises(WorkspaceError, match="Add it again"):
        workspace.photos([gone])


@pytest.mark.parametrize("key", ["../used", "", "../../x", "/etc/hostname"])
def test_a_key_that_is_not_listed_reaches_no_file(workspace: Workspace, key: str):
    (workspace.folder.parent / "x.png").write_bytes(b"somebody else's")
    for use in (workspace.photos, workspace.delete_photos):
        with pytest.raises(WorkspaceError):
            use([key])


def test_runs_are_listed_newest_first(workspace: Workspace):
    folders = [run_in(workspace, title) for title in ("zebra", "dog", "Мой пёс")]
    workspace.new_run_folder("nothing in it yet")
    assert [run.folder for run in workspace.runs()] == folders[::-1]
    assert workspace.run(folders[0].name).folder == folders[0]


def test_runs_are_listed_without_reading_their_photos(workspace: Workspace):
    folder = run_in(workspace)
    (folder / "photos" / "000.png").write_bytes(b"damaged")
    (run,) = workspace.runs()
    assert (run.concept.name, run.concept.kind) == ("sks dog", "creature")
    assert len(run.concept.photos) == 1
    with pytest.raises(PhotoError, match=r"000\.png cannot be read"):
        run.concept.photos[0]


def test_a_run_that_cannot_be_read_does_not_hide_the_others(workspace: Workspace):
    good, later, broken = (run_in(workspace) for _ in range(3))
    record = json.loads((later / "run.json").read_text())
    (later / "run.json").write_text(json.dumps(record | {"format": 3}))
    (broken / "run.json").write_text("{")
    assert [run.folder for run in workspace.runs()] == [good]
    with pytest.raises(RunError, match="a later version of the app"):
        workspace.run(later.name)
    with pytest.raises(RunError, match="holds no run that can be read"):
        workspace.run(broken.name)
    workspace.delete_run(broken.name)
    assert not broken.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../photos", "none"])
def test_a_run_that_is_not_listed_is_neither_found_nor_deleted(workspace: Workspace, name: str):
    run_in(workspace)
    for use in (workspace.run, workspace.delete_run):
        with pytest.raises(WorkspaceError, match="not in your workspace"):
            use(name)


def test_a_run_is_never_reached_through_a_link(workspace: Workspace, workspaces: Workspaces):
    private = run_in(workspaces.new())
    (workspace.folder / "runs" / "link").symlink_to(private)
    assert workspace.runs() == []
    with pytest.raises(WorkspaceError):
        workspace.delete_run("link")
    assert private.exists()


def test_a_deleted_run_is_gone(workspace: Workspace):
    gone, kept = run_in(workspace), run_in(workspace)
    workspace.delete_run(gone.name)
    assert [run.folder for run in workspace.runs()] == [kept]


def test_a_full_workspace_says_so_and_takes_nothing_more(tmp_path: Path):
    workspace = Workspaces(tmp_path, quota=3_000_000).new()
    (workspace.pictures / "large.png").write_bytes(bytes(2_999_990))
    adapter = Adapter(Description("lora", "pocket"), {"a": torch.zeros(1000)})
    before = workspace.size()
    with pytest.raises(WorkspaceError, match=r"3 MB of 3 MB are in use.*Delete what"):
        workspace.save_photos([photo()])
    with pytest.raises(WorkspaceError, match="full"):
        workspace.library.add(adapter, "dog")
    (workspace.pictures / "more.png").write_bytes(bytes(11))
    with pytest.raises(WorkspaceError, match="full"):
        workspace.new_run_folder("dog")
    assert workspace.size() == before + 11


def test_what_a_link_leads_to_is_not_counted(workspace: Workspace, tmp_path: Path):
    (tmp_path / "large").write_bytes(bytes(100_000))
    (workspace.pictures / "link.png").symlink_to(tmp_path / "large")
    assert workspace.size() < 1000


def test_deleting_takes_everything_and_leaves_the_neighbours(workspaces: Workspaces):
    mine, theirs = workspaces.new(), workspaces.new()
    mine.save_photos([photo()])
    run_in(mine)
    mine.delete()
    assert list(workspaces.root.iterdir()) == [theirs.folder]
    with pytest.raises(WorkspaceError):
        workspaces.open(mine.id)


def test_deleting_does_not_follow_links(workspace: Workspace, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (workspace.folder / "pictures" / "link").symlink_to(tmp_path / "elsewhere")
    workspace.delete()
    assert (tmp_path / "elsewhere" / "file").exists()


def unused_for(workspace: Workspace, seconds: float) -> Workspace:
    then = time.time() - seconds
    os.utime(workspace.folder / "used", (then, then))
    return workspace


def test_only_what_nobody_used_for_the_lifetime_expires(workspaces: Workspaces):
    old = unused_for(workspaces.new(), 8 * DAY)
    young = unused_for(workspaces.new(), 6 * DAY)
    back = unused_for(workspaces.new(), 8 * DAY)
    workspaces.open(back.id)
    assert workspaces.expire() == 1
    assert set(workspaces.root.iterdir()) == {young.folder, back.folder}
    with pytest.raises(WorkspaceError, match="not used for 7 days"):
        workspaces.open(old.id)


def test_a_deletion_that_was_interrupted_is_finished(workspaces: Workspaces):
    (workspaces.root / ".deleted-half" / "photos").mkdir(parents=True)
    assert workspaces.expire() == 0
    assert not list(workspaces.root.iterdir())


def test_what_a_run_writes_after_the_deletion_stays_shut_and_expires(workspaces: Workspaces):
    workspace = workspaces.new()
    workspace.delete()
    (workspace.folder / "runs" / "late").mkdir(parents=True)
    with pytest.raises(WorkspaceError):
        workspaces.open(workspace.id)
    assert workspaces.expire(now=time.time() + 8 * DAY) == 1
    assert not list(workspaces.root.iterdir())


def test_what_else_lies_in_the_root_is_left_alone(workspaces: Workspaces):
    (workspaces.root / "lost+found").mkdir()
    workspaces.expire(now=time.time() + 1000 * DAY)
    assert (workspaces.root / "lost+found").exists()


def test_the_root_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERSONALIZATION_HOME", str(tmp_path / "data"))
    assert Workspaces().root == tmp_path / "data"


def test_without_it_the_root_is_temporary_and_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PERSONALIZATION_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_root().parent == tmp_path
    assert default_root().stat().st_mode & 0o777 == 0o700


def test_one_that_has_gone_begins_anew_under_its_id_and_empty(workspaces, workspace):
    workspace.save_photos([photo()])
    workspace.delete()
    again = workspaces.renew(workspace.id)
    assert (again.id, again.photo_keys(), again.runs()) == (workspace.id, [], [])
    for nobodys in ("", "../..", "short"):
        with pytest.raises(WorkspaceError):
            workspaces.renew(nobodys)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_keeps_nothing_is_said_and_nothing_half_made_is_left(
    workspace, monkeypatch, number
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    said = "PERSONALIZATION_HOME" if number == errno.EROFS else "disk is full"
    concept = Concept("object", "sks", "dog", (photo(),))
    with pytest.raises(WorkspaceError, match=said):
        workspace.save_photos([photo()])
    with pytest.raises(WorkspaceError, match=said):
        Run.create(workspace.new_run_folder("sks dog"), concept, RECIPE, "pocket")
    assert not list((workspace.folder / "runs").iterdir())
    assert not workspace.photo_keys()


def test_a_home_that_cannot_be_written_can_be_looked_at(workspaces, workspace, monkeypatch):
    (key,) = workspace.save_photos([photo()])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("utime", "fsync", "mkdir", "open", "rename", "replace"):
        monkeypatch.setattr(os, name, refuse)
    again = workspaces.open(workspace.id)
    assert again.photo_keys() == [key]
    assert [each.name for each in belongings(again)] == [f"{key}.png"]
    assert again.library.list()


def test_a_home_that_cannot_be_made_names_the_variable_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkspaceError, match="PERSONALIZATION_HOME"):
            Workspaces(home)
