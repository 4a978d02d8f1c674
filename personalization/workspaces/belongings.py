"""All that a visitor has here, piece by piece: what it is, how large, from when; and its deletion.

A name from the browser is looked up among the names that exist, and is never made into a path.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from personalization.adapters.adapter import embedded_description
from personalization.errors import AdapterError, RecipeError, RunError, WorkspaceError
from personalization.files import PART, read_header
from personalization.sampling.picture_record import read_record
from personalization.training.run import Run
from personalization.workspaces import library, presets
from personalization.workspaces.damage import damaged, is_whole_png
from personalization.workspaces.library import Entry
from personalization.workspaces.presets import Presets
from personalization.workspaces.workspace import Workspace

Kind = Literal["run", "adapter", "photo", "picture", "preset"]
Order = Literal["newest", "name", "size"]
KINDS: tuple[Kind, ...] = get_args(Kind)
METHODS = {
    "textual_inversion": "learned word",
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "dora": "DoRA",
    "full": "full fine-tune",
}
_ENDINGS: dict[Kind, str] = {"adapter": library.SUFFIX, "preset": presets.SUFFIX}
FOLDERS: dict[Kind, str] = {kind: f"{kind}s" for kind in KINDS}


@dataclass(frozen=True)
class Belonging:
    """A piece of a workspace. What is damaged of it, and what can be done, stands in `error`."""

    kind: Kind
    name: str  # by which it is deleted; an adapter's is the library's
    path: Path
    title: str
    size: int  # bytes
    when: float  # seconds since the epoch, of its last change
    about: str = ""
    picture: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class Deleted:
    """What a deletion did: `ticket` brings it back, `kept` says what was not deleted and why."""

    ticket: str
    count: int
    kept: tuple[str, ...] = ()


def belongings(workspace: Workspace) -> list[Belonging]:
    """All of it, kind by kind, the newest first."""
    describe: dict[Kind, Callable[[str, Path], Belonging]] = {
        "run": _run,
        "adapter": _adapters(workspace),
        "photo": _photo,
        "picture": _picture,
        "preset": _preset,
    }
    found = [
        describe[kind](name, path)
        for kind in KINDS
        for name, path in _paths(workspace, kind).items()
    ]
    return sorted(found, key=lambda each: (KINDS.index(each.kind), -each.when, each.name))


def arranged(
    found: Sequence[Belonging], search: str = "", order: Order = "newest"
) -> list[Belonging]:
    """Those whose title, name or line has every word of `search`, in that order."""
    wanted = search.casefold().split()
    hits = [
        each
        for each in found
        if all(w in f"{each.title} {each.name} {each.about}".casefold() for w in wanted)
    ]
    keys: dict[Order, Callable[[Belonging], Any]] = {
        "newest": lambda each: (-each.when, each.name),
        "name": lambda each: (each.title.casefold(), each.name),
        "size": lambda each: (-each.size, each.name),
    }
    return sorted(hits, key=keys[order])


def delete(workspace: Workspace, kind: Kind, names: Sequence[str] | None = None) -> Deleted:
    """Put the pieces of these names, or all of that kind, into the trash.

    A run that is going stays, and is named in `kept`. Raises `WorkspaceError` for an unknown name.
    """
    there = _paths(workspace, kind)
    if missing := [name for name in names or () if name not in there]:
        raise WorkspaceError(
            f"There is no {kind} “{missing[0][:60]}” in your workspace. It may have been deleted "
            "in another tab."
        )
    kept: list[str] = []
    with ExitStack() as held:
        going = []
        for name in dict.fromkeys(there if names is None else names):
            try:
                held.enter_context(_at_rest(there[name]))
                going.append(there[name])
            except RunError as error:
                kept.append(str(error))
        ticket = workspace.trash.put(going) if going else ""
    return Deleted(ticket, len(going), tuple(kept))


def thumbnail(entry: Entry, pictures: dict[str, Path]) -> Path | None:
    """A picture of what an adapter does: the bundled ones bring it, others have their run's."""
    if not entry.own:
        bundled = entry.path.with_suffix("") / "0.png"
        return bundled if bundled.is_file() else None
    return pictures.get(entry.description.created) if entry.description else None


