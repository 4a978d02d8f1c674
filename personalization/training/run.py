"""A run is a folder.

    run.json               concept, recipe, base: written once
    photos/                the photos, upright, each with its mask, name and caption
    state.json             where it stands
    log.jsonl              a line a step
    checkpoint.safetensors the trainable tensors, the optimizer's, and n
    previews/              step-000050-0.png ...
    seen/                  the photos as the base sees them, small: what counts little is dimmed
    contents.json          what the base says that a style's photos show, by their number
    cache/                 what can be computed again
    adapter.safetensors    the result
    report.json, report/   how well it worked, and the pictures that show it; report.html is both

Whatever ends a process (an allocation that is over, a cancel, a kill, a full disk), the run
continues from its folder.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, Final, Literal, ParamSpec

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from personalization.data import words
from personalization.data.concept import Concept, Kind
from personalization.data.photo_file import StoredPhotos, decode, encode, pixel_hash
from personalization.data.photos import Photo
from personalization.errors import RunError, WorkspaceError
from personalization.files import (
    append_lines,
    clear_parts,
    on_disk,
    open_lock,
    write_atomically,
)
from personalization.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Final = 2  # of run.json
Status = Literal["new", "running", "finished", "failed"]


@dataclass(frozen=True)
class LossRow:
    """A line of the log."""

    step: int
    loss: float
    prior_loss: float | None
    seconds: float
    # On one fixed batch, where the recipe looks at it.
    fixed_batch_loss: Annotated[
        float | None, Field(validation_alias=AliasChoices("fixed_batch_loss", "fixed_loss"))
    ] = None


@dataclass(frozen=True)
class State:
    """Where a run stands."""

    status: Status = "new"
    step: int = 0  # of the checkpoint
    seconds: float = 0.0  # spent up to the checkpoint, over all slices
    error: str = ""
    memory: int | None = None  # bytes of the GPU at most, up to the checkpoint; None on a CPU
    format: Literal[2] = FORMAT


@dataclass(frozen=True)
class PhotoRecord:
    """A photo in run.json: its file, and the hash of its pixels (`photo_file.pixel_hash`).

    Version 0.1.0 kept name, caption and mask outside of the file, and no hash.
    """

    file: str
    sha256: str = ""
    name: str | None = None
    caption: str | None = None
    mask: str | None = None

    def read(self, folder: Path) -> Photo:
        """Raises `PhotoError` where a file is missing or damaged."""
        photo = decode(folder / self.file)
        if self.name is None:
            return photo
        mask = decode(folder / self.mask).image.convert("L") if self.mask else None
        return Photo(self.name, photo.image, mask, self.caption)


@dataclass(frozen=True)
class ConceptRecord:
    """The concept in run.json."""

    kind: Kind
    placeholder_token: Annotated[
        str, Field(validation_alias=AliasChoices("placeholder_token", "token"))
    ]
    class_noun: Annotated[str, Field(validation_alias=AliasChoices("class_noun", "noun"))]
    photos: tuple[PhotoRecord, ...]


@dataclass(frozen=True)
class RunRecord:
    """run.json."""

    base: str
    concept: ConceptRecord
    recipe: Recipe
    created: str = ""
    format: Literal[1, 2] = FORMAT


P = ParamSpec("P")


def _writing(method: Callable[Concatenate[Run, P], None]) -> Callable[Concatenate[Run, P], None]:
    """Does nothing where another process writes the run."""

    @wraps(method)
    def unless_another(run: Run, /, *args: P.args, **named: P.kwargs) -> None:
        if run.writes:
            method(run, *args, **named)

    return unless_another


_RUN, _STATE, _LOSSES = TypeAdapter(RunRecord), TypeAdapter(State), TypeAdapter(LossRow)
_CONTENTS = TypeAdapter(dict[int, str])


class Run:
    """A run's folder, opened. Holds nothing that is not in the folder.

    `writes`: False where several processes compute the run, and another one writes.
    """

    def __init__(self, folder: Path, record: RunRecord, *, writes: bool = True):
        self.folder = folder
        self.writes = writes
        self.record = record
        self.base = record.base
        self.recipe = record.recipe

    @classmethod
    def create(cls, folder: Path, concept: Concept, recipe: Recipe, base: str) -> Run:
        """Make the folder, or nothing. `base` is a name in the catalog.

        Raises `WorkspaceError` where the disk is full.
        """
        folder = Path(folder)
        if (folder / "run.json").exists():
            raise RunError(f"{folder.name} holds a run already. Continue it, or name a new one.")
        try:
            with on_disk():
                _write(folder, concept, recipe.check(), base)
        except WorkspaceError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, writes: bool = True) -> Run:
        """Read run.json, and no photo. Raises `RunError` where the folder holds no run."""
        folder = Path(folder)
        try:
            record = _RUN.validate_json((folder / "run.json").read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            raise RunError(_why_not(folder, error)) from error
        return cls(folder, record, writes=writes)

    @cached_property
    def concept(self) -> Concept:
        """What is taught. Its photos are read when one is asked for; raises `PhotoError` then.

        Version 0.1.0 took a class noun with the word in it: it goes on with the class alone.
        """
        said = self.record.concept
        photos = StoredPhotos([partial(each.read, self.folder) for each in said.photos])
        noun = said.class_noun
        if words.contains(noun, said.placeholder_token):
            noun = words.without(noun, said.placeholder_token) or "subject"
        return Concept(said.kind, said.placeholder_token, noun, photos)

    @property
    def contents(self) -> dict[int, str]:
        """By photo, what the base says that it shows (`Recipe.annotate`); {} where it does not."""
        try:
            return _CONTENTS.validate_json((self.folder / "contents.json").read_bytes())
        except (OSError, ValidationError):
            return {}

    @_writing
    def keep_contents(self, contents: Mapping[int, str]) -> None:
        """Keep it, for later slices and for the report."""
        if contents:
            write_atomically(self.folder / "contents.json", json.dumps(dict(contents)))

    @cached_property
    def photo_hashes(self) -> tuple[str, ...]:
        """The photos by their pixels, in no order: runs that have the same can be compared."""
        hashes = [photo.sha256 for photo in self.record.concept.photos]
        return tuple(sorted(hashes if all(hashes) else map(pixel_hash, self.concept.photos)))

    @property
    def state(self) -> State:
        """Where it stands by now. Raises `RunError` where that cannot be read."""
        path = self.folder / "state.json"
        try:
            return _STATE.validate_json(path.read_bytes(), strict=True)
        except FileNotFoundError:
            return State()
        except (OSError, ValidationError) as error:
            raise RunError(_why_not(self.folder, error)) from error

    @_writing
    def set_state(self, state: State) -> None:
        """Say where it stands."""
        write_atomically(self.folder / "state.json", json.dumps(asdict(state)))

    @property
    def adapter_path(self) -> Path:
        """The result's file, which is there once the run has finished."""
        return self.folder / "adapter.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """The last checkpoint's file."""
        return self.folder / "checkpoint.safetensors"

    @_writing
    def save_checkpoint(
        self, tensors: Mapping[str, Tensor], step: int, seconds: float, memory: int | None = None
    ) -> None:
        """One file, so that tensors, optimizer and step are always of the same moment."""
        from safetensors.torch import save as save_tensors  # brings torch, for seconds

        metadata = {"step": str(step), "seconds": repr(seconds)}
        content = save_tensors(dict(tensors), metadata=metadata)
        write_atomically(self.checkpoint_path, content)
        self.set_state(State("running", step, seconds, memory=memory))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], int, float] | None:
        """Tensors, step and seconds of the last checkpoint, or None before the first.

        Raises `RunError` for one that is damaged.
        """
        from safetensors.torch import load as load_tensors

        if not self.checkpoint_path.exists():
            return None
        try:
            with safe_open(str(self.checkpoint_path), framework="pt") as file:
                metadata = file.metadata()
            tensors = load_tensors(self.checkpoint_path.read_bytes())
            return tensors, int(metadata["step"]), float(metadata["seconds"])
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise RunError(
                f"The checkpoint of {self.folder.name} is damaged, and the run cannot go on from "
                "it. Start it anew: its photos and settings are still there."
            ) from error

    def losses(self) -> list[LossRow]:
        """The log. A last line cut short by a kill is left out."""
        path = self.folder / "log.jsonl"
        rows = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                rows.append(_LOSSES.validate_json(line, strict=True))
            except ValidationError:
                break
        return rows

    @_writing
    def log(self, rows: Iterable[LossRow]) -> None:
        """Add lines to the log."""
        append_lines(self.folder / "log.jsonl", map(_line, rows))

    @_writing
    def truncate_log(self, step: int) -> None:
        """Forget what came after the checkpoint: those steps will be done again."""
        rows = (row for row in self.losses() if row.step <= step)
        write_atomically(self.folder / "log.jsonl", "".join(f"{_line(row)}\n" for row in rows))

    def preview_path(self, step: int, index: int) -> Path:
        """The file of the `index`-th preview after `step` steps."""
        return self.folder / "previews" / f"step-{step:06d}-{index}.png"

    def previews(self) -> list[tuple[int, list[Path]]]:
        """(step, pictures) in the order of steps."""
        by_step: dict[int, list[Path]] = {}
        for path in sorted((self.folder / "previews").glob("step-*.png")):
            by_step.setdefault(int(path.stem.split("-")[1]), []).append(path)
        return sorted(by_step.items())

    def seen_path(self, index: int) -> Path:
        """The file of the `index`-th photo as the base sees it."""
        return self.folder / "seen" / f"{index:03d}.png"

    @property
    def seen(self) -> list[Path]:
        """Those that there are, in the photos' order."""
        return sorted((self.folder / "seen").glob("*.png"))

    def stop(self) -> None:
        """Ask whoever trains to end the slice after the step at hand."""
        write_atomically(self.folder / "stop", "")

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked."""
        return (self.folder / "stop").exists()

    @_writing
    def clear_stop(self) -> None:
        """Forget that somebody asked."""
        (self.folder / "stop").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One worker at a time; the lock goes with the process, however it ends.

        What a killed one left half written goes as well.
        """
        if not self.writes:
            yield
            return
        with open_lock(self.folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    "Somebody works on this run already, perhaps you in another tab. Wait for it, "
                    "or cancel it there."
                ) from error
            clear_parts(self.folder)
            yield


