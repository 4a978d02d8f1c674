"""How much of a slice is left, and how long a run has still to go."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from personalization.recipe import FIXED_BATCH_EVERY, Recipe

Part = Literal["class images", "step", "look", "preview", "checkpoint"]

WINDOW = 40  # times of a part that count: half of them follow a change in a slower machine
COLD = 2  # first steps of a process, in which caches fill and kernels are chosen
SPIKE = 1.5  # medians: a longer time counts as that (a winsorized mean)


@dataclass
class Clock:
    """How much of the slice is left."""

    seconds: float | None

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    def out_of_time(self, needed: float) -> bool:
        """Whether `needed` more seconds would not fit."""
        if self.seconds is None:
            return False
        return time.monotonic() - self.started + needed > self.seconds


class TimeLeft:
    """Seconds that a run still takes, from those that its parts have taken.

    A part takes the mean of its last times, of which none counts for more than `SPIKE` medians: a
    hiccup hardly moves it, and a machine that is slower for a while does. A part that has
    not come yet is guessed from the others by its forward passes. `previews` is how many passes a
    preview costs, `class_images` those of a batch of class images.
    """

    def __init__(self, recipe: Recipe, *, previews: int, class_images: int):
        self.recipe = recipe
        samples = recipe.batch_size * (2 if recipe.prior else 1)
        self.passes: dict[Part, float] = {
            "class images": class_images,
            "step": 3 * samples,  # backward costs about two
            "look": samples,
            "preview": previews,
            "checkpoint": 0,
        }
        self.times: dict[Part, deque[float]] = {part: deque(maxlen=WINDOW) for part in self.passes}
        self.cold: list[float] = []

    def remember(self, steps: Iterable[float]) -> None:
        """Steps of earlier slices."""
        self.times["step"].extend(steps)

    def record(self, part: Part, seconds: float) -> None:
        """This part has come, and took so long."""
        if part == "step" and len(self.cold) < COLD:
            self.cold.append(seconds)
        else:
            self.times[part].append(seconds)

    def usual(self, part: Part) -> float:
        """What the part takes, or 0 while nothing tells."""
        if times := self.seen(part):
            limit = SPIKE * statistics.median(times)
            return statistics.fmean(min(each, limit) for each in times)
        known: tuple[Part, ...] = ("step", "class images")
        for other in known:
            if other != part and self.seen(other):
                return self.usual(other) * self.passes[part] / self.passes[other]
        return 0.0

    def slowest(self, part: Part, least: float) -> float:
        """The longest of the last times, at least `least`."""
        cold = self.cold if part == "step" else []
        return max([least, *self.times[part], *cold])

    def seen(self, part: Part) -> list[float]:
        """The last times of the part; of steps the cold ones while there are no others."""
        cold = self.cold if part == "step" else []
        return list(self.times[part]) or cold

    def left(self, step: int, class_batches: int = 0) -> float:
        """From `step` steps done to the last checkpoint, with batches of class images before.

        What is due after that very step is still to come, but for its look at the fixed batch.
        """
        recipe = self.recipe

        def coming(every: int) -> int:
            return recipe.steps // every - max(0, step - 1) // every if every else 0

        count: dict[Part, int] = {
            "class images": class_batches,
            "step": recipe.steps - step,
            "look": (recipe.steps - step) // FIXED_BATCH_EVERY if recipe.stop_early else 0,
            "preview": coming(recipe.preview_every),
            "checkpoint": coming(recipe.checkpoint_every) + 1,  # and the adapter at the end
        }
        return sum(number * self.usual(part) for part, number in count.items() if number)
