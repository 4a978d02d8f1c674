"""A run is a folder.

    run.json               concept, recipe, base: written once
    photos/                the photos, upright
    state.json             where it stands
    log.jsonl              a line a step
    checkpoint.safetensors the trainable tensors, the optimizer's, and n
    previews/              step-000050-0.png ...
    cache/                 what can be computed again
    adapter.safetensors    the result
    report.json, report/   how well it worked, and the pictures that show it; report.html is both

Whatever ends a process (an allocation that is over, a cancel, a kill, a full disk), the run
continues from its folder.
"""

from __future__ import annotations

import fcntl
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.errors import RunError
from personalization.files import PART, write_atomically
from personalization.recipe import Recipe

_NAMES_BEFORE_2 = {
    "token": "placeholder_token",
    "noun": "class_noun",
    "fixed_loss": "fixed_batch_loss",
}
Status = Literal["new", "running", "finished", "failed"]
FORMAT = 2


@dataclass(frozen=True)
class LossRow:
    """A line of the log."""

    step: int
    loss: float
    prior_loss: float | None
    seconds: float
    fixed_batch_loss: float | None = None  # on one fixed batch, where the recipe looks at it


@dataclass(frozen=True)
class State:
    """Where a run stands."""

    status: Status = "new"
    step: int = 0  # of the checkpoint
    seconds: float = 0.0  # spent up to the checkpoint, over all slices
    error: str = ""
    memory: int | None = None  # bytes of the GPU at most, up to the checkpoint; None on a CPU


class Run:
    """A run's folder, opened. Holds nothing that is not in the folder."""

    def __init__(self, folder: Path, concept: Concept, recipe: Recipe, base: str):
        self.folder = folder
        self.concept = concept
        self.recipe = recipe
        self.base = base

    @classmethod
    def create(cls, folder: Path, concept: Concept, recipe: Recipe, base: str) -> Run:
        """Make the folder. `base` is a name in the catalog."""
        folder = Path(folder)
        if (folder / "run.json").exists():
            raise RunError(f"{folder.name} holds a run already. Continue it, or name a new one.")
        photos = []
        for index, photo in enumerate(concept.photos):
            file = f"photos/{index:03d}.png"
            write_atomically(folder / file, _png(photo.image))
            entry = {"file": file, "name": photo.name, "caption": photo.caption}
            if photo.mask is not None:
                mask = f"photos/{index:03d}-mask.png"
                write_atomically(folder / mask, _png(photo.mask))
                entry["mask"] = mask
            photos.append(entry)
        data = {
            "format": FORMAT,
            "base": base,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "concept": {
                "kind": concept.kind,
                "placeholder_token": concept.placeholder_token,
                "class_noun": concept.class_noun,
                "photos": photos,
            },
            "recipe": json.loads(recipe.check().to_json()),
        }
        write_atomically(folder / "run.json", json.dumps(data, indent=1))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read the folder. Raises `RunError` where it holds no run."""
        folder = Path(folder)
        try:
            data = json.loads((folder / "run.json").read_text())
            photos = [
                Photo(
                    name=entry["name"],
                    image=_read(folder / entry["file"]),
                    mask=_read(folder / entry["mask"]) if "mask" in entry else None,
                    caption=entry["caption"],
                )
                for entry in data["concept"].pop("photos")
            ]
            told = {_NAMES_BEFORE_2.get(key, key): text for key, text in data["concept"].items()}
            concept = Concept(**told, photos=tuple(photos))
            return cls(folder, concept, Recipe.from_json(json.dumps(data["recipe"])), data["base"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder.name} holds no run that can be read ({error}).") from error

    @property
    def state(self) -> State:
        path = self.folder / "state.json"
        return State(**json.loads(path.read_text())) if path.exists() else State()

    def set_state(self, state: State) -> None:
        write_atomically(self.folder / "state.json", json.dumps(asdict(state)))

    @property
    def adapter_path(self) -> Path:
        return self.folder / "adapter.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def save_checkpoint(
        self, tensors: Mapping[str, Tensor], step: int, seconds: float, memory: int | None = None
    ) -> None:
        """One file, so that tensors, optimizer and step are always of the same moment."""
        metadata = {"step": str(step), "seconds": repr(seconds)}
        content = save_tensors(dict(tensors), metadata=metadata)
        write_atomically(self.checkpoint_path, content)
        self.set_state(State("running", step, seconds, memory=memory))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], int, float] | None:
        """Tensors, step and seconds of the last checkpoint, or None before the first."""
        if not self.checkpoint_path.exists():
            return None
        with safe_open(str(self.checkpoint_path), framework="pt") as file:
            metadata = file.metadata()
        tensors = load_tensors(self.checkpoint_path.read_bytes())
        return tensors, int(metadata["step"]), float(metadata["seconds"])

    def losses(self) -> list[LossRow]:
        """The log. A last line cut short by a kill is left out."""
        path = self.folder / "log.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                told = json.loads(line)
                rows.append(LossRow(**{_NAMES_BEFORE_2.get(k, k): v for k, v in told.items()}))
            except (ValueError, TypeError):
                break
        return rows

    def log(self, rows: Iterable[LossRow]) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)

    def truncate_log(self, step: int) -> None:
        """Forget what came after the checkpoint: those steps will be done again."""
        rows = [json.dumps(asdict(row)) + "\n" for row in self.losses() if row.step <= step]
        write_atomically(self.folder / "log.jsonl", "".join(rows))

    def preview_path(self, step: int, index: int) -> Path:
        return self.folder / "previews" / f"step-{step:06d}-{index}.png"

    def previews(self) -> list[tuple[int, list[Path]]]:
        """(step, pictures) in the order of steps."""
        by_step: dict[int, list[Path]] = {}
        for path in sorted((self.folder / "previews").glob("step-*.png")):
            by_step.setdefault(int(path.stem.split("-")[1]), []).append(path)
        return sorted(by_step.items())

    def stop(self) -> None:
        """Ask whoever trains to end the slice after the step at hand."""
        write_atomically(self.folder / "stop", "")

    @property
    def stop_requested(self) -> bool:
        return (self.folder / "stop").exists()

    def clear_stop(self) -> None:
        (self.folder / "stop").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One worker at a time; the lock goes with the process, however it ends.

        What a killed one left half written goes as well.
        """
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    "Somebody works on this run already, perhaps you in another tab. Wait for it, "
                    "or cancel it there."
                ) from error
            for part in self.folder.rglob(f"*{PART}"):
                if not part.name.startswith("stop"):  # which needs no lock
                    part.unlink(missing_ok=True)
            yield


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image
