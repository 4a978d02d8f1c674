"""A library: a folder of adapters, and beside it those that come with the app.

Listing reads headers only. A name from the browser is looked up among the names that exist and is
never made into a path; a name for a new file is a slug of its title.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from personalization.adapters import adapter
from personalization.adapters.adapter import Adapter, Description
from personalization.errors import AdapterError
from personalization.files import (
    MAX_HEADER,
    Header,
    copy_atomically,
    on_disk,
    read_header,
)

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "adapters"
SUFFIX = ".safetensors"
MAX_TITLE = 80  # characters
MAX_NAME = 96  # bytes, so that the file's name with a counter and ".part" fits every disk
_START = '{"__metadata__":'
_END = re.compile(r'"data_offsets":\[\d+,(\d+)\]\}\}\s*$')


@dataclass(frozen=True)
class Entry:
    """An adapter in the library. One that cannot be read has a sentence in `error` instead."""

    name: str
    path: Path
    size: int  # bytes
    own: bool  # the visitor's, who may remove it; else it came with the app
    description: Description | None
    error: str = ""


def _describe(path: Path) -> Description:
    from personalization.adapters import formats  # takes seconds, and the page starts without

    return formats.describe(path)


def _read(path: Path) -> Adapter:
    from personalization.adapters import formats

    return formats.read(path)


class Library:
    """The adapters in `folder`, and the `bundled` ones, which nothing here changes.

    `describe` tells what a file is that does not say so itself, `read` opens any; `make_room` is
    asked with the bytes that are about to be written. Each raises for what it refuses.
    """

    def __init__(
        self,
        folder: Path,
        bundled: Path = BUNDLED,
        *,
        describe: Callable[[Path], Description] = _describe,
        read: Callable[[Path], Adapter] = _read,
        make_room: Callable[[int], None] = lambda _: None,
    ):
        self.folder = Path(folder)
        self.bundled = Path(bundled)
        self.describe = describe
        self.read = read
        self.make_room = make_room

    def list(self) -> list[Entry]:
        """The visitor's own, newest first, then the ready ones by name."""
        visitors = _files(self.folder)
        bundled = [p for name, p in sorted(_files(self.bundled).items()) if name not in visitors]
        newest_first = sorted(visitors.values(), key=_modified, reverse=True)
        return [self._entry(path) for path in chain(newest_first, bundled)]

    def entry(self, name: str) -> Entry:
        """The adapter of this name. Raises `AdapterError` where there is none."""
        return self._entry(self._path(name))

    def get(self, name: str) -> Adapter:
        """The adapter with its tensors. Raises `AdapterError` where it is missing or broken."""
        return self.read(self._path(name))

    def add(self, source: Path | Adapter, title: str) -> Entry:
        """Keep an adapter, or a copy of a file, under a free name made of `title`.

        Raises `AdapterError` for a file that `describe` refuses, before anything is written, and
        `WorkspaceError` where there is no room.
        """
        if isinstance(source, Adapter):
            from personalization.adapters import formats

            self.make_room(sum(tensor.nbytes for tensor in source.tensors.values()))
            metadata = formats.diffusers_metadata(source)
            with on_disk():
                return self._entry(source.save(self._free_path(title), metadata))
        self.describe(source)
        self.make_room(source.stat().st_size)
        with on_disk():
            return self._entry(copy_atomically(source, self._free_path(title)))

    def copies(self, path: Path) -> tuple[Entry, ...]:
        """The visitor's own entries that were added from the file that a run has made."""
        told = adapter.embedded_description(read_header(path))
        if told is None or not told.created:
            return ()
        own = map(self._entry, sorted(_files(self.folder).values()))
        return tuple(
            entry
            for entry in own
            if entry.description and _origin(entry.description) == _origin(told)
        )

    def renew(self, path: Path) -> None:
        """Make the copies of a run's file what it is now: its strength and report may be new."""
        told = adapter.embedded_description(read_header(path))
        for entry in self.copies(path):
            named = entry.description
            if told and named and named != told:
                made = self.read(path)
                new = _called(made, named.title, named.placeholder_token)
                with on_disk():
                    if new.description == made.description:
                        copy_atomically(path, entry.path)
                    else:
                        self._rewrite(entry.path, new)

    def replace(self, name: str, adapter: Adapter) -> Entry:
        """Another adapter in the place of one of the visitor's own: stacks find it by the name.

        Raises `AdapterError` for one that is not theirs, `WorkspaceError` where there is no room.
        """
        from personalization.adapters import formats

        path = self._own(name)
        self.make_room(sum(tensor.nbytes for tensor in adapter.tensors.values()))
        with on_disk():
            return self._entry(adapter.save(path, formats.diffusers_metadata(adapter)))

    def rename(self, name: str, title: str = "", placeholder_token: str = "") -> Entry:
        """Give one of the visitor's own another title, its word another name; "" leaves each.

        Its name in the library stays: stacks and pictures know it by that. Raises `AdapterError`
        for one that is not theirs or cannot be read, `ConceptError` for a word that is none, or
        that nothing was learned for.
        """
        path = self._own(name)
        about = self._entry(path).description
        title = title.strip()
        if len(title) > MAX_TITLE:
            raise AdapterError(
                f"The title has {len(title)} characters; at most {MAX_TITLE} fit. Shorten it.",
                field="title",
            )
        adapter = self.read(path)
        new = _called(adapter, title or (about.title if about else ""), placeholder_token)
        if new.description != adapter.description:
            self._rewrite(path, new)
        return self._entry(path)

    def word_can_be_renamed(self, name: str) -> bool:
        """Whether its word was learned with it, or is a stranger's; by the header alone."""
        from personalization.adapters.adapter_deltas import TEXTUAL_INVERSION, WORD

        path = self._path(name)
        about = self.entry(name).description
        if about is None:
            return False
        return (
            about.method == TEXTUAL_INVERSION
            or not about.recipe
            or any(each.startswith(WORD) for each in read_header(path).shapes)
        )

    def remove(self, name: str) -> None:
        """Delete one of the visitor's own. Raises `AdapterError` for any other."""
        self._own(name).unlink()

    def _rewrite(self, path: Path, new: Adapter) -> None:
        """The same file with other contents, no newer than it was."""
        from personalization.adapters import formats

        was = path.stat()
        self.make_room(max(0, sum(t.nbytes for t in new.tensors.values()) - was.st_size))
        with on_disk():
            new.save(path, formats.diffusers_metadata(new))
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))

    def _own(self, name: str) -> Path:
        path = self._path(name)
        if path.parent != self.folder:
            raise AdapterError(
                f"{name} comes with the app and stays. Leave it out of the stack instead.",
                field="adapter",
            )
        return path

    def _path(self, name: str) -> Path:
        path = (_files(self.bundled) | _files(self.folder)).get(name)
        if path is None:
            raise AdapterError(
                f"There is no adapter “{name[:40]}” in the library. It may have been removed: "
                "choose another, or add its file again.",
                field="adapter",
            )
        return path

    def _free_path(self, title: str) -> Path:
        existing = _files(self.bundled) | _files(self.folder)
        name = slug(title)
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        return self.folder / (next(free for free in names if free not in existing) + SUFFIX)

    def _entry(self, path: Path) -> Entry:
        own = path.parent == self.folder
        size = path.stat().st_size
        try:
            description = _glance(path, size) or self.describe(path)
            return Entry(path.stem, path, size, own, description)
        except AdapterError as error:
            return Entry(path.stem, path, size, own, None, str(error))


