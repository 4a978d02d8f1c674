"""What was deleted a moment ago: it can be put back for some seconds, and is gone for good then.

    <workspace>/trash/<nanoseconds since the epoch>-<random>/<folder>/<name>

Until it is gone it counts for the quota, and goes first where room is needed.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path

from personalization.errors import WorkspaceError
from personalization.files import on_disk

UNDO = 10.0  # seconds
BACK = "back-"  # and the ticket: it is being brought back
_TICKET = re.compile(r"(\d{1,20})-[A-Za-z0-9_-]{8}")


class Trash:
    """The trash of the workspace in `home`."""

    def __init__(self, home: Path):
        self.home = home
        self.folder = home / "trash"

    def put(self, paths: Iterable[Path]) -> str:
        """Move files or folders of the workspace here, as one; returns what brings them back."""
        ticket = f"{time.time_ns()}-{secrets.token_urlsafe(6)}"
        with on_disk():
            for path in paths:
                target = self.folder / ticket / path.relative_to(self.home)
                for folder in (self.folder, target.parents[1], target.parent):
                    folder.mkdir(exist_ok=True)  # a workspace that has gone is not made again
                path.rename(target)
        return ticket

    def put_back(self, ticket: str) -> list[Path]:
        """Bring everything back to where it was, or beside what has its name by now.

        Raises `WorkspaceError` where it is gone.
        """
        folder = self.folder / ticket
        if not _TICKET.fullmatch(ticket) or not folder.is_dir():
            raise WorkspaceError(
                f"It is gone: what was deleted can be brought back for {UNDO:.0f} seconds, and "
                "while nothing else needs its room."
            )
        with on_disk():
            # From now on all of it comes back, even where the process ends halfway.
            return self._bring(folder.rename(self.folder / f"{BACK}{ticket}"))

    def purge(self, *, older_than: float = UNDO) -> None:
        """Delete for good what has lain here for that many seconds."""
        for folder in self.folder.glob("*/"):
            if folder.name.startswith(BACK):  # its process was killed meanwhile
                self._bring(folder)
                continue
            known = _TICKET.fullmatch(folder.name)
            age = (time.time_ns() - int(known[1])) / 1e9 if known else older_than
            # A negative age is a clock that went back: it will not be seen to pass.
            if age >= older_than or age < -UNDO:
                shutil.rmtree(folder, ignore_errors=True)

    def _bring(self, folder: Path) -> list[Path]:
        """Out of a folder of the trash to where it was, as far as nobody else has done it."""
        back = []
        for path in sorted(folder.glob("*/*")):
            target = _free(self.home / path.relative_to(folder))
            target.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                back.append(path.rename(target))
        for emptied in (*folder.glob("*/"), folder):
            with suppress(OSError):
                emptied.rmdir()
        return back


def _free(path: Path) -> Path:
    """The path, with a number where something is there already."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())
