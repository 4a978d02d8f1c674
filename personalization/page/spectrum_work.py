"""The whole spectrum as the app works on it: a slice after the other, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personalization.errors import HubError
from personalization.evaluation.spectrum_files import SHEET, TITLES
from personalization.events import Stage, StepDone
from personalization.training.run import Run

from .event_options import REFRESH
from .gpu import MARGIN, REPORT, SLICE, gpu_spectrum
from .lending import granted
from .loaded import ON_ZERO, base, spec_of
from .progress import Pace
from .shares import never, shared

if TYPE_CHECKING:
    from personalization.evaluation.report import Report
    from personalization.evaluation.ways import Spectrum
    from personalization.events import Event

SHEET_SECONDS = 15.0  # that the sheet takes, about


@dataclass
class SpectrumView:
    """How far it is, kept up to date by its events."""

    left: dict[str, float | None]  # seconds of each way, by title, as told before it began
    way: str = ""  # at work, by its title; of the sheet its stage's name
    stage: Stage | None = None  # of the way: steps, or pictures of its report
    pace: Pace = field(default_factory=Pace)
    way_left: float | None = None  # seconds
    done: bool = False
    shown: float = 0.0  # when its steps were

    @classmethod
    def of(cls, run: Run, without: Sequence[str]) -> SpectrumView:
        """Before it begins. Raises `RunError` for a way that is none."""
        from personalization.evaluation import ways

        left = ways.outstanding(base(run.base), run, without)
        return cls({TITLES[way]: seconds for way, seconds in left.items()})

    def take(self, event: Event | Report | Spectrum) -> bool:
        """One event more; whether it is worth showing now, which steps are once a second."""
        from personalization.evaluation.ways import Spectrum

        self.done = isinstance(event, Spectrum)
        if isinstance(event, StepDone):
            self.stage = Stage("learning", event.step, event.steps)
            self.way_left = event.seconds_left + REPORT
        elif isinstance(event, Stage) and event.name in (*TITLES.values(), SHEET):
            if event.name != self.way:
                self.way, self.stage, self.pace = event.name, None, Pace()
                if event.name != SHEET:
                    self.left.setdefault(event.name, None)
                self.way_left = self.left.get(event.name, SHEET_SECONDS)
            if event.name == SHEET:
                self.stage = event
        elif isinstance(event, Stage):
            if self.stage and self.stage.name == "learning":  # its report begins
                self.pace = Pace()
            self.stage = event
            self.way_left = self.pace.take(event) or self.way_left
        now = time.monotonic()
        if isinstance(event, StepDone) and now - self.shown < REFRESH:
            return False
        self.shown = now
        return isinstance(event, StepDone | Stage)

    @property
    def ways(self) -> list[str]:
        """All, by title, in turn."""
        return list(self.left)

    @property
    def number(self) -> int:
        """Ways that are done."""
        if not self.way:
            return 0
        return self.ways.index(self.way) if self.way in self.left else len(self.left)

    @property
    def share(self) -> float:
        """Of all, each way counted alike."""
        stage = self.stage
        within = stage.done / stage.total if stage and stage.total else 0.0
        if stage and stage.name != SHEET:  # half for the learning, half for the report
            learning = stage.name in ("learning", "photos", "looking", "class images")
            within = within / 2 + (not learning) / 2
        return min(1.0, (self.number + within) / (len(self.left) + 1))

    @property
    def seconds_left(self) -> float | None:
        """Of the way at work and those after it; None where that cannot be told."""
        after = list(self.left.values())[self.number + bool(self.way) :]
        known = [self.way_left if self.way else 0.0, *after, SHEET_SECONDS * (self.way != SHEET)]
        return None if None in known else sum(each or 0.0 for each in known)


def spectrum_slice(
    run: Run, without: tuple[str, ...], stopped: Callable[[], bool] = never
) -> Iterator[Event | Report | Spectrum]:
    """One slice, as long as its machine allows, and others who wait for it."""
    if ON_ZERO:
        from personalization.bases import encoders
        from personalization.evaluation import ways

        with suppress(HubError):  # fetched here and now, not in the allocation; else it says why
            encoders.encoder_pair(spec_of(run.base))
        left = ways.estimated(base(run.base), run, without)
        most = SLICE - MARGIN
        seconds = most if left is None else min(most, round(1.3 * left + SHEET_SECONDS) + 5)
        yield from granted(lambda lent: gpu_spectrum(run.folder, without, lent), seconds, MARGIN)
        return
    yield from shared(lambda enough: gpu_spectrum(run.folder, without, None, enough), stopped)
