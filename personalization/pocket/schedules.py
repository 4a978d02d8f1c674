"""How far a training is, and learning rates as factors of the peak."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Protocol


class Course(Protocol):
    """From where to where a training goes."""

    @property
    def first(self) -> int:
        """The step that it begins with."""

    def progress(self, step: int) -> float:
        """0 before the first step, 1 and more once it is over."""


@dataclass(frozen=True)
class Steps:
    """From the first step to the last: where a training was broken off does not matter."""

    first: int
    last: int

    def progress(self, step: int) -> float:
        """The share of the steps."""
        return (step - self.first) / max(1, self.last - self.first)


@dataclass(frozen=True)
class Seconds:
    """From now on by the clock: a sitting on a machine that is lent for so long."""

    first: int
    seconds: float
    began: float = field(default_factory=time.monotonic)

    def progress(self, step: int) -> float:  # noqa: ARG002 - the clock alone counts here
        """The share of the time."""
        return (time.monotonic() - self.began) / self.seconds


def course(first: int, steps: int, seconds: float | None) -> Course:
    """So many steps in all, of which `first` are done, or so many seconds from now."""
    return Steps(0, steps) if seconds is None else Seconds(first, seconds)


def warmup_then_cosine(step: int, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Linear up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return cosine((step - warmup) / max(1, steps - warmup), floor)


def cosine(progress: float, floor: float = 0.01) -> float:
    """Half a cosine from 1 down to `floor`."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def hold_then_fall(progress: float, fall: float) -> float:
    """Constant, and over the last share `fall` in a line down to nothing."""
    return max(0.0, min(1.0, (1 - progress) / fall))


def averaging(done: int, progress: float, share: float) -> float:
    """What an exponential average keeps of itself, for a horizon of that share of all steps.

    done: the steps since the course's first; how many there will be follows from the progress.
    """
    expected = done / progress if progress > 0 else 0.0
    return 1 - 1 / max(20.0, share * expected)
