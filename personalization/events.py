"""What a run tells while it goes: small, picklable, in the order in which it happens.

    Stage*  ->  Looked?  ->  (StepDone | Preview | Checkpointed)*  ->  SliceEnded | Finished

The package yields these; whoever shows them translates. They cross the process boundary of a
ZeroGPU worker, so they hold numbers and paths, never tensors or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """Work before the first step, such as drawing class images: `done` of `total` parts."""

    name: str
    done: int
    total: int
    seconds_left: float | None = None  # of the whole run, where that can be told


@dataclass(frozen=True)
class Looked:
    """What the base sees in the photos: pictures in which what counts little is dimmed."""

    paths: tuple[Path, ...]


@dataclass(frozen=True)
class StepDone:
    """Step `step` of `steps` is done (counted from 1)."""

    step: int
    steps: int
    loss: float
    prior_loss: float | None
    seconds: float  # of this step alone
    seconds_left: float  # steps, previews and the export that are still to come


@dataclass(frozen=True)
class Preview:
    """Pictures of the recipe's preview prompts after `step` steps, each at its fixed seed."""

    step: int
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Checkpointed:
    """From here on, a kill loses nothing before `step`."""

    step: int


@dataclass(frozen=True)
class SliceEnded:
    """The slice's time is up, or it was asked to stop; the run continues from `step`."""

    step: int
    steps: int


@dataclass(frozen=True)
class Finished:
    """The adapter is written."""

    step: int
    adapter: Path
    seconds: float  # of all slices together
    stopped_early: bool


Event = Stage | Looked | StepDone | Preview | Checkpointed | SliceEnded | Finished
