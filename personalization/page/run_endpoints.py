"""A run by program: its progress as a stream, its end; stopped, and continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from personalization.data.concept import Concept
from personalization.data.photo_problems import problems as photo_problems
from personalization.events import Finished, StepDone
from personalization.recipe import Recipe
from personalization.training.presets import Purpose
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import ON_GPU, REFRESH
from .gpu import gpu_finish
from .loaded import ON_ZERO, spec_of
from .loaded import base as loaded
from .long_work import check_confirmed
from .messages import user_message
from .photographs import photograph_notes
from .requests import Name
from .run_queue import LEARNING, What
from .runs import (
    awaited,
    check_here,
    enqueue,
    keep_adapter,
    run_queue,
    seconds_left,
    show_off,
    showcase,
    train_slice,
)
from .session import workspace_of, workspaces
from .uploads import publish_file

# Off ZeroGPU the run queue says whose turn it is, and who waits there takes no drawing's place.
IN_TURN: dict[str, Any] = ON_GPU if ON_ZERO else {"concurrency_limit": None}
Trained = tuple[dict[str, Any], str | None, list[tuple[str, str]] | None]


def train(
    session: str, base: str, concept: Concept, recipe: Recipe, notes: list[str], *, hold: bool
) -> Iterator[Trained]:
    """A whole run in one call; `hold`: made, and not begun."""
    workspace = workspace_of(session)
    if not (ON_ZERO or hold):
        run_queue().check(workspace)
    run = workspace.start_run(loaded(base), concept, recipe, shared=ON_ZERO)
    purpose: Purpose = "subject" if recipe.trains_weights else "word"
    said = [
        *notes,
        *photo_problems(concept.photos, spec_of(base).canvas(recipe)),
        *photograph_notes(spec_of(base), concept.photos, purpose),
    ]
    if hold:
        yield told(workspace, run, "held", said), None, None
    else:
        yield from followed(workspace, run, "learn", said)


def followed(
    workspace: Workspace, run: Run, what: What, notes: list[str] | None = None
) -> Iterator[Trained]:
    """A run until it is finished: its turn is the app's, on ZeroGPU slice after slice."""
    status = told(workspace, run, "waiting", notes or [])
    yield status, None, None
    go = _lent if ON_ZERO else _in_turn
    for _ in go(workspace, run, what, status):
        yield status, None, None
    yield from ended(workspace, run, status)


def ended(workspace: Workspace, run: Run, status: dict[str, Any]) -> Iterator[Trained]:
    """What a finished run gives."""
    drawn = sorted((run.folder / "pictures").glob("*.png"))
    said = showcase(run)
    pictures = [(publish_file(workspace, path), said[int(path.stem)]) for path in drawn]
    status |= {"state": "finished", "seconds": run.state.seconds, "trigger": html.trigger(run)}
    yield status, publish_file(workspace, run.adapter_path), pictures


def told(workspace: Workspace, run: Run, state: str, notes: list[str]) -> dict[str, Any]:
    """A run that does not learn at the moment."""
    return {"session": workspace.id, "run": run.folder.name, "state": state, "notes": notes}


def _in_turn(workspace: Workspace, run: Run, what: What, status: dict[str, Any]) -> Iterator[None]:
    """Learn when it is its turn; the status tells how far that is."""
    for job in awaited(enqueue(workspace, run, what, then_measure=False), REFRESH):
        if not job.at_work:
            status["place"] = run_queue().place(job)[0] + 1
        elif job.view.rows:
            status.pop("place", None)
            latest = job.view.rows[-1]
            status |= {"state": "learning", "step": latest.step, "steps": job.view.steps}
            status |= {"loss": latest.loss, "seconds_left": job.view.seconds_left}
        yield
    status.pop("place", None)


def _lent(workspace: Workspace, run: Run, what: What, status: dict[str, Any]) -> Iterator[None]:
    """Learn now, an allocation after the other, and draw in one more."""
    if what == "finish":
        keep_adapter(workspace, run, gpu_finish(run.folder))
    elif what == "learn":
        yield from _slices(workspace, run, status)
    try:
        show_off(run)
    except gr.Error as error:  # no card for them: what was learned is there all the same
        status["notes"] = [*status["notes"], user_message(error)]


def _slices(workspace: Workspace, run: Run, status: dict[str, Any]) -> Iterator[None]:
    finished: Finished | None = None
    shown = 0.0
    while finished is None:
        for event in train_slice(run):
            if isinstance(event, StepDone):
                status |= {"state": "learning", "step": event.step, "steps": event.steps}
                status |= {"loss": event.loss, "seconds_left": event.seconds_left}
                if time.monotonic() - shown > REFRESH:
                    shown = time.monotonic()
                    yield
            elif isinstance(event, Finished):
                finished = event
    keep_adapter(workspace, run, finished)


def continue_run(
    session: Name, run: Name, as_it_is: bool = False, confirm: bool = False
) -> Iterator[Trained]:
    """Go on with a run from its last checkpoint: one that was stopped, refused, cut off or held.

    On ZeroGPU a run whose day's seconds are used up waits so. One that is finished gives what it
    has at once.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; list_things has all of a session's.
        as_it_is: whether to learn nothing more, and make the adapter of what is learned so far.
        confirm: whether to go on with what still takes more than ten minutes on this machine,
            which is refused otherwise, with the time that it takes.

    Returns:
        As train_subject: the status, and at the end the adapter's file and pictures.
    """
    workspace = workspaces().open(session)
    opened = workspace.run(run)
    check_here(opened)
    if opened.state.status == "finished":
        shown = list((opened.folder / "pictures").glob("*.png"))
        if shown:
            yield from ended(workspace, opened, told(workspace, opened, "finished", []))
        else:  # learned elsewhere
            yield from followed(workspace, opened, "show")
        return
    what: What = "finish" if as_it_is else "learn"
    if what == "learn":
        check_confirmed(seconds_left(opened), confirm)
    opened.clear_stop()
    yield from followed(workspace, opened, what)


def stop_run(session: Name, run: Name) -> dict[str, Any]:
    """Stop a run that waits or learns, after the step at hand; continue_run goes on with it.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run".

    Returns:
        "run", "step", the last that is kept, and "steps".
    """
    workspace = workspaces().open(session)
    opened = workspace.run(run)
    if job := run_queue().find(workspace.id, run, *LEARNING):
        run_queue().cancel(job)
    elif opened.state.status != "finished":
        opened.stop()
    return {"run": run, "step": opened.state.step, "steps": opened.recipe.steps}


def move_up_run(session: Name, run: Name) -> dict[str, Any]:
    """Let a run that waits change places with the session's own run before it.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run".

    Returns:
        "run", and "place", which it has in the queue now, with the run that is learned at the
        moment as 1; 0 where it does not wait.
    """
    workspace = workspaces().open(session)
    job = run_queue().find(workspace.id, workspace.run(run).folder.name, *LEARNING)
    if job is None:
        return {"run": run, "place": 0}
    run_queue().move_up(job)
    return {"run": run, "place": 0 if job.at_work else run_queue().place(job)[0] + 1}
