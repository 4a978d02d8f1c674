"""Under a finished run: the same photos taught in every way, and one sheet of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.evaluation.spectrum_files import TITLES, page_in, part_in
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import ON_GPU, QUEUED, REFRESH, UNQUEUED
from .loaded import ON_ZERO
from .loaded import base as loaded
from .messages import user_message
from .run_queue import Job
from .runs import check_spectrum, enqueue_spectrum, run_queue
from .session import Visit, page_workspace
from .spectrum_html import so_far
from .spectrum_work import SpectrumView, spectrum_slice
from .uploads import publish_file

HINT = (
    "Your photos once more as a word, a LoRA, a LoKr, a full fine-tune and a LoRA without prior "
    "preservation, each in turn; then one sheet of the same prompts and seeds, and what each "
    "weighs, costs, learns and forgets. What exists is taken."
)
STOPPED = html.hint("Stopped. What was learned is kept: the same button goes on from there.")


class SpectrumPanel:
    """Which ways, how long they take, and what came of them."""

    def __init__(self, prefix: str, visitor: gr.BrowserState, current: gr.State) -> None:
        self.visitor, self.current = visitor, current
        self.turn = gr.State(None)  # on ZeroGPU: which ways are left out in the next request
        self.tick = gr.Timer(REFRESH, active=False)
        with gr.Accordion(
            "See the whole spectrum", open=False, visible=False, elem_id=f"{prefix}-spectrum"
        ) as self.fold:
            gr.HTML(html.hint(HINT))
            self.ways = gr.CheckboxGroup(
                choices_of({}), value=list(TITLES), label="Ways", elem_id=f"{prefix}-spectrum-ways"
            )
            self.status = gr.HTML(elem_id=f"{prefix}-spectrum-status")
            with gr.Row(elem_classes="actions"):
                self.go = gr.Button(
                    "Teach them in turn", size="md", elem_id=f"{prefix}-spectrum-go"
                )
                self.stop = gr.Button(
                    "Stop", visible=False, size="md", elem_id=f"{prefix}-spectrum-stop"
                )
            self.card = gr.HTML(elem_classes="report-card", elem_id=f"{prefix}-spectrum-card")
            self.page = gr.DownloadButton(
                "The whole spectrum (HTML)", size="md", visible=False, elem_classes="alone"
            )
        self.looked = [self.status, self.go, self.stop, self.card, self.page, self.tick, self.turn]
        self.parts = [self.fold, self.ways, *self.looked]
        self.wire()

    def wire(self) -> None:
        """A tick looks at what the app does, and on ZeroGPU is a slice; buttons do the rest."""
        run: list[Any] = [self.visitor, self.current]
        told = [self.ways, self.status]
        self.fold.expand(self.estimate, [*run, self.ways], told, **UNQUEUED)
        self.ways.input(self.estimate, [*run, self.ways], told, **UNQUEUED)
        begin = {**QUEUED} if ON_ZERO else {**UNQUEUED}
        self.go.click(self.begin, [*run, self.ways], self.looked, **begin)
        self.stop.click(self.leave, run, self.looked, **UNQUEUED)
        if ON_ZERO:
            self.tick.tick(self.advance, [*run, self.turn], self.looked, **QUEUED | ON_GPU)
        else:
            self.tick.tick(self.look, run, self.looked, **UNQUEUED)

    def show(self, visit: Visit, run: Run) -> dict:
        """What there is of it under that run."""
        job = run_queue().find(visit.workspace.id, run.folder.name, "spectrum")
        return {
            self.fold: gr.update(visible=run.state.status == "finished"),
            self.ways: gr.update(choices=choices_of({}), value=list(TITLES)),
            self.status: said_of(job) if job else "",
            **self._state(visit.workspace, run, at_work=job is not None),
        }

    def hide(self) -> dict:
        """For a run that was made elsewhere, or has not finished."""
        return {self.fold: gr.update(visible=False), self.tick: gr.Timer(active=False)}

    def estimate(self, visitor: str, current: str, chosen: list[str]) -> dict:
        """What is left of the chosen ways takes about that long, and each of them."""
        from personalization.evaluation import ways

        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            if job := run_queue().find(workspace.id, current, "spectrum"):
                return {self.status: said_of(job)}
            left = ways.outstanding(loaded(run.base), run)
            ways.check(run, without(chosen))
        except PersonalizationError as error:
            return {self.status: html.problems([str(error)])}
        asked = [seconds for way, seconds in left.items() if way in chosen]
        known = [seconds for seconds in asked if seconds is not None]
        total = f"It takes {html.duration(sum(known))}." if sum(known) else "All of it is there."
        if len(known) < len(asked):
            total = "How long it takes shows after a few steps."
        return {
            self.ways: gr.update(choices=choices_of(left), value=chosen),
            self.status: html.hint(total),
        }

    def begin(self, visitor: str, current: str, chosen: list[str]) -> dict:
        """Put it into the queue; on ZeroGPU, ask the browser for a request of its own."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            if ON_ZERO:
                check_spectrum(workspace, run, without(chosen))
                run.clear_stop()
                return self._next(workspace, run, chosen)
            job = enqueue_spectrum(workspace, run, without(chosen))
        except PersonalizationError as error:
            return {self.status: html.problems([user_message(error)])}
        return {self.status: said_of(job), **self._state(workspace, run, at_work=True)}

    def leave(self, visitor: str, current: str) -> dict:
        """End it after the step at hand; the same button goes on from there."""
        workspace = page_workspace(visitor)
        run = workspace.run(current)
        if job := run_queue().find(workspace.id, current, "spectrum"):
            run_queue().cancel(job)
        else:
            run.stop()
        return {
            self.status: STOPPED,
            self.turn: None,
            **self._state(workspace, run, at_work=False),
        }

    def look(self, visitor: str, current: str) -> dict:
        """How far the app is."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
        except PersonalizationError:  # it was deleted meanwhile
            return {self.tick: gr.Timer(active=False)}
        job = run_queue().find(workspace.id, current, "spectrum")
        if job and not job.stopped.is_set():
            return {self.status: said_of(job)}
        why = run_queue().error(run)
        # Also for a tick that was on its way when it was stopped: its answer comes after that one.
        ended = STOPPED if run.stop_requested else ""
        return {
            self.status: html.problems([why]) if why else ended,
            **self._state(workspace, run, at_work=False),
        }

    def advance(self, visitor: str, current: str, turn: dict[str, Any] | None) -> Iterator[dict]:
        """On ZeroGPU: one request's share of it."""
        if not turn or turn["run"] != current:  # the visitor has gone on to another run
            yield {self.tick: gr.Timer(active=False)}
            return
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            if run.stop_requested:
                yield {self.tick: gr.Timer(active=False), self.turn: None}
                return
            view = SpectrumView.of(run, without(turn["ways"]))
            for event in spectrum_slice(run, without(turn["ways"])):
                if view.take(event):
                    yield {self.status: so_far(view)}
            if view.done:
                workspace.library.renew(run.adapter_path)
                yield {
                    self.status: "",
                    self.turn: None,
                    **self._state(workspace, run, at_work=False),
                }
            elif not run.stop_requested:
                yield self._next(workspace, run, turn["ways"], view)
        except Exception as error:
            yield {
                self.status: html.problems([user_message(error)]),
                self.turn: None,
                self.tick: gr.Timer(active=False),
                self.go: gr.update(visible=True),
                self.stop: gr.update(visible=False),
            }

    def _next(
        self,
        workspace: Workspace,
        run: Run,
        chosen: list[str],
        view: SpectrumView | None = None,
    ) -> dict:
        """Ask the browser for a new request, which does one slice; `view`: how far it is."""
        view = view or SpectrumView.of(run, without(chosen))
        return {
            **self._state(workspace, run, at_work=True),
            self.status: so_far(view, "Waiting for the machine…"),
            self.turn: {"run": run.folder.name, "ways": chosen},
        }

    def _state(self, workspace: Workspace, run: Run, *, at_work: bool) -> dict:
        page = page_in(run.folder)
        name = f"{run.folder.name.split('-', 3)[-1]}-spectrum.html"
        return {
            self.go: gr.update(visible=not at_work),
            self.stop: gr.update(visible=at_work),
            self.card: part_in(run.folder),
            self.page: gr.update(
                value=publish_file(workspace, page, name) if page else None, visible=bool(page)
            ),
            self.tick: gr.Timer(active=at_work),
        }


def without(chosen: Sequence[str]) -> tuple[str, ...]:
    """The ways that are not among the chosen."""
    return tuple(way for way in TITLES if way not in chosen)


def choices_of(left: dict[str, float | None]) -> list[tuple[str, str]]:
    """The ways by title, each with what it still takes where that is told."""
    said = []
    for way, title in TITLES.items():
        seconds = left.get(way)
        if seconds is not None:
            title += f", {html.duration(seconds)}" if seconds else ", there already"
        said.append((title, way))
    return said


def said_of(job: Job) -> str:
    """How far it is, or how many are before it."""
    assert job.spectrum
    return so_far(job.spectrum, run_queue().place(job)[1])
