"""What is handed out goes with the workspace, with the file that it is of, and with the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from personalization.workspaces.served import FRESH, Shelf, clear_gone, new_folder, take
from personalization.workspaces.workspace import Workspace, Workspaces


@pytest.fixture
def store(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "home")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def file_of(workspace: Workspace, name: str = "a.png") -> Path:
    path = workspace.folder / "pictures" / name
    path.write_bytes(b"a picture")
    return path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_same_file_again_is_the_same_copy(store, served):
    workspace = store.new()
    shelf, path = Shelf(served, workspace), file_of(workspace)
    first = shelf.copy(path)
    count = len(files(served))
    assert [shelf.copy(path) for _ in range(10)] == [first] * 10
    assert len(files(served)) == count
    assert first.read_bytes() == b"a picture"
    assert workspace.id not in str(first)
    os.utime(path, (1, 1))
    assert shelf.copy(path) != first
    assert shelf.copy(path, "b.png").name == "b.png"


def test_two_visitors_have_copies_of_their_own(store, served):
    first, second = store.new(), store.new()
    path = file_of(first)
    copies = [Shelf(served, each).copy(path) for each in (first, second)]
    assert copies[0].parent != copies[1].parent
    Shelf(served, first).clear()
    assert [copy.exists() for copy in copies] == [False, True]


def test_what_is_deleted_is_handed_out_no_more(store, served):
    workspace = store.new()
    shelf = Shelf(served, workspace)
    gone, stays = file_of(workspace), file_of(workspace, "b.png")
    copies, drawn = [shelf.copy(gone), shelf.copy(stays)], shelf.new_path("c.png")
    drawn.write_bytes(b"just drawn")
    gone.unlink()
    shelf.withdraw()
    assert [copy.exists() for copy in (*copies, drawn)] == [False, True, True]


def test_an_upload_goes_with_the_last_who_sent_it(store, served):
    shelves = [Shelf(served, store.new()) for _ in range(2)]
    upload = served / "hash" / "a.png"
    upload.parent.mkdir()
    upload.write_bytes(b"a photo")
    for shelf in shelves:
        shelf.remember([str(upload), "/etc/passwd", str(served / "none" / "b.png"), ""])
    shelves[0].clear()
    assert upload.exists()
    shelves[1].clear()
    assert not files(served)
    assert Path("/etc/passwd").exists()


def test_an_upload_that_somebody_has_just_sent_anew_stays_for_them(store, served):
    shelf = Shelf(served, store.new())
    upload = served / "hash" / "a.png"
    upload.parent.mkdir()
    upload.write_bytes(b"a photo")
    shelf.remember([str(upload)])
    os.utime(upload, (5, 5))
    shelf.clear()
    assert upload.exists()


def test_nothing_is_handed_out_of_what_was_forgotten(store, served, tmp_path):
    workspace = store.new()
    shelf = Shelf(served, workspace)
    (tmp_path / "a.png").write_bytes(b"a picture")
    store.forget(workspace.id)
    for call in (lambda: shelf.copy(tmp_path / "a.png"), lambda: shelf.new_path("b.png")):
        with pytest.raises(FileNotFoundError):
            call()
    assert not files(served)


def test_with_a_workspace_that_expired_go_its_copies(store, served):
    old, young = store.new(), store.new()
    copies = [Shelf(served, each).copy(file_of(each)) for each in (old, young)]
    os.utime(old.folder / "used", (1, 1))
    store.expire()
    clear_gone(served, store)
    assert [copy.exists() for copy in copies] == [False, True]


def test_after_a_kill_the_next_start_deletes_what_was_handed_out(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path\n"
        "from personalization.workspaces.served import new_folder, take\n"
        "folder = new_folder(sys.argv[1]); lock = take(folder)\n"
        "(folder / 'a.png').write_bytes(b'a photo'); print(folder, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        mine = new_folder(str(tmp_path))
        lock = take(mine)
        assert (theirs / "a.png").exists()  # it is alive
        process.kill()
    lock.close()
    next_one = new_folder(str(tmp_path))
    with take(next_one):
        assert not theirs.exists()
        assert {path.name for path in tmp_path.iterdir()} >= {next_one.name}


def test_a_folder_that_is_about_to_be_locked_is_left_to_its_process(tmp_path):
    fresh, old = tmp_path / "served-fresh", tmp_path / "served-old"
    for folder in (fresh, old):
        folder.mkdir()
    then = time.time() - 2 * FRESH
    os.utime(old, (then, then))
    with take(new_folder(str(tmp_path))):
        assert (fresh.exists(), old.exists()) == (True, False)
