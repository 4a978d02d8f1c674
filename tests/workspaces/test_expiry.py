"""What expires, what is forgotten, and how many there may be: one folder never costs another."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from personalization.data.photos import Photo
from personalization.errors import WorkspaceError
from personalization.files import write_atomically
from personalization.workspaces.workspace import FORGOTTEN, Workspaces

DAY = 24 * 3600
PHOTO = Photo("a.png", Image.effect_noise((96, 96), 80).convert("RGB"))


def old(spaces: Workspaces, count: int) -> list[Path]:
    folders = [spaces.new().folder for _ in range(count)]
    for folder in folders:
        os.utime(folder / "used", (1, 1))
    return folders


def stray_file(root: Path) -> None:
    (root / ".deleted-note").write_text("a file")


def dangling_link(root: Path) -> None:
    (root / ("b" * 32)).symlink_to("/nowhere/at/all")


def link_elsewhere(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "used").touch()
    os.utime(root.parent / "elsewhere" / "used", (1, 1))
    (root / ("c" * 32)).symlink_to(root.parent / "elsewhere")


def file_called_as_one(root: Path) -> None:
    (root / ("d" * 32)).write_text("no folder")


@pytest.mark.parametrize("what", [stray_file, dangling_link, link_elsewhere, file_called_as_one])
def test_whatever_else_lies_there_the_old_ones_go(tmp_path: Path, what):
    spaces = Workspaces(tmp_path / "home")
    folders = old(spaces, 3)
    what(spaces.root)
    assert spaces.expire() >= 3
    assert not any(folder.exists() for folder in folders)
    if what is link_elsewhere:
        assert (tmp_path / "elsewhere" / "used").exists()


def test_several_may_tidy_at_once(tmp_path: Path):
    spaces = Workspaces(tmp_path)
    folders = old(spaces, 60)
    errors: list[Exception] = []

    def tidy() -> None:
        try:
            Workspaces(tmp_path).expire()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=tidy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    spaces.expire()
    assert not any(folder.exists() for folder in folders)


def test_no_other_user_of_the_machine_reads_or_lists_it(tmp_path: Path):
    mask = os.umask(0o022)
    try:
        (tmp_path / "home").mkdir(mode=0o755)
        workspace = Workspaces(tmp_path / "home").new()
    finally:
        os.umask(mask)
    for folder in (workspace.folder, workspace.folder.parent):
        assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_everybodys_is_left_so(tmp_path: Path):
    tmp_path.chmod(0o1777)
    Workspaces(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_what_was_forgotten_does_not_come_back(tmp_path: Path):
    spaces = Workspaces(tmp_path)
    workspace = spaces.new()
    workspace.save_photos([PHOTO])
    spaces.forget(workspace.id)
    assert not workspace.folder.exists()
    with pytest.raises(WorkspaceError, match="deleted meanwhile"):
        workspace.save_photos([PHOTO])
    with pytest.raises(FileNotFoundError):
        write_atomically(workspace.folder / "runs" / "one" / "state.json", "{}")
    with pytest.raises(WorkspaceError):
        workspace.new_run_folder("late")
    with pytest.raises(WorkspaceError) as refused:
        spaces.renew(workspace.id)
    assert str(refused.value) == FORGOTTEN
    assert workspace.id not in "".join(os.listdir(tmp_path))
    spaces.expire(now=time.time() + 8 * DAY)
    assert not os.listdir(tmp_path)


def test_there_are_no_more_than_the_app_keeps_and_empty_ones_give_way(tmp_path: Path):
    spaces = Workspaces(tmp_path, capacity=3)
    kept = spaces.new()
    kept.save_photos([PHOTO])
    for _ in range(9):
        spaces.new()
    assert len(os.listdir(tmp_path)) == 3
    assert kept.photo_keys()
    for folder in tmp_path.iterdir():
        spaces.open(folder.name).save_photos([PHOTO])
    with pytest.raises(WorkspaceError, match="keeps 3 visitors"):
        spaces.new()


@pytest.mark.parametrize("id", [None, 5, [], {}, "", "..", "a" * 65, "../../etc/passwd" * 2])
def test_what_is_no_id_opens_nothing(tmp_path: Path, id):
    spaces = Workspaces(tmp_path)
    for call in (spaces.open, spaces.renew, spaces.forget):
        with pytest.raises(WorkspaceError):
            call(id)
    assert not os.listdir(tmp_path)
