"""A run that was made elsewhere and recorded: shown by what shows any run, and nothing computed.

A run is a folder, so the recording is one (assets/recorded/, written by `python -m tests.record`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import gradio as gr

from personalization.bases.catalog import ASSETS
from personalization.evaluation import report_html
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import part_in
from personalization.events import Preview, StepDone
from personalization.training.run import Run

from . import html, progress
from .event_options import QUEUED, UNQUEUED
from .strengths_html import ON_SLIDE, frames_in, strengths

FOLDER = ASSETS / "recorded"
SHOWING = 8.0  # seconds that watching it learn takes
FRAMES = 32  # updates of the panel meanwhile


class Recorded:
    """What only a recorded run has: where it is from, a slider over its strengths, watching it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.note = gr.HTML(visible=False, elem_id=f"{prefix}-recorded")

    def build_strengths(self) -> None:
        """Where a run's own pictures are."""
        self.strengths = gr.HTML(
            visible=False, elem_id=f"{self.prefix}-strengths", js_on_load=ON_SLIDE
        )
        self.watch = gr.Button(
            "Watch how it learned", size="sm", visible=False, elem_id=f"{self.prefix}-watch"
        )

    def build_end(self) -> None:
        """Beneath everything: in a frame the same photos in every way, and the way to one's own."""
        with gr.Accordion(
            "The same photos in every way",
            open=False,
            visible=False,
            elem_id=f"{self.prefix}-recorded-spectrum",
        ) as self.fold:
            self.spectrum = gr.HTML(elem_classes="report-card")
        self.own = gr.HTML(visible=False, elem_id=f"{self.prefix}-own")

    @property
    def parts(self) -> list[Any]:
        """What `show` and `hide` update."""
        return [self.note, self.strengths, self.watch, self.fold, self.own]

    def wire(self, replay: Callable[[gr.Request], Iterator[dict]], outputs: list[Any]) -> None:
        """`replay` shows the run's events as they came, faster."""
        self.watch.click(replay, None, outputs, **QUEUED)
        # Not before it is asked for: a frame in a post is to weigh little.
        self.fold.expand(partial(part_in, FOLDER), None, self.spectrum, **UNQUEUED)

    def show(self, *, whole: bool) -> dict:
        """Beside what the panel shows of any finished run."""
        note, pictures, _ = told()
        return {
            self.note: gr.update(value=note, visible=True),
            self.strengths: gr.update(value=pictures, visible=True),
            self.watch: gr.update(visible=True),
            self.fold: gr.update(visible=not whole and bool(part_in(FOLDER))),  # else in the report
            self.own: gr.update(value=html.train_your_own(whole=whole), visible=True),
        }

    def hide(self) -> dict:
        """Where the visitor's own run is shown."""
        return dict.fromkeys(self.parts, gr.update(visible=False))


def recorded_run(folder: Path = FOLDER) -> Run:
    """Raises `RunError` where there is none."""
    return Run.open(folder)


@cache
def told(folder: Path = FOLDER) -> tuple[str, str, str]:
    """Of the recorded run: where it is from, its pictures over the strengths, its report."""
    run = recorded_run(folder)
    report = Report.open(folder)
    if report is None:
        return html.recorded(run), "", ""
    # The pictures at every strength are under the slider already.
    card = report_html.render(replace(report, sweep=()), whole=False, spectrum=part_in(folder))
    return html.recorded(run), strengths(frames_in(folder / "strengths"), report), card


def verdict(run: Run) -> str:
    """The first lines under it, as under any run."""
    return html.verdict(run, run.adapter_path.stat().st_size, Report.open(run.folder))


def events_of(run: Run) -> Iterator[StepDone | Preview]:
    """What the run told as it went, by its log and its previews."""
    rows = run.losses()
    previews = {step: tuple(paths) for step, paths in run.previews()}
    whole = sum(row.seconds for row in rows)
    for row, spent in zip(rows, accumulate(row.seconds for row in rows), strict=True):
        yield StepDone(row.step, len(rows), row.loss, row.prior_loss, row.seconds, whole - spent)
        if row.step in previews:
            yield Preview(row.step, previews[row.step])


def replayed(run: Run) -> Iterator[tuple[progress.RunView, set[progress.Part]]]:
    """The run as it went, in `SHOWING` seconds: the view, and the parts that have changed."""
    view = progress.RunView(html.trigger(run), run.recipe.steps, "learning")
    view.seen, view.contents = tuple(run.seen), run.contents
    pending: set[progress.Part] = {"status", "curve", "strip"}
    every = max(1, run.recipe.steps // FRAMES)
    for event in events_of(run):
        pending |= view.take(event)
        if isinstance(event, StepDone) and event.step % every == 0:
            yield view, pending
            pending = set()
            time.sleep(SHOWING / FRAMES)