def pictures_of(runs: Sequence[Run]) -> dict[str, Path]:
    """The first picture of each run by the time at which its adapter was made."""
    pictures: dict[str, Path] = {}
    for run in runs:
        drawn = run.folder / "pictures" / "0.png"
        if run.adapter_path.is_file() and drawn.is_file():
            try:
                description = embedded_description(read_header(run.adapter_path))
            except AdapterError:  # damaged: it has no picture, and the page stays open
                continue
            if description and description.created:
                pictures[description.created] = drawn
    return pictures


@contextmanager
def _at_rest(path: Path) -> Iterator[None]:
    """While a run is deleted nobody begins to work on it. Raises `RunError` where somebody does."""
    try:
        with (path / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except (FileNotFoundError, NotADirectoryError):  # nobody has ever, or it is no run
        yield
    except BlockingIOError as error:
        raise RunError(
            f"{path.name} is going: it was not deleted. Cancel it first, then delete it."
        ) from error


def _paths(workspace: Workspace, kind: Kind) -> dict[str, Path]:
    """What lies in the folder of that kind, by name, but for links and what is being written."""
    folder = workspace.folder / FOLDERS[kind]
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as found:
        return {
            each.name.removesuffix(_ENDINGS.get(kind, "")): folder / each.name
            for each in sorted(found, key=lambda each: each.name)
            if not each.is_symlink() and not each.name.endswith(PART)
        }


def _run(name: str, path: Path) -> Belonging:
    mark = path / "state.json"
    when = _changed(mark if mark.exists() else path)
    size = _size(path)
    try:
        run = Run.open(path)
        state, words, method = run.state, run.record.concept, run.recipe.method_name
        faults = damaged(run)
    except RunError as error:
        return Belonging("run", name, path, path.name, size, when, error=str(error))
    noun = "" if method == "textual_inversion" else words.class_noun
    pictures = (path / "pictures" / "0.png", *(path / each.file for each in words.photos[:1]))
    return Belonging(
        "run",
        name,
        path,
        f"{words.placeholder_token} {noun}".strip(),
        size,
        when,
        f"{METHODS[method]}, step {state.step} of {run.recipe.steps}",
        next((picture for picture in pictures if is_whole_png(picture)), None),
        " ".join(faults),
    )


def _adapters(workspace: Workspace) -> Callable[[str, Path], Belonging]:
    pictures = pictures_of(workspace.runs())
    entries = {entry.path: entry for entry in workspace.library.list() if entry.own}

    def adapter(name: str, path: Path) -> Belonging:
        entry = entries.get(path)
        about = entry.description if entry else None
        if entry is None or about is None:
            why = entry.error if entry else f"{path.name} is no adapter's file."
            return Belonging("adapter", name, path, name, _size(path), _changed(path), error=why)
        return Belonging(
            "adapter",
            name,
            path,
            (title := about.title or about.trigger or entry.name),
            entry.size,
            _changed(path),
            " · ".join(
                part
                for part in (about.trigger, METHODS.get(about.method, about.method))
                if part and part != title
            ),
            thumbnail(entry, pictures),
        )

    return adapter


def _photo(name: str, path: Path) -> Belonging:
    title, error = path.name, ""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            title = str(file.info.get("name", path.name))
        if not is_whole_png(path):
            raise ValueError("it is cut")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        error = "This photo is damaged. Add it again, and delete this one."
    picture = None if error else path
    return Belonging("photo", name, path, title, _size(path), _changed(path), "", picture, error)


def _picture(name: str, path: Path) -> Belonging:
    record = read_record(path)
    title = record.prompt if record else path.name
    error = "" if record else "This picture is damaged, or holds no record: draw it again."
    about = f"seed {record.seed}" if record else ""
    picture = path if record else None
    return Belonging(
        "picture", name, path, title, _size(path), _changed(path), about, picture, error
    )


def _preset(name: str, path: Path) -> Belonging:
    size, when = _size(path), _changed(path)
    try:
        recipe = Presets(path.parent).get(path.stem)
    except RecipeError as error:
        return Belonging("preset", name, path, path.stem, size, when, error=str(error))
    about = f"{METHODS[recipe.method_name]}, {recipe.steps} steps"
    return Belonging("preset", name, path, path.stem, size, when, about)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # deleted meanwhile, in another tab
        return 0.0


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        return sum(each.lstat().st_size for each in inside)
    except FileNotFoundError:
        return 0
