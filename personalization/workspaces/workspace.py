"""A workspace: all that one visitor has here, in one folder that nobody else can name.

    <root>/<id>/
      used        touched with every visit: an unused workspace expires
      photos/     PNGs named after their content
      runs/       a folder a run (runs.py)
      adapters/   the visitor's library (library.py)
      pictures/   what was drawn
      presets/    the visitor's own recipes (presets.py)
      published.json  where adapters are on the Hub (publications.py)
      trash/      what was deleted a moment ago (trash.py)

The id is kept in the visitor's browser and is the only key. It is made here, 192 random bits, and
one that comes back is matched against its pattern and against the folders that exist.

The root is ``$PERSONALIZATION_HOME``. Without it, it is a folder of this user's in the system's
temporary directory: that can be written everywhere, and a public demo promises no more, but a
restart may empty it. Who trains for themselves sets the variable to a disk that stays.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from personalization.cache import ON_DISK, trim
from personalization.data.concept import Concept
from personalization.data.photo_file import decode, encode
from personalization.data.photos import Photo
from personalization.errors import RunError, WorkspaceError
from personalization.files import (
    NOT_WRITABLE,
    clear_parts,
    on_disk,
    size_words,
    write_atomically,
)
from personalization.recipe import Recipe
from personalization.training.run import Run
from personalization.training.start import disk_needed, start
from personalization.workspaces import expiry
from personalization.workspaces.expiry import DELETED as _DELETED
from personalization.workspaces.expiry import ID as _ID
from personalization.workspaces.expiry import USED as _USED
from personalization.workspaces.library import Library, slug
from personalization.workspaces.presets import Presets
from personalization.workspaces.publications import Publications
from personalization.workspaces.trash import Trash

if TYPE_CHECKING:
    from personalization.bases.base import Base

QUOTA = 4 * 2**30  # bytes
LIFETIME = 7 * 24 * 3600.0  # seconds since the last use
CAPACITY = 5000  # workspaces
FORGOTTEN = "All that was yours here was deleted, as you asked. Load the page again to begin anew."


def default_root() -> Path:
    """Where workspaces are when nobody says otherwise: see the module's docstring."""
    chosen = os.environ.get("PERSONALIZATION_HOME")
    if chosen:
        return Path(chosen)
    root = Path(tempfile.gettempdir()) / f"personalization-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    root.chmod(0o700)  # refused where another user of the machine made it first
    return root


