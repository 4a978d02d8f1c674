"""What the panel says while it works: a run and a report, as HTML, by their events.

`RunView` is the translator: it takes a run's events one by one and says which parts of the panel
they changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from personalization.evaluation.charts import loss_curve
from personalization.events import (
    Checkpointed,
    Event,
    Finished,
    Looked,
    Preview,
    SliceEnded,
    Stage,
    StepDone,
)
from personalization.training.run import LossRow, Run

from .html import data_uri, duration, trigger

Phase = Literal[
    "waiting", "preparing", "learning", "drawing", "away", "held", "stopped", "failed", "finished"
]
Part = Literal["status", "curve", "strip"]

# What a report draws, by the names of its stages.
_MEASURED = {
    "the base": "What the base draws by itself",
    "first try": "With the word",
    "more seeds": "More seeds at the best strength",
    "without the word": "What becomes of everything else",
    "pictures": "With the word",
}


@dataclass
class RunView:
    """What the panel shows of a run, kept up to date by its events."""

    name: str  # the words that call what is taught
    steps: int
    phase: Phase = "waiting"
    step: int = 0
    doing: str = ""  # what is done before the first step
    seconds_left: float | None = None
    error: str = ""
    rows: list[LossRow] = field(default_factory=list)
    previews: list[tuple[int, tuple[Path, ...]]] = field(default_factory=list)
    seen: tuple[Path, ...] = ()  # the photos as the base sees them
    contents: dict[int, str] = field(default_factory=dict)  # and what it says that they show

    @classmethod
    def of(cls, run: Run) -> RunView:
        """A run as its folder tells it."""
        state = run.state
        ended: dict[str, Phase] = {"finished": "finished", "failed": "failed"}
        return cls(
            name=trigger(run),
            steps=run.recipe.steps,
            phase=ended.get(state.status, "stopped"),
            step=state.step,
            error=state.error,
            rows=run.losses(),
            previews=[(step, tuple(paths)) for step, paths in run.previews()],
            seen=tuple(run.seen),
            contents=run.contents,
        )

    @property
    def has_pictures(self) -> bool:
        """Whether there is anything in the strip."""
        return bool(self.previews or self.seen)

    def take(self, event: Event) -> frozenset[Part]:
        """Take one event in; returns the parts of the panel that it changed."""
        match event:
            case Stage(name, done, total):
                self.phase = "preparing"
                self.seconds_left = event.seconds_left
                self.doing = _doing(name, done, total)
                return frozenset({"status"})
            case Looked(paths):
                self.seen = paths
                return frozenset({"strip"})
            case StepDone():
                self.phase = "learning"
                self.step = event.step
                self.seconds_left = event.seconds_left
                # A slice begins at the checkpoint: what came after it is done again.
                self.rows = [row for row in self.rows if row.step < event.step]
                self.rows.append(LossRow(event.step, event.loss, event.prior_loss, event.seconds))
                return frozenset({"status", "curve"})
            case Preview(step, paths):
                self.previews = [p for p in self.previews if p[0] < step] + [(step, paths)]
                return frozenset({"strip", "curve"})
            case Checkpointed():
                return frozenset()
            case SliceEnded(step):
                self.phase, self.step = "stopped", step
                return frozenset({"status"})
            case Finished(step):
                self.phase, self.step = "drawing", step
                return frozenset({"status", "curve"})


@dataclass
class Pace:
    """How fast pictures come, seen from the outside."""

    each: float | None = None  # seconds of one
    done: int | None = None
    since: float = 0.0

    def take(self, event: Stage, now: float | None = None) -> float | None:
        """Take a batch in; returns the seconds that are left, where that can be said."""
        now = time.monotonic() if now is None else now
        if self.done is None:  # what was kept from before counts for nothing
            self.done, self.since = event.done, now
        elif event.done > self.done:
            self.each = (now - self.since) / (event.done - self.done)
        return self.each and self.each * (event.total - event.done)


def drawn(view: RunView, parts: Iterable[Part]) -> dict[Part, str]:
    """These parts of the panel."""
    draw = {"status": status, "curve": curve, "strip": strip}
    return {part: draw[part](view) for part in parts}


def status(view: RunView) -> str:
    """The head of the panel: what is going on, how far it is, how long it will take."""
    name = f'<b class="token">{escape(view.name)}</b>'
    title, detail = {
        "waiting": (f"Teaching {name}", view.doing or "Waiting for the machine…"),
        "preparing": (f"Teaching {name}", view.doing),
        "learning": (f"Teaching {name}", f"Step {view.step} of {view.steps}"),
        "drawing": (f"{name} is trained", "Drawing the first pictures with it…"),
        "stopped": (
            f"{name} is not finished",
            f"Kept up to step {view.step} of {view.steps}. "
            + ("Continue, or take it as it is." if view.step else "Continue when you like."),
        ),
        "away": (
            f"{name} is taught on Hugging Face Jobs",
            "How far it is stands beside its price. You may close the page.",
        ),
        "held": (
            f"{name} waits",
            f"{escape(view.error)} Kept up to step {view.step} of {view.steps}: it goes on from "
            "there, with “Continue” or when the page is loaded again.",
        ),
        "failed": (f"{name} did not work out", escape(view.error)),
        "finished": (f"{name} is trained", f"{view.step} steps"),
    }[view.phase]
    left = ""
    if view.phase in ("preparing", "learning") and view.seconds_left is not None:
        left = f'<span class="left">{duration(view.seconds_left)} left</span>'
    busy = view.phase in ("waiting", "preparing", "drawing", "away")
    share = 100 * view.step / max(1, view.steps)
    bar = (
        f'<div class="bar{" busy" if busy else ""}" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="{view.steps}" aria-valuenow="{view.step}" '
        f'aria-label="Steps"><i style="width:{100 if busy else share:.1f}%"></i></div>'
    )
    return (
        f'<div class="run {view.phase}"><div class="run-line"><span>{title}</span>{left}</div>'
        f'{bar}<div class="run-detail">{detail}</div></div>'
    )


def curve(view: RunView) -> str:
    """The loss so far."""
    return loss_curve(view.rows, view.steps, [step for step, _ in view.previews])


def strip(view: RunView) -> str:
    """The previews: a row for each time they were drawn, the newest first, prompts in columns.

    Below them the photos as the base sees them.
    """
    rows = []
    for step, paths in reversed(view.previews):
        pictures = "".join(
            f'<img src="{data_uri(path)}" alt="Preview {i + 1} after {step} steps">'
            for i, path in enumerate(paths)
        )
        rows.append(
            f'<div class="strip-row"><span class="step-mark">step {step}</span>{pictures}</div>'
        )
    if view.seen:
        rows.append(_seen(view))
    return f'<div class="strip" aria-label="Previews">{"".join(rows)}</div>' if rows else ""


def _seen(view: RunView) -> str:
    """What it takes for the subject, or what it says that a style's pictures show."""
    said = [escape(view.contents.get(i, "")) for i in range(len(view.seen))]
    pictures = "".join(
        f'<figure><img src="{data_uri(path)}" alt="Photo {i + 1} as the base sees it">'
        f"{f'<figcaption>{said[i]}</figcaption>' if said[i] else ''}</figure>"
        for i, path in enumerate(view.seen)
    )
    title = "It reads" if any(said) else "It looks at"
    return f'<div class="strip-row seen"><span class="step-mark">{title}</span>{pictures}</div>'


