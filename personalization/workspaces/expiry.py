"""Workspaces that go: unused for too long, forgotten at their visitor's wish, or in the way.

Each folder by itself: one that cannot be deleted (a stray file, a link, another process that was
faster) is left for the next pass, and costs no other its end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
USED = "used"  # its time of change is that of the last visit
DELETED = ".deleted-"  # no id starts so
FORGOTTEN = ".forgotten-"  # and a hash of the id: the id itself would be kept


def expire(root: Path, oldest: float) -> int:
    """Delete what was last used before `oldest`, in seconds since the epoch; returns how many.

    What a deletion left behind when it was interrupted goes too, and what was forgotten.
    """
    expired = 0
    for folder in list(root.iterdir()):
        try:
            if folder.name.startswith(FORGOTTEN):
                if folder.lstat().st_mtime < oldest:
                    folder.unlink()
            elif folder.name.startswith(DELETED):
                _remove(folder)
            elif ID.fullmatch(folder.name) and (
                _last_used(folder) < oldest or forgotten(root, folder.name)
            ):
                _remove(folder.rename(root / (DELETED + secrets.token_urlsafe(16))))
                expired += 1
        except OSError as error:  # its name would be a key
            logging.getLogger(__name__).warning("A workspace stays: %s", type(error).__name__)
    return expired


def remember_forgotten(root: Path, id: str) -> None:
    """Keep that this workspace is not to begin anew under a page that is still open."""
    _mark(root, id).touch()


def forgotten(root: Path, id: str) -> bool:
    """Whether its visitor had it deleted."""
    return _mark(root, id).exists()


def room_for_one(root: Path, capacity: int) -> bool:
    """Whether one more workspace fits; where not, empty ones give way, the least used first.

    Nobody misses those: one that has gone begins anew under its open page.
    """
    there = [Path(each.path) for each in os.scandir(root) if ID.fullmatch(each.name)]
    too_many = len(there) - capacity + 1
    if too_many <= 0:
        return True
    empty = (
        folder for folder in sorted(there, key=_last_used) if next(_files(folder), None) is None
    )
    for _, folder in zip(range(too_many), empty, strict=False):
        shutil.rmtree(folder, ignore_errors=True)
        too_many -= 1
    return too_many <= 0


def _files(folder: Path) -> Iterator[str]:
    return (name for _, _, names in os.walk(folder) for name in names if name != USED)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _last_used(folder: Path) -> float:
    """Seconds since the epoch."""
    # A run that was still going when its workspace was deleted may leave a folder without the mark.
    mark = folder / USED
    return (mark if mark.exists() else folder).lstat().st_mtime


def _mark(root: Path, id: str) -> Path:
    return root / (FORGOTTEN + hashlib.sha256(id.encode()).hexdigest())
