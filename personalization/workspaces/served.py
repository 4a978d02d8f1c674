"""What is handed out: copies that browsers fetch, and files that they sent, while they are wanted.

The server of the page gives out what lies in one folder, each file under its path. A process has
such a folder of its own, which goes with it, or where it was killed, when the next one starts:

    <parent>/served-<random>/<hash of what a file holds>/<name>      uploads, as Gradio keeps them
                            /of-<hash of an id>/<hash>/<name>        copies for that workspace
                            /of-<hash of an id>/<hash>.from          what each is a copy of
                            /of-<hash of an id>/<hash>.sent          an upload of that visitor's
    <parent>/served-<random>.lock                                    held while it is in use

Nobody guesses an address without the id. The same file again is the same copy, and when a workspace
or a file in it goes, so do its copies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from personalization.files import copy_atomically, open_lock, write_atomically
from personalization.workspaces.workspace import Workspace, Workspaces

FRESH = 3600.0  # seconds in which a folder without a lock may be one that is about to get it


def new_folder(parent: str | None = None) -> Path:
    """Where this process is to keep what it hands out; nothing is made yet."""
    where = Path(tempfile.gettempdir()) / f"personalization-{os.getuid()}-served"
    return (Path(parent) if parent else where) / f"served-{secrets.token_hex(8)}"


def take(folder: Path) -> IO[bytes]:
    """Make that folder, and delete those of processes that are no more; its lock, to be held."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = open_lock(_lock_of(folder))
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # the page was built before, and what it shows may lie there already
    for other in folder.parent.glob("served-*/"):
        if other != folder and not other.is_symlink() and not _in_use(other):
            shutil.rmtree(other, ignore_errors=True)
            _lock_of(other).unlink(missing_ok=True)
    return lock


class Shelf:
    """What is handed out to one visitor, within the `served` folder of the process."""

    def __init__(self, served: Path, workspace: Workspace):
        self.served, self.workspace = Path(served), workspace
        self.folder = self.served / _name(workspace.id)

    def copy(self, path: Path, name: str = "") -> Path:
        """A copy of a file, the same one for the same file. Another name is another copy."""
        said, name = path.stat(), name or path.name
        key = f"{self.workspace.id}/{path}/{said.st_mtime_ns}/{said.st_size}/{name}"
        target = self.folder / _hash(key) / name
        if target.exists():
            target.touch()  # in use: what has not been for a day goes
        else:
            self._make(target.parent)
            copy_atomically(path, target)
        self.tie(target, path)
        return target

    def tie(self, copy: Path, path: Path) -> None:
        """The copy is of a file of the workspace, and goes with it."""
        if path.is_relative_to(self.workspace.folder):
            mark = copy.parent.with_suffix(".from")
            write_atomically(mark, str(path.relative_to(self.workspace.folder)))

    def new_path(self, name: str) -> Path:
        """Where a new file is to be written, under an address of its own."""
        target = self.folder / secrets.token_hex(16) / name
        self._make(target.parent)
        return target

    def remember(self, paths: Iterable[str]) -> None:
        """Files of the served folder that this visitor sent, or was sent: they go with the rest."""
        for path in {Path(os.path.abspath(path)) for path in paths}:
            if path.is_relative_to(self.served) and not path.is_relative_to(self.folder):
                with suppress(OSError):  # no such file
                    mark = self.folder / f"{_hash(str(path.relative_to(self.served)))}.sent"
                    said = f"{path.stat().st_mtime_ns} {path.relative_to(self.served)}"
                    self._make(self.folder)
                    write_atomically(mark, said)

    def withdraw(self) -> None:
        """Hand out no more what is not in the workspace any longer."""
        for mark in self.folder.glob("*.from"):
            if not (self.workspace.folder / mark.read_text()).exists():
                shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
                mark.unlink(missing_ok=True)

    def clear(self) -> None:
        """Hand out nothing any more."""
        clear(self.served, self.folder)

    def _make(self, folder: Path) -> None:
        if not self.workspace.folder.is_dir():  # forgotten: what follows would outlive it
            raise FileNotFoundError(2, "No such workspace")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def clear(served: Path, shelf: Path) -> None:
    """Delete a shelf, and what its visitor sent where nobody else has sent the same."""
    for mark in shelf.glob("*.sent"):
        with suppress(OSError, ValueError):
            when, _, name = mark.read_text().partition(" ")
            path = served / name
            others = [each for each in served.glob(f"of-*/{mark.name}") if each != mark]
            # Of another time it was sent anew, by somebody who is just about to use it.
            if not others and path.stat().st_mtime_ns == int(when):
                path.unlink()
                path.parent.rmdir()
    shutil.rmtree(shelf, ignore_errors=True)


def clear_gone(served: Path, store: Workspaces) -> None:
    """Delete the shelves of workspaces that are no more."""
    there = {_name(folder.name) for folder in store.root.iterdir()}
    for shelf in served.glob("of-*/"):
        if shelf.name not in there:
            clear(served, shelf)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _in_use(folder: Path) -> bool:
    try:
        with _lock_of(folder).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime < FRESH
    except BlockingIOError:
        return True


def _name(id: str) -> str:
    return f"of-{_hash(id)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