def _line(row: LossRow) -> str:
    return json.dumps(asdict(row))


def _write(folder: Path, concept: Concept, recipe: Recipe, base: str) -> None:
    """The photos, then run.json, which makes the folder a run's."""
    photos = []
    folder.mkdir(parents=True, exist_ok=True)
    for index, photo in enumerate(concept.photos):
        file = f"photos/{index:03d}.png"
        write_atomically(folder / file, encode(photo))
        photos.append(PhotoRecord(file, pixel_hash(photo)))
    words = ConceptRecord(
        concept.kind, concept.placeholder_token, concept.class_noun, tuple(photos)
    )
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = RunRecord(base, words, recipe, created)
    write_atomically(folder / "run.json", _RUN.dump_json(record, indent=1, exclude_none=True))


def _why_not(folder: Path, error: OSError | ValidationError) -> str:
    """Why the folder cannot be opened: a file of a later version, or a damaged one."""
    faults = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    if any("format" in fault["loc"] for fault in faults):
        return (
            f"{folder.name} is a run of a later version of the app. Update the app to go on "
            "with it, or start a new one."
        )
    why = f"{'.'.join(map(str, faults[0]['loc']))}: {faults[0]['msg']}" if faults else ""
    why = why or getattr(error, "strerror", "")  # without its path, which names the workspace
    return f"{folder.name} holds no run that can be read ({why}). Delete it, and start a new one."