def measuring(
    event: Stage | None = None, seconds_left: float | None = None, waiting: str = ""
) -> str:
    """How far the report is; `waiting` is said before it begins."""
    left = f'<span class="left">{duration(seconds_left)} left</span>' if seconds_left else ""
    share, doing = 0.0, waiting or "Waiting for the machine…"
    if event and event.done == event.total > 1 and event.name in ("the base", "first try"):
        doing = f"Finding out how fast this machine draws: {event.done} pictures"
    elif event and event.total > 1:
        share = 100 * event.done / event.total
        strength = event.name.removeprefix("strength ")
        doing = _MEASURED.get(event.name, f"At strength {strength}")
        doing = f"{doing}: {event.done} of {event.total} pictures"
    elif event:
        doing = "Calling the judge…"
    busy = "" if share else " busy"
    return (
        '<div class="run"><div class="run-line"><span>Measuring whether it worked</span>'
        f'{left}</div><div class="bar{busy}" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}" aria-label="Pictures">'
        f'<i style="width:{share or 100:.1f}%"></i></div>'
        f'<div class="run-detail">{doing}</div></div>'
    )


def unmeasured(seconds: float) -> str:
    """That there is no report, and what one takes."""
    return (
        '<p class="hint">Whether it worked has not been measured: how like your photos it is '
        "(subject fidelity), how well it follows a prompt (prompt fidelity), and what it changed "
        f"besides. It takes {duration(seconds)}.</p>"
    )


def _doing(name: str, done: int, total: int) -> str:
    if name == "class images":
        return f"Drawing the class as it is now: {done} of {total} pictures"
    if name == "looking":
        return f"Looking at what the photos show: {done} of {total}"
    return "Reading the photos…"