@dataclass(frozen=True)
class Workspace:
    """One visitor's folder, opened. `quota` is in bytes."""

    folder: Path
    quota: int = QUOTA

    @property
    def id(self) -> str:
        """What opens it again."""
        return self.folder.name

    @property
    def pictures(self) -> Path:
        """The folder of drawn pictures."""
        return self.folder / "pictures"

    @property
    def library(self) -> Library:
        """The visitor's adapters, with the ready ones; what is added counts for the quota."""
        return Library(self.folder / "adapters", make_room=self.make_room)

    @property
    def presets(self) -> Presets:
        """The visitor's own recipes."""
        return Presets(self.folder / "presets")

    @property
    def publications(self) -> Publications:
        """Where the visitor's adapters are on the Hub."""
        return Publications(self.folder / "published.json")

    @property
    def trash(self) -> Trash:
        """What was deleted a moment ago."""
        return Trash(self.folder)

    def touch(self) -> None:
        """Say that it is in use, so that it does not expire."""
        (self.folder / _USED).touch()

    def size(self) -> int:
        """Bytes in use. Links are not followed."""
        return sum(
            _bytes(os.path.join(folder, name))
            for folder, _, names in os.walk(self.folder)
            for name in names
        )

    def make_room(self, needed: int) -> None:
        """Raise `WorkspaceError` where `needed` more bytes do not fit into the quota."""
        used = self.size()
        if used + needed > self.quota:
            self.trash.purge(older_than=0)
            used = self.size()
        if used + needed > self.quota:
            raise WorkspaceError(
                f"Your workspace is full: {size_words(used)} of {size_words(self.quota)} are in "
                f"use, and {size_words(needed)} more are needed. Delete what you no longer need "
                "under “Your things”, at the foot of the page."
            )

    def save_photos(self, photos: Iterable[Photo]) -> list[str]:
        """Keep photos, each in one file with its name, caption and mask; returns their keys.

        The same photo again takes no more room. Raises `WorkspaceError` where there is none.
        """
        files = [encode(photo) for photo in photos]
        paths = [self._photos / f"{hashlib.sha256(file).hexdigest()}.png" for file in files]
        new = {path: file for path, file in zip(paths, files, strict=True) if not path.exists()}
        if new:
            self.make_room(sum(map(len, new.values())))
        with on_disk():
            for path, file in new.items():
                write_atomically(path, file)
        return [path.stem for path in paths]

    def photo_keys(self) -> list[str]:
        """The keys of all photos, in the order in which they were saved."""
        paths = sorted(
            self._photos.glob("*.png"), key=lambda path: (path.lstat().st_mtime_ns, path)
        )
        return [path.stem for path in paths if not path.is_symlink()]

    def photos(self, keys: Sequence[str]) -> list[Photo]:
        """The photos under these keys. Raises `WorkspaceError` for one that is not there."""
        self._check_keys(keys)
        return [decode(self._photos / f"{key}.png") for key in keys]

    def delete_photos(self, keys: Sequence[str]) -> None:
        """Forget these photos; a run that learned from them keeps its own copy."""
        self._check_keys(keys)
        for key in set(keys):
            (self._photos / f"{key}.png").unlink()

    def start_run(
        self, base: Base, concept: Concept, recipe: Recipe, *, shared: bool = False
    ) -> Run:
        """A new run in a folder of its own; see `training.start`.

        Raises `WorkspaceError` where the quota is used up, else what is wrong with what is asked.
        """
        self.make_room(disk_needed(base, recipe))
        return start(self.new_run_folder(concept.name), base, concept, recipe, shared=shared)

    def new_run_folder(self, title: str) -> Path:
        """A folder for a run, not made yet, named after the time and the title.

        Raises `WorkspaceError` where the quota is used up.
        """
        self.make_room(0)
        if not self.folder.is_dir():  # deleted meanwhile: a run would bring it back
            raise WorkspaceError(FORGOTTEN)
        return self._runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{slug(title)}"

    def runs(self) -> list[Run]:
        """All runs that can be read, opened, the newest first. No photo is read."""
        runs = []
        for folder in self._run_folders():
            try:
                runs.append(Run.open(folder))
            except RunError as error:  # which would shut the visitor out of all the others
                logging.getLogger(__name__).warning("a damaged run: %s", type(error).__name__)
        return runs

    def run(self, name: str) -> Run:
        """The run of this name. Raises `WorkspaceError` where there is none, else `RunError`."""
        return Run.open(self._run_folder(name))

    def delete_run(self, name: str) -> None:
        """Delete a run with its photos, checkpoint and adapter."""
        shutil.rmtree(self._run_folder(name))

    def delete(self) -> None:
        """Delete everything of this visitor's, for good."""
        # Renamed first: whoever opens it meanwhile finds all of it or nothing.
        doomed = self.folder.rename(self.folder.parent / (_DELETED + secrets.token_urlsafe(16)))
        shutil.rmtree(doomed)

    @property
    def _photos(self) -> Path:
        return self.folder / "photos"

    @property
    def _runs(self) -> Path:
        return self.folder / "runs"

    def _run_folders(self) -> list[Path]:
        """The newest first."""
        folders = sorted((path.parent for path in self._runs.glob("*/run.json")), reverse=True)
        return [folder for folder in folders if not folder.is_symlink()]

    def _run_folder(self, name: str) -> Path:
        for folder in self._run_folders():
            if folder.name == name:
                return folder
        raise WorkspaceError("This run is not in your workspace. It may have been deleted.")

    def _check_keys(self, keys: Sequence[str]) -> None:
        known = set(self.photo_keys())
        if not known.issuperset(keys):
            raise WorkspaceError("A photo is no longer in your workspace. Add it again.")


