"""For programs: the same photos taught in every way, with progress, the table and the sheet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import gradio as gr

from personalization.evaluation.spectrum_files import TABLE, TITLES, page_in
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from .event_options import REFRESH
from .loaded import ON_ZERO
from .loaded import base as loaded
from .long_work import check_confirmed
from .requests import Name, at_most, build_endpoint
from .runs import awaited, check_spectrum, enqueue_spectrum, run_queue
from .session import workspace_of
from .spectrum_work import SpectrumView, spectrum_slice
from .uploads import publish_file

Way = Literal["word", "lora", "lokr", "full", "unpreserved"]
Ways = Annotated[list[Way], at_most(len(TITLES))]
Told = tuple[dict[str, Any], dict[str, Any] | None, str | None]


def teach_spectrum(
    session: Name, run: Name, without: Ways | None = None, confirm: bool = False
) -> Iterator[Told]:
    """Teach a finished run's photos in every other way too, and lay all of them side by side.

    No training, a word, LoRA, LoKr, the full fine-tune, and the LoRA without prior preservation,
    each in turn and measured. What was taught already is taken, and what was cut off goes on.

    Args:
        session: what train_word or train_subject returned as "session".
        run: what it returned as "run"; it must have finished.
        without: ways to leave out: word, lora, lokr, full, unpreserved.
        confirm: whether to begin what takes more than ten minutes on this machine, which is
            refused otherwise, with the time that it takes.

    Returns:
        The status (state, way, step and steps or done and total pictures, seconds_left), and at
        the end a table (verdict, rows with size, seconds, subject_fidelity, prompt_fidelity and
        drift; "behind" and "forgetting", the ways that lose; "missing", those that cannot be), and
        one HTML file with the sheet: rows the ways, columns the same prompts and seeds, last the
        class without the word.
    """
    from personalization.evaluation import ways

    workspace = workspace_of(session)
    opened, left_out = workspace.run(run), tuple(without or ())
    check_spectrum(workspace, opened, left_out)
    check_confirmed(ways.estimated(loaded(opened.base), opened, left_out), confirm)
    status: dict[str, Any] = {"session": workspace.id, "run": run, "state": "waiting"}
    yield status, None, None
    going = _slices if ON_ZERO else _in_turn
    for said in going(workspace, opened, left_out):
        status = {"session": workspace.id, "run": run, **said}
        yield status, None, None
    table = json.loads((opened.folder / TABLE).read_text())
    page = page_in(opened.folder)
    assert page
    status = {"session": workspace.id, "run": run, "state": "finished"}
    yield status, table, publish_file(workspace, page)


def _in_turn(workspace: Workspace, run: Run, without: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Teach when it is its turn."""
    for job in awaited(enqueue_spectrum(workspace, run, without), REFRESH):
        if not job.at_work:
            yield {"state": "waiting", "place": run_queue().place(job)[0] + 1}
        elif job.spectrum:
            yield _said(job.spectrum)


def _slices(workspace: Workspace, run: Run, without: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Teach now, an allocation after the other."""
    run.clear_stop()
    view = SpectrumView.of(run, without)
    while not view.done:
        for event in spectrum_slice(run, without):
            if view.take(event):
                yield _said(view)
    workspace.library.renew(run.adapter_path)


def _said(view: SpectrumView) -> dict[str, Any]:
    said: dict[str, Any] = {"state": "teaching", "way": view.way, "seconds_left": view.seconds_left}
    stage = view.stage
    if stage and stage.name == "learning":
        return said | {"step": stage.done, "steps": stage.total}
    if stage:
        return said | {"state": "measuring", "done": stage.done, "total": stage.total}
    return said


def build_spectrum_endpoint(**in_turn: Any) -> None:
    """The named endpoint; `in_turn`: how what learns takes its turn."""
    outputs = [gr.JSON(label="status"), gr.JSON(label="table"), gr.File(label="page")]
    build_endpoint(teach_spectrum, outputs, **in_turn)
