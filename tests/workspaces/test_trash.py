"""What was deleted can be brought back for ten seconds, and makes room before that if it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalization.errors import WorkspaceError
from personalization.workspaces.trash import UNDO, Trash


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("photos/a.png", "photos/b.png", "runs/dog/run.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def files(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_what_comes_back_is_what_was_deleted(home):
    before = files(home)
    trash = Trash(home)
    ticket = trash.put([home / "photos/a.png", home / "runs/dog"])
    assert [f for f in files(home) if not f.startswith("trash")] == ["photos/b.png"]
    trash.put_back(ticket)
    assert files(home) == before
    assert (home / "runs/dog/run.json").read_text() == "runs/dog/run.json"
    with pytest.raises(WorkspaceError, match="It is gone"):
        trash.put_back(ticket)


def test_what_has_the_name_by_then_stays_and_the_other_gets_a_number(home):
    ticket = Trash(home).put([home / "photos/a.png"])
    (home / "photos/a.png").write_text("new")
    assert [path.name for path in Trash(home).put_back(ticket)] == ["a-2.png"]
    assert (home / "photos/a.png").read_text() == "new"


def test_it_is_purged_once_its_time_is_over_and_not_before(home):
    trash = Trash(home)
    ticket = trash.put([home / "photos/a.png"])
    trash.purge()
    assert (trash.folder / ticket).is_dir()
    trash.purge(older_than=0)
    assert list(trash.folder.iterdir()) == []


@pytest.mark.parametrize("seconds", [-UNDO - 1, 3600])
def test_a_clock_that_jumps_keeps_nothing_for_ever(home, seconds):
    import time

    trash = Trash(home)
    ticket = trash.put([home / "photos/a.png"])
    then = time.time_ns() - int(seconds * 1e9)
    (trash.folder / ticket).rename(trash.folder / f"{then}-{ticket.partition('-')[2]}")
    trash.purge()
    assert list(trash.folder.iterdir()) == []


@pytest.mark.parametrize("ticket", ["", ".", "..", "../photos", "1-12345678/../..", "1-12345678"])
def test_a_token_that_was_not_given_out_brings_nothing_back(home, ticket):
    before = files(home)
    with pytest.raises(WorkspaceError):
        Trash(home).put_back(ticket)
    assert files(home) == before


def test_an_undo_that_was_killed_halfway_is_finished(home):
    before, trash = files(home), Trash(home)
    ticket = trash.put([home / "photos/a.png", home / "photos/b.png", home / "runs/dog"])
    (trash.folder / ticket).rename(trash.folder / f"back-{ticket}")
    (trash.folder / f"back-{ticket}" / "photos/a.png").rename(home / "photos/a.png")
    with pytest.raises(WorkspaceError):
        trash.put_back(f"back-{ticket}")
    trash.purge()
    assert files(home) == before
    assert list(trash.folder.iterdir()) == []
