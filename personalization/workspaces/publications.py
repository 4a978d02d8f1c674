"""Where a visitor's adapters are on the Hub: what was published from here, or taken from there.

It stays in the workspace, and in no file that is handed on: a repository may be private.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from personalization.files import on_disk, write_atomically


@dataclass(frozen=True)
class Publication:
    """A repository, and what the adapter's file was when it was last the same as a version's."""

    repository: str
    sha256: str


_ALL = TypeAdapter(dict[str, Publication])


class Publications:
    """By the adapters' names in the library; kept in the file at `path`."""

    def __init__(self, path: Path):
        self.path = path

    def of(self, name: str) -> Publication | None:
        """Where the adapter of that name is; None where that is not known."""
        return self._read().get(name)

    def remember(self, name: str, repository: str, file: Path) -> None:
        """That what `file` holds now is a version there."""
        known = self._read()
        known[name] = Publication(repository, hash_of(file))
        content = {name: asdict(each) for name, each in known.items()}
        with on_disk():
            write_atomically(self.path, json.dumps(content, indent=1))

    def _read(self) -> dict[str, Publication]:
        try:
            return _ALL.validate_json(self.path.read_bytes())
        except (OSError, ValueError):  # none yet; or damaged, and publishing again mends it
            return {}


def hash_of(file: Path) -> str:
    """Of all that a file holds."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