class Workspaces:
    """All visitors' workspaces under one root."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        quota: int = QUOTA,
        lifetime: float = LIFETIME,
        capacity: int = CAPACITY,
    ):
        try:
            self.root = Path(root) if root else default_root()
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(NOT_WRITABLE) from error
        _shut(self.root)
        self.quota = quota
        self.lifetime = lifetime
        self.capacity = capacity

    @property
    def cache(self) -> Path:
        """What any visitor's run may use again: it holds nothing of anybody's photos."""
        return self.root / "cache"

    def usage(self) -> tuple[int, int]:
        """How many workspaces there are, and their bytes in all."""
        folders = [path for path in self.root.iterdir() if (path / _USED).is_file()]
        return len(folders), sum(Workspace(folder).size() for folder in folders)

    def tidy(self, oldest: float) -> None:
        """Let go of what was deleted or left half written, and of old class images."""
        clear_parts(self.root)
        for folder in self.root.glob("*/trash"):
            Trash(folder.parent).purge()
        trim(self.cache, ON_DISK, oldest=oldest)

    def new(self) -> Workspace:
        """A workspace for a new visitor. Raises `WorkspaceError` where there are too many."""
        return self.renew(secrets.token_urlsafe(24))

    def renew(self, id: str) -> Workspace:
        """An empty workspace of this id.

        Raises `WorkspaceError` for what is none, for one that was forgotten, and where there are
        as many as the app keeps.
        """
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise WorkspaceError("This is no workspace of the app. Load the page again.")
        if expiry.forgotten(self.root, id):
            raise WorkspaceError(FORGOTTEN)
        workspace = Workspace(self.root / id, self.quota)
        with on_disk():
            if not expiry.room_for_one(self.root, self.capacity):
                raise WorkspaceError(
                    f"The app keeps {self.capacity} visitors’ things, and cannot take more now. "
                    "Come back later, or run the app on a machine of your own."
                )
            workspace.folder.mkdir(mode=0o700, exist_ok=True)
            for name in ("photos", "runs", "adapters", "pictures"):
                (workspace.folder / name).mkdir(exist_ok=True)
            workspace.touch()
        return workspace

    def forget(self, id: str) -> None:
        """Delete all of this visitor's, for good: no open page brings it back."""
        workspace = self.open(id)
        with on_disk():
            expiry.remember_forgotten(self.root, id)
            workspace.delete()

    def open(self, id: str) -> Workspace:
        """The workspace of this id, used now. Raises `WorkspaceError` where there is none."""
        valid = isinstance(id, str) and _ID.fullmatch(id)
        folder = self.root / id if valid else None
        if folder is None or folder.is_symlink() or not (folder / _USED).is_file():
            raise WorkspaceError(
                "Your workspace is no longer here: it was deleted, or not used for "
                f"{self.lifetime / 86400:.0f} days. A new one starts empty."
            )
        workspace = Workspace(folder, self.quota)
        with suppress(OSError):  # a home that is full or read-only can be looked at all the same
            workspace.touch()
        return workspace

    def expire(self, now: float | None = None) -> int:
        """Delete what nobody has used for the lifetime; returns how many workspaces that were."""
        oldest = (time.time() if now is None else now) - self.lifetime
        self.tidy(oldest)
        return expiry.expire(self.root, oldest)


def _shut(root: Path) -> None:
    """No other user of the machine may list the root: the name of a folder there opens it."""
    with suppress(OSError):  # another user's, who has to shut it
        mode = root.stat().st_mode
        if not mode & stat.S_ISVTX:  # /tmp is everybody's
            root.chmod(mode & 0o700)


def _bytes(path: str) -> int:
    """The size of a file; none where it was a part that a run has renamed meanwhile."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0
