"""The runs that the app works on, one after the other: a page looks at one, and ends none by going.

(On ZeroGPU a call computes for the visitor who made it, and there the page asks slice by slice.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from personalization.errors import RunError
from personalization.events import Stage
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from .html import duration
from .messages import user_message
from .progress import Pace, RunView
from .spectrum_work import SpectrumView

MOST = 32  # jobs in all
EACH = 4  # of one visitor
What = Literal["learn", "finish", "show", "measure", "spectrum"]
LEARNING: tuple[What, ...] = ("learn", "finish", "show")  # what a run's panel follows


@dataclass(eq=False)
class Job:
    """A run's learning or its report, until it is over. The worker writes, pages read."""

    workspace: Workspace
    run: Run
    what: What
    view: RunView
    seconds: float | None = None  # what it takes, as far as that can be told before
    at_work: bool = False
    stage: Stage | None = None  # of a report
    spectrum: SpectrumView | None = None  # how far the whole spectrum is
    without: tuple[str, ...] = ()  # of the spectrum's ways, which are left out
    pace: Pace = field(default_factory=Pace)
    stopped: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    then_measure: bool = True  # what was learned, unasked

    @classmethod
    def of(cls, workspace: Workspace, run: Run, what: What, seconds: float | None = None) -> Job:
        """One that has not begun."""
        view = RunView.of(run)
        view.phase = "drawing" if what == "show" else "waiting"
        return cls(workspace, run, what, view, seconds)

    @property
    def seconds_left(self) -> float | None:
        """What it still takes; None where that cannot be told."""
        return self.view.seconds_left if self.at_work else self.seconds

    def stop(self) -> None:
        """End it after the step, or the pictures, at hand; the run's folder keeps that it was."""
        self.stopped.set()
        self.run.stop()


class RunQueue:
    """Jobs in the order in which they came. `work` does one; it runs on a thread of its own."""

    def __init__(self, work: Callable[[Job], None], most: int = MOST, each: int = EACH) -> None:
        self._work, self._most, self._each = work, most, each
        self._jobs: list[Job] = []
        self._errors: dict[Path, str] = {}  # why a run's last job ended, where it was not meant to
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def check(self, workspace: Workspace) -> None:
        """Raise `RunError` where there is no place for another of this visitor's."""
        with self._changed:
            own = sum(job.workspace.id == workspace.id for job in self._jobs)
            if own >= self._each:
                raise RunError(
                    f"{own} of your runs wait already, which is the most. Cancel one, or wait."
                )
            if len(self._jobs) >= self._most:
                raise RunError(
                    f"{len(self._jobs)} runs wait already, which is the most: yours would be "
                    f"number {len(self._jobs) + 1}{_time(self._jobs)}. Try again once some are "
                    "done; nothing that you entered is lost."
                )

    def add(self, job: Job) -> Job:
        """Put it at the end; returns the one that is there where the run has one of its kind.

        Raises `RunError` where the queue is full. A report comes after what was asked for.
        """
        with self._changed:
            if found := self.find(job.workspace.id, job.run.folder.name, job.what):
                return found
            if job.what != "measure":  # which follows on a job that had a place
                self.check(job.workspace)
            self._errors.pop(job.run.folder, None)
            self._jobs.append(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._go_on, name="runs", daemon=True)
                self._worker.start()
            self._changed.notify_all()
            return job

    def find(self, workspace: str, run: str, *kinds: What) -> Job | None:
        """The job of that run, of one of these kinds; None where it is over."""
        with self._changed:
            for job in self._jobs:
                here = (job.workspace.id, job.run.folder.name) == (workspace, run)
                if here and job.what in kinds:
                    return job
        return None

    def error(self, run: Run) -> str:
        """Why the run's last job ended, as a sentence; "" where it did what it was to do."""
        return self._errors.get(run.folder, "")

    def place(self, job: Job) -> tuple[int, str]:
        """How many are before it, and a line that says so with the time until its turn."""
        with self._changed:
            if job not in self._jobs or job.at_work:
                return 0, ""
            before = self._jobs[: self._jobs.index(job)]
        if not before:
            return 0, "Waiting for the machine…"
        own = sum(other.workspace.id == job.workspace.id for other in before)
        if len(before) == 1:
            said = "a run of yours is before it" if own else "one run is before it"
        else:
            yours = f", {own} of them yours" if own else ""
            said = f"{len(before)} runs are before it{yours}"
        return len(before), (
            f"Number {len(before) + 1} in the queue: {said}{_time(before)}. "
            "It has its turn even if you close the page."
        )

    def movable(self, job: Job) -> bool:
        """Whether another of the same visitor's waits before it."""
        with self._changed:
            return not job.at_work and self._own_before(job) is not None

    def move_up(self, job: Job) -> None:
        """Change places with the visitor's own job before it: others lose nothing by that."""
        with self._changed:
            there = self._own_before(job)
            if there is not None and not job.at_work:
                here = self._jobs.index(job)
                self._jobs[there], self._jobs[here] = job, self._jobs[there]

    def cancel(self, job: Job) -> None:
        """Stop it; one that has not begun leaves the queue at once."""
        job.stop()
        with self._changed:
            if not job.at_work and job in self._jobs:
                self._jobs.remove(job)
                job.over.set()

    def forget(self, workspace: str) -> None:
        """Cancel all of a visitor's."""
        with self._changed:
            own = [job for job in self._jobs if job.workspace.id == workspace]
        for job in own:
            self.cancel(job)

    def _own_before(self, job: Job) -> int | None:
        if job not in self._jobs:
            return None
        for index in reversed(range(self._jobs.index(job))):
            other = self._jobs[index]
            if other.workspace.id == job.workspace.id and not other.at_work:
                return index
        return None

    def _go_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs))
                job = self._jobs[0]
                job.at_work = True
            error = ""
            try:
                self._work(job)
            except Exception as caught:
                error = user_message(caught)
            with self._changed:
                self._jobs.remove(job)
                if error:
                    self._errors[job.run.folder] = error
                    while len(self._errors) > 8 * self._most:
                        self._errors.pop(next(iter(self._errors)))
                job.over.set()
                self._changed.notify_all()


def _time(jobs: list[Job]) -> str:
    """What these take together, where that can be told."""
    left = [job.seconds_left for job in jobs]
    known = [seconds for seconds in left if seconds is not None]
    return f", {duration(sum(known))}" if known and len(known) == len(left) else ""
