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
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from personalization.events import Stage
from personalization.files import write_atomically
from personalization.sampling import generate

Drawing = Callable[[float, Sequence[str], Sequence[int]], list[Image.Image]]
"""draw(strength, prompts, seeds): a picture for each prompt; strength 0 is the untouched base."""


class ImageCache:
    """Pictures that were drawn already, by a key that says all that they depend on.

    With a `folder` they outlast the process, as PNGs; without, they are remembered. `plan` says how
    many are wanted: pictures without a plan are of a report that had hardly begun, and go.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.plan: dict[str, Any] | None = None
        self._pictures: dict[str, Image.Image] = {}
        if folder is not None:
            try:
                self.plan = json.loads((folder / "plan.json").read_text())
            except (OSError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)

    def agree(self, plan: dict[str, Any]) -> None:
        """Hold on to a plan: whoever goes on follows it."""
        self.plan = plan
        if self.folder is not None:
            write_atomically(self.folder / "plan.json", json.dumps(plan))

    def get(self, key: str) -> Image.Image | None:
        """The picture under this key, or None."""
        if key not in self._pictures and self.folder is not None:
            path = self._path(key)
            if path.exists():
                with Image.open(path) as file:
                    self._pictures[key] = file.convert("RGB")
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

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.png"


class Paused(Exception):
    """The time of this part is over; what was drawn is in the album."""


class Renderer:
    """Draws each picture once and says how far it is.

    `base` and `trained` name what draws at strength 0 and above; with `over(seconds)`, which says
    whether so many seconds are too many, it raises `Paused` between two batches.
    """

    def __init__(
        self,
        draw: Drawing,
        image_cache: ImageCache | None = None,
        *,
        base: str = "",
        trained: str = "",
        out_of_time: Callable[[float], bool] = lambda seconds: False,
    ):
        self._draw = draw
        self.image_cache = ImageCache() if image_cache is None else image_cache
        self.base, self.trained = base, trained
        self.out_of_time = out_of_time
        self.total = 0
        self._asked: set[str] = set()
        self._slowest = 0.0

    @property
    def done(self) -> int:
        """Pictures of this report that are there."""
        return len(self._asked)

    def draw(
        self, name: str, strength: float, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Generator[Stage, None, list[Image.Image]]:
        """Yields progress, returns the pictures: ``pictures = yield from studio.draw(...)``."""
        keys = [self._key(strength, *asked) for asked in zip(prompts, seeds, strict=True)]
        wanted = dict(zip(keys, zip(prompts, seeds, strict=True), strict=True))
        pictures = {key: self.image_cache.get(key) for key in wanted}
        missing = [key for key, picture in pictures.items() if picture is None]
        self._asked |= pictures.keys() - set(missing)
        for start in range(0, len(missing), generate.PER_BATCH):
            # The first batch, and those that decide the plan, are drawn whatever they take:
            # else a slow machine would never get on.
            patient = not self._slowest or self.image_cache.plan is None
            if self.out_of_time(-math.inf if patient else self._slowest):
                raise Paused
            part = missing[start : start + generate.PER_BATCH]
            started = time.monotonic()
            drawn = self._draw(
                strength, [wanted[key][0] for key in part], [wanted[key][1] for key in part]
            )
            for key, new in zip(part, drawn, strict=True):
                self.image_cache.put(key, new)
                pictures[key] = new
            self._slowest = max(self._slowest, time.monotonic() - started)
            self._asked |= set(part)
            yield Stage(name, self.done, max(self.done, self.total))
        return [picture for key in keys if (picture := pictures[key]) is not None]

    def _key(self, strength: float, prompt: str, seed: int) -> str:
        who = f"{self.trained}@{strength:g}" if strength else self.base
        return json.dumps([who, prompt, seed])
