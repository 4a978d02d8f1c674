"""The right side of a teaching tab: a run's progress, then what came of it; `report` measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import gradio as gr

from personalization.errors import PersonalizationError, RunError
from personalization.events import Finished, SliceEnded, StepDone
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html, progress
from .address import Address
from .event_options import IN_SIGHT, ON_GPU, QUEUED, REFRESH, UNQUEUED
from .examples import example_result
from .gpu import gpu_finish
from .lending import Refusal
from .loaded import ON_ZERO
from .messages import user_message
from .recorded import Recorded, recorded_run, replayed
from .result_panel import ResultPanel
from .run_queue import LEARNING, Job, What
from .runs import (
    check_here,
    enqueue,
    is_away,
    keep_adapter,
    run_queue,
    show_off,
    train_slice,
)
from .session import Visit, page_workspace


class RunPanel:
    """One place that changes with the run: how it works, its progress, its result."""

    def __init__(self, prefix: str, visitor: gr.BrowserState, train: gr.Button):
        """`train` is the button that starts a run; it rests while one is under way."""
        self.visitor, self.train = visitor, train
        self.current = gr.State("")  # the run that is shown
        self.turn = gr.State(None)  # on ZeroGPU: what to do with it in the next request
        self.seen = gr.State(None)  # of a run that the app works on: what this page shows
        self.tick = gr.Timer(REFRESH, active=False)  # while there is something to ask for
        self.build(prefix)
        self.parts = [
            *(self.current, self.turn, self.seen, self.tick, self.train, self.intro, self.status),
            *(self.cancel, self.up),
            *(self.resume, self.keep, self.curve, self.strip),
            *(*self.result.parts, *self.recorded.parts),
        ]
        self.wire()

    def build(self, prefix: str) -> None:
        """Progress, result and what to do with it, hidden until there is a run."""
        self.intro = gr.HTML(html.intro(prefix, *example_result(prefix)), elem_id=f"{prefix}-intro")
        self.recorded = Recorded(prefix)
        self.status = gr.HTML(visible=False, elem_id=f"{prefix}-status")
        with gr.Row(elem_classes="actions"):
            self.cancel = gr.Button("Cancel", visible=False, elem_id=f"{prefix}-cancel")
            self.up = gr.Button("Move up", visible=False, elem_id=f"{prefix}-up")
            self.resume = gr.Button(
                "Continue", variant="primary", visible=False, elem_id=f"{prefix}-continue"
            )
            self.keep = gr.Button("Take it as it is", visible=False, elem_id=f"{prefix}-keep")
        strengths = self.recorded.build_strengths
        self.result = ResultPanel(prefix, self.visitor, self.current, strengths)
        self.curve = gr.HTML(visible=False, elem_id=f"{prefix}-curve")
        self.strip = gr.HTML(visible=False, elem_id=f"{prefix}-strip")
        self.recorded.build_end()

    def wire(self) -> None:
        """A tick looks at what the app does, and on ZeroGPU it is a slice; buttons do the rest."""
        run = [self.visitor, self.current]
        if ON_ZERO:
            lent = {**IN_SIGHT, **ON_GPU, "show_progress_on": self.status}
            self.tick.tick(self.advance, [self.visitor, self.turn], self.parts, **lent)
        else:
            self.tick.tick(self.look, [*run, self.seen], self.parts, **UNQUEUED)
        self.cancel.click(self.stop, run, self.parts, **UNQUEUED)
        self.up.click(self.move_up, run, self.parts, **UNQUEUED)
        self.resume.click(self.carry_on, run, self.parts, **QUEUED)
        self.keep.click(self.finish, run, self.parts, **QUEUED)
        self.recorded.wire(self.replay, self.drawn)

    @property
    def drawn(self) -> list[Any]:
        """The parts but for what asks for the visitor's next request: a recorded run has none."""
        return [part for part in self.parts if not isinstance(part, gr.State)]

    def begin(
        self, workspace: Workspace, run: Run, what: Literal["learn", "finish", "show"]
    ) -> dict:
        """Have the app work on a run; on ZeroGPU, the visitor's requests.

        Raises `RunError` where too many wait already.
        """
        if ON_ZERO:
            return self.next_turn(run, what)
        return self.watch(enqueue(workspace, run, what))

    def next_turn(self, run: Run, what: What) -> dict:
        """Ask the browser for a new request, so that the visitor's identity in it is fresh."""
        view = progress.RunView.of(run)
        view.phase = "waiting" if what == "learn" else "drawing"
        turn = {"run": run.folder.name, "do": what, "again": False}
        return {self.turn: turn, self.current: run.folder.name, **self.show(view)}

    def watch(self, job: Job) -> dict:
        """All of the panel, for a run that the app works on."""
        name = job.run.folder.name
        shown = self.show(placed_view(job))
        return {**shown, **self.buttons(job), self.current: name, self.seen: mark(job)}

    def buttons(self, job: Job) -> dict:
        """What can be done with it meanwhile."""
        stopping = job.stopped.is_set()
        said = "Stopping…" if stopping else "Cancel"
        return {
            self.cancel: gr.update(
                value=said, interactive=not stopping, visible=job.view.phase != "drawing"
            ),
            self.up: gr.update(visible=run_queue().movable(job)),
        }

    def look(self, visitor: str, current: str, seen: list[Any] | None) -> dict:
        """What has changed since this page looked last: the run is the app's, not the page's."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            job = run_queue().find(workspace.id, current, *LEARNING)
            if job is None:
                return self.find(Visit(workspace, run.base), run)
        except PersonalizationError as error:  # it was deleted meanwhile
            said = html.problems([str(error)])
            return {**self.clear(), self.status: gr.update(value=said, visible=True)}
        now = mark(job)
        if not seen or seen[0] != now[0]:
            return self.watch(job)
        changed: set[progress.Part] = {"status"}
        changed |= {"curve"} if seen[1] != now[1] else set()
        changed |= {"strip", "curve"} if seen[2] != now[2] else set()
        parts = {"status": self.status, "curve": self.curve, "strip": self.strip}
        drawn = progress.drawn(placed_view(job), changed)
        shown = {parts[p]: gr.update(value=html, visible=True) for p, html in drawn.items()}
        return {**shown, **self.buttons(job), self.seen: now}

    def show(self, view: progress.RunView) -> dict:
        """The whole panel."""
        over = view.phase in ("held", "stopped", "failed")
        live = view.phase in ("waiting", "preparing", "learning", "drawing")
        busy = view.phase in ("waiting", "preparing", "learning")
        done = view.phase == "finished"
        return {
            self.tick: gr.Timer(active=live),
            self.up: gr.update(visible=False),
            self.intro: gr.update(visible=False),
            self.status: gr.update(value=progress.status(view), visible=not done),
            self.curve: gr.update(value=progress.curve(view), visible=bool(view.rows)),
            self.strip: gr.update(value=progress.strip(view), visible=view.has_pictures),
            self.train: gr.update(interactive=not live),
            self.cancel: gr.update(value="Cancel", interactive=True, visible=busy),
            self.resume: gr.update(visible=over),
            self.keep: gr.update(visible=over and view.step > 0),
            **self.result.there(done=done),
            **self.recorded.hide(),
        }

    def clear(self) -> dict:
        """As it is before the first run."""
        hidden = (self.status, self.cancel, self.up, self.resume, self.keep, self.result.column)
        return {
            self.tick: gr.Timer(active=False),
            **dict.fromkeys([*hidden, self.curve, self.strip], gr.update(visible=False)),
            **self.recorded.hide(),
            self.intro: gr.update(visible=True),
            self.train: gr.update(interactive=True),
            self.current: "",
        }

    def advance(self, visitor: str, turn: dict[str, Any] | None) -> Iterator[dict]:
        """One request's share of a run: a slice of learning, or the pictures at its end."""
        if not turn:  # nothing was asked for
            yield {self.tick: gr.Timer(active=False)}
            return
        view, run = progress.RunView("the word", 1), None
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(turn["run"])
            view = progress.RunView.of(run)
            if turn["do"] == "learn":
                yield from self.learn(workspace, run, view)
            elif turn["do"] == "finish":
                run.clear_stop()  # it ended the learning, not the report
                keep_adapter(workspace, run, gpu_finish(run.folder))
                yield self.next_turn(run, "show")
            else:
                yield self.show_new(Visit(workspace, run.base), run)
        except Exception as error:
            yield self.interrupted(view, turn if run else {}, error)

    def show_new(self, visit: Visit, run: Run) -> dict:
        """A finished run with its first pictures; without, where no card is lent for them."""
        try:
            show_off(run)
        except gr.Error as error:
            sorry = html.warnings([user_message(error)])
            return {**self.show_result(visit, run), self.result.draw_notes: sorry}
        return {**self.show_result(visit, run), **self.result.report.next_part(run)}

    def interrupted(self, view: progress.RunView, turn: dict[str, Any], error: Exception) -> dict:
        """Why it does not go on, or that it is asked for once more, with a fresh token."""
        refusal = Refusal.of(error)
        if refusal and refusal.passes and not turn.get("again", True):
            return {self.turn: {**turn, "again": True}}
        view.phase = "held" if refusal else "failed"
        view.error = user_message(error)
        return self.show(view)

    def learn(self, workspace: Workspace, run: Run, view: progress.RunView) -> Iterator[dict]:
        """Translate one slice's events into updates, its steps once a second."""
        if run.stop_requested:  # while it waited in the queue
            yield self.show(view)
            return
        pending: set[progress.Part] = set()
        shown = 0.0
        for event in train_slice(run):
            phase = view.phase
            pending |= view.take(event)
            due = not isinstance(event, StepDone) or time.monotonic() - shown > REFRESH
            if isinstance(event, SliceEnded):
                yield self.show(view) if run.stop_requested else self.next_turn(run, "learn")
            elif isinstance(event, Finished):
                keep_adapter(workspace, run, event)
                yield self.next_turn(run, "show")
            elif view.phase != phase:
                yield self.show(view)
                pending.clear()
            elif pending and due:
                parts = {"status": self.status, "curve": self.curve, "strip": self.strip}
                drawn = progress.drawn(view, pending)
                yield {parts[p]: gr.update(value=html, visible=True) for p, html in drawn.items()}
                pending.clear()
                shown = time.monotonic()

    def run(self, visitor: str, current: str) -> Run:
        """The visitor’s run of that name. Raises `WorkspaceError`."""
        return page_workspace(visitor).run(current)

    def find(self, visit: Visit, run: Run) -> dict:
        """A run where it is: at work, or as it was left, with its pictures and its report.

        On ZeroGPU one that the visitor did not cancel goes on from its last checkpoint.
        """
        if job := run_queue().find(visit.workspace.id, run.folder.name, *LEARNING):
            return self.watch(job)
        if run.state.status == "finished":
            return self.show_result(visit, run)
        view = progress.RunView.of(run)
        if is_away(run):
            view.phase = "away"
        if ON_ZERO and view.phase == "stopped" and not run.stop_requested:
            return self.next_turn(run, "learn")
        if why := run_queue().error(run):
            view.phase, view.error = "failed", why
        return {**self.show(view), self.current: run.folder.name}

    def stop(self, visitor: str, current: str) -> dict:
        """Ask the run to end after the step at hand; what works on it says the rest."""
        workspace = page_workspace(visitor)
        run = workspace.run(current)
        job = run_queue().find(workspace.id, current, *LEARNING)
        if job is None:
            run.stop()
        else:
            run_queue().cancel(job)
            if not job.at_work:
                return self.find(Visit(workspace, run.base), run)
        return {self.cancel: gr.update(value="Stopping…", interactive=False)}

    def move_up(self, visitor: str, current: str) -> dict:
        """Before the visitor's own run that waits ahead of it."""
        workspace = page_workspace(visitor)
        job = run_queue().find(workspace.id, current, *LEARNING)
        if job is None:
            return self.find(Visit(workspace, ""), workspace.run(current))
        run_queue().move_up(job)
        return self.watch(job)

    def carry_on(self, visitor: str, current: str) -> dict:
        """Continue a run that was stopped."""
        return self.begin_again(visitor, current, "learn")

    def finish(self, visitor: str, current: str) -> dict:
        """Take what a stopped run has learned so far."""
        return self.begin_again(visitor, current, "finish")

    def begin_again(self, visitor: str, current: str, what: Literal["learn", "finish"]) -> dict:
        """Have the app work on a run that waits, or say why it goes on waiting."""
        run = self.run(visitor, current)
        try:
            check_here(run)
            run.clear_stop()
            return self.begin(page_workspace(visitor), run, what)
        except RunError as error:
            view = progress.RunView.of(run)
            view.phase, view.error = "held", str(error)
            return self.show(view)

    def show_result(self, visit: Visit, run: Run) -> dict:
        """The pictures, the file, and the report as far as it is."""
        view = progress.RunView.of(run)
        view.phase = "finished"
        return {
            **self.show(view),
            self.current: run.folder.name,
            **self.result.show(visit, run),
        }

    def show_recorded(self, *, whole: bool) -> dict:
        """The run that was made elsewhere.

        `whole`: with its losses, previews and report; in a frame these are a link away.
        """
        run = recorded_run()
        hidden = gr.update(value="", visible=False)
        return {
            **self.show(progress.RunView.of(run)),
            **self.recorded.show(whole=whole),
            **self.result.show_recorded(run, whole=whole),
            **({} if whole else dict.fromkeys((self.curve, self.strip), hidden)),
        }

    def replay(self, request: gr.Request) -> Iterator[dict]:
        """Watch the recorded run learn."""
        parts = {"status": self.status, "curve": self.curve, "strip": self.strip}
        for view, pending in replayed(recorded_run()):
            drawn = progress.drawn(view, pending)
            said = {parts[p]: gr.update(value=html, visible=True) for p, html in drawn.items()}
            yield {**said, self.result.column: gr.update(visible=False)}
        yield self.show_recorded(whole=not Address.of(request.query_params).embedded)


def placed_view(job: Job) -> progress.RunView:
    """What is shown of a job's run, with its place where it waits."""
    _, said = run_queue().place(job)
    return replace(job.view, doing=said) if said else job.view


def mark(job: Job) -> list[Any]:
    """What tells whether a page shows a job as it is: its phase, step and pictures."""
    view = job.view
    return [view.phase, view.step, len(view.previews) + len(view.seen)]
