"""Draws what a report asks for: in batches, each picture once, in parts where time is short.

A picture is a function of who draws it, its prompt and its seed. So a report is a folder as a run
is: what an allocation, a cancel or a closed tab cuts off goes on with the pictures that are there.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter

from personalization.evaluation.plan import Plan
from personalization.events import Stage
from personalization.files import write_atomically
from personalization.sampling import generate

Drawing = Callable[[float | None, Sequence[str], Sequence[int]], list[Image.Image]]
"""draw(strength, prompts, seeds): a picture for each prompt; strength 0 is the untouched base, and
None that base with a photo as its reference, without any training."""


class ImageCache:
    """Pictures that were drawn already, by a key that says all that they depend on.

    With a `folder` they outlast the process, as PNGs; without, they are remembered. `plan` says how
    many are wanted: pictures without a plan are of a report that had hardly begun, and go. Of what
    cannot be read only the damaged file goes.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.plan: Plan | None = None
        self._pictures: dict[str, Image.Image] = {}
        if folder is not None:
            self.plan = self._read_plan(folder)

    def agree(self, plan: Plan) -> None:
        """Hold on to a plan: whoever goes on follows it."""
        self.plan = plan
        if self.folder is not None:
            write_atomically(self.folder / "plan.json", json.dumps(asdict(plan)))

    def get(self, key: str) -> Image.Image | None:
        """The picture under this key, or None."""
        if key not in self._pictures and self.folder is not None:
            path = self._path(key)
            try:
                with Image.open(path) as file:
                    self._pictures[key] = file.convert("RGB")
            except FileNotFoundError:
                return None
            except (OSError, SyntaxError, ValueError):  # what Pillow raises of a damaged PNG
                path.unlink()
                return None
        return self._pictures.get(key)

    def put(self, key: str, picture: Image.Image) -> None:
        """Keep a picture."""
        self._pictures[key] = picture
        if self.folder is not None:
            buffer = io.BytesIO()
            picture.save(buffer, "PNG", compress_level=1)
            write_atomically(self._path(key), buffer.getvalue())

    def delete(self) -> None:
        """Forget everything."""
        self.plan = None
        self._pictures.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _read_plan(folder: Path) -> Plan | None:
        path = folder / "plan.json"
        try:
            return TypeAdapter(Plan).validate_json(path.read_bytes())
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)
        except ValueError:
            path.unlink()
        return None

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.png"


class OutOfTimeError(Exception):
    """The time of this part is over; what was drawn is in the image cache."""


def never(_seconds: float) -> bool:
    """There is always time."""
    return False


class Renderer:
    """Draws each picture once and says how far it is.

    `base` and `trained` name what draws at strength 0 and above; with `out_of_time(seconds)`, which
    says whether so many seconds are too many, it raises `OutOfTimeError` between two batches.
    """

    def __init__(
        self,
        draw: Drawing,
        image_cache: ImageCache | None = None,
        *,
        base: str = "",
        trained: str = "",
        out_of_time: Callable[[float], bool] = never,
        per_batch: int = generate.PER_BATCH,
    ):
        self._draw, self._per_batch = draw, per_batch
        self.image_cache = ImageCache() if image_cache is None else image_cache
        self.base, self.trained = base, trained
        self.out_of_time = out_of_time
        self.total = 0
        self.drawn = 0  # now, by this renderer
        self._there: set[str] = set()
        self._slowest = 0.0  # seconds of a batch

    @property
    def done(self) -> int:
        """Pictures of this report that are there."""
        return len(self._there)

    def draw(
        self, name: str, strength: float | None, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Generator[Stage, None, list[Image.Image]]:
        """Yields progress, returns the pictures: ``pictures = yield from renderer.draw(...)``."""
        wanted = {
            self._key(strength, prompt, seed): (prompt, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        }
        pictures = {key: self.image_cache.get(key) for key in wanted}
        missing = [key for key, picture in pictures.items() if picture is None]
        self._there |= pictures.keys() - set(missing)
        for start in range(0, len(missing), self._per_batch):
            batch = {key: wanted[key] for key in missing[start : start + self._per_batch]}
            pictures |= self._draw_batch(strength, batch)
            yield Stage(name, self.done, max(self.done, self.total))
        keys = (self._key(strength, *each) for each in zip(prompts, seeds, strict=True))
        return [picture for key in keys if (picture := pictures[key]) is not None]

    def _draw_batch(
        self, strength: float | None, batch: Mapping[str, tuple[str, int]]
    ) -> dict[str, Image.Image]:
        # The first batch, and those that decide the plan, are drawn whatever they take:
        # else a slow machine would never get on.
        patient = not self._slowest or self.image_cache.plan is None
        if self.out_of_time(-math.inf if patient else self._slowest):
            raise OutOfTimeError
        started = time.monotonic()
        prompts, seeds = zip(*batch.values(), strict=True)
        pictures = dict(zip(batch, self._draw(strength, prompts, seeds), strict=True))
        for key, picture in pictures.items():
            self.image_cache.put(key, picture)
        self._slowest = max(self._slowest, time.monotonic() - started)
        self._there |= pictures.keys()
        self.drawn += len(pictures)
        return pictures

    def _key(self, strength: float | None, prompt: str, seed: int) -> str:
        model = f"{self.trained}@{strength:g}" if strength else self.base
        model = f"{self.trained}/untrained" if strength is None else model
        return json.dumps([model, prompt, seed])