def _called(adapter: Adapter, title: str, placeholder_token: str) -> Adapter:
    """With this title, and its word called so; "" leaves that."""
    from personalization.adapters.adapter_deltas import with_word

    new = adapter.described(title=title)
    word = adapter.description.placeholder_token
    return new if placeholder_token in ("", word) else with_word(new, placeholder_token)


def slug(title: str) -> str:
    """A name that is safe as a file's: letters and digits of any script, in lower case, and "-"."""
    text = unicodedata.normalize("NFKC", title).casefold()
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = "-".join(words.split()).encode()[:MAX_NAME].decode(errors="ignore")
    return name.strip("-") or "untitled"


def _files(folder: Path) -> dict[str, Path]:
    """Adapter files by name. A link is left out: it may lead anywhere."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as files:
        return {
            file.name.removesuffix(SUFFIX): folder / file.name
            for file in files
            if file.name.endswith(SUFFIX) and file.is_file(follow_symlinks=False)
        }


def _glance(path: Path, size: int) -> Description | None:
    """What the app wrote at the head of a whole file, or None where it takes a closer look.

    The list of tensors is skipped but for its end, which says how long the file should be: of 500
    adapters for SDXL, whose lists are long, it would take seconds to read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            return None
        text = file.read(length).decode(errors="replace")
    end = _END.search(text, max(0, length - 256))
    if not text.startswith(_START) or end is None or 8 + length + int(end[1]) != size:
        return None
    try:
        metadata, _ = json.JSONDecoder().raw_decode(text, len(_START))
        return adapter.embedded_description(Header(dict(metadata), {}))
    except (ValueError, TypeError):
        return None


def _origin(description: Description) -> tuple[object, ...]:
    """When, of what and how a run has made it: what no later word about it changes."""
    made = description.created, description.class_noun, description.kind, description.method
    return *made, description.fingerprint, description.recipe


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns
