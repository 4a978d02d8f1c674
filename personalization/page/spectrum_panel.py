"""Under a finished run: the same photos taught in every way, and one sheet of them."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.evaluation.spectrum_files import TITLES, part_in
from personalization.training.run import Run

from . import html
from .event_options import UNQUEUED
from .loaded import ON_ZERO
from .loaded import base as loaded
from .messages import user_message
from .run_queue import Job
from .runs import run_queue, spectrum_job
from .session import page_workspace

REFRESH = 1.0  # seconds between two looks
HINT = (
    "Your photos once more as a word, a LoRA, a LoKr, a full fine-tune and a LoRA without prior "
    "preservation, each in turn; then one sheet of the same prompts and seeds, and what each "
    "weighs, costs, learns and forgets. What exists is taken."
)


class SpectrumPanel:
    """Which ways, how long they take, and what came of them."""

    def __init__(self, prefix: str, visitor: gr.BrowserState, current: gr.State) -> None:
        self.visitor, self.current = visitor, current
        with gr.Accordion(
            "See the whole spectrum", open=False, visible=False, elem_id=f"{prefix}-spectrum"
        ) as self.fold:
            gr.HTML(html.hint(HINT))
            self.ways = gr.CheckboxGroup(
                [(title, way) for way, title in TITLES.items()],
                value=list(TITLES),
                show_label=False,
                elem_id=f"{prefix}-spectrum-ways",
            )
            self.status = gr.HTML(elem_id=f"{prefix}-spectrum-status")
            with gr.Row(elem_classes="actions"):
                self.go = gr.Button(
                    "Teach them in turn", size="md", elem_id=f"{prefix}-spectrum-go"
                )
                self.stop = gr.Button("Stop", visible=False, size="md")
            self.card = gr.HTML(elem_classes="report-card", elem_id=f"{prefix}-spectrum-card")
        self.tick = gr.Timer(REFRESH, active=False)
        self.parts = [self.fold, self.ways, self.status, self.go, self.stop, self.card, self.tick]
        run: list[Any] = [visitor, current]
        looked = [self.status, self.go, self.stop, self.card, self.tick]
        self.fold.expand(self.estimate, [*run, self.ways], self.status, **UNQUEUED)
        self.ways.input(self.estimate, [*run, self.ways], self.status, **UNQUEUED)
        self.go.click(self.begin, [*run, self.ways], looked, **UNQUEUED)
        self.stop.click(self.leave, run, looked, **UNQUEUED)
        self.tick.tick(self.look, run, looked, **UNQUEUED)

    def show(self, run: Run, workspace: str) -> dict:
        """What there is of it under that run; not on ZeroGPU, where it is many allocations."""
        job = run_queue().find(workspace, run.folder.name, "spectrum")
        return {
            self.fold: gr.update(visible=not ON_ZERO and run.state.status == "finished"),
            self.status: "",
            **self._state(run, job),
        }

    def hide(self) -> dict:
        """For a run that was made elsewhere, or has not finished."""
        return {self.fold: gr.update(visible=False), self.tick: gr.Timer(active=False)}

    def estimate(self, visitor: str, current: str, chosen: list[str]) -> str:
        """What is left of the chosen ways takes about that long."""
        from personalization.evaluation import ways

        try:
            run = page_workspace(visitor).run(current)
            seconds = ways.estimated(loaded(run.base), run, without(chosen))
        except PersonalizationError as error:
            return html.problems([str(error)])
        return html.hint(
            f"It takes {html.duration(seconds)}." if seconds else "All of it is there."
        )

    def begin(self, visitor: str, current: str, chosen: list[str]) -> dict:
        """Put it into the queue."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            job = spectrum_job(workspace, run, without(chosen))
        except PersonalizationError as error:
            return {self.status: html.problems([user_message(error)])}
        return {self.status: told(job, run_queue().place(job)[1]), **self._state(run, job)}

    def leave(self, visitor: str, current: str) -> dict:
        """End it after the step at hand; the same button goes on from there."""
        workspace = page_workspace(visitor)
        if job := run_queue().find(workspace.id, current, "spectrum"):
            run_queue().cancel(job)
        return {self.status: html.hint("Stopped. The same button goes on from there.")} | (
            self._state(workspace.run(current), None)
        )

    def look(self, visitor: str, current: str) -> dict:
        """How far the app is."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
        except PersonalizationError:  # it was deleted meanwhile
            return {self.tick: gr.Timer(active=False)}
        if job := run_queue().find(workspace.id, current, "spectrum"):
            return {self.status: told(job, run_queue().place(job)[1])}
        why = run_queue().error(run)
        return {self.status: html.problems([why] if why else []), **self._state(run, None)}

    def _state(self, run: Run, job: Job | None) -> dict:
        return {
            self.go: gr.update(visible=job is None),
            self.stop: gr.update(visible=job is not None),
            self.card: part_in(run.folder),
            self.tick: gr.Timer(active=job is not None),
        }


def without(chosen: list[str]) -> tuple[str, ...]:
    """The ways that are not among the chosen."""
    return tuple(way for way in TITLES if way not in chosen)


def told(job: Job, waiting: str = "") -> str:
    """How far the whole spectrum is: which way, and how much of its learning or report."""
    stage = job.stage
    share = 100 * stage.done / stage.total if stage and stage.total else 0
    doing = f"{job.way}: {stage.name}, {stage.done} of {stage.total}" if stage else waiting
    return (
        '<div class="run"><div class="run-line"><span>The whole spectrum</span></div>'
        f'<div class="bar{"" if share else " busy"}" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}" aria-label="Of this way">'
        f'<i style="width:{share or 100:.1f}%"></i></div>'
        f'<div class="run-detail">{escape(doing or "Waiting for the machine…")}</div></div>'
    )
