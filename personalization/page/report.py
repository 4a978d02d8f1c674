"""Under a finished run: whether it worked. The verdict, the report part by part, other ways beside.

A part of the report is a request of its own, as a slice of a run is: between two parts others have
their turn, and a closed tab loses the part at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError, ReportError
from personalization.evaluation import report_html
from personalization.evaluation.comparison import Comparison
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum import Mark
from personalization.events import SliceEnded
from personalization.files import on_disk, read_header, write_atomically
from personalization.recipe import LowRank
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html, progress
from .event_options import IN_SIGHT, ON_GPU, QUEUED, REFRESH, UNQUEUED
from .evidence import EvidencePanel
from .loaded import ON_ZERO, base, spec_of
from .messages import user_message
from .progress import Pace
from .run_queue import Job
from .runs import enqueue, measure_part, report_seconds, run_queue
from .session import Visit, page_workspace
from .uploads import publish_file


class ReportPanel:
    """What came of a run, in words and figures; measured unasked, skipped and resumed at will."""

    def __init__(
        self, prefix: str, visitor: gr.BrowserState, current: gr.State, verdict: gr.HTML
    ) -> None:
        """`verdict` is the place above the pictures for the report's first sentences."""
        self.visitor, self.current, self.verdict = visitor, current, verdict
        # Apart from the run's own: a new run must not lose its turn to an old one's report.
        self.turn = gr.State(None)
        self.tick = gr.Timer(REFRESH, active=False)
        # Changes when the visitor's things have grown: a queued event is not needed to notice it.
        self.news = gr.HTML(visible="hidden")
        self.status = gr.HTML(visible=False, elem_id=f"{prefix}-measuring")
        with gr.Row(elem_classes="actions"):
            self.skip = gr.Button("Skip", visible=False, size="md", elem_id=f"{prefix}-skip")
            self.measure = gr.Button("Measure it", visible=False, elem_id=f"{prefix}-measure")
        self.card = gr.HTML(visible=False, elem_id=f"{prefix}-report", elem_classes="report-card")
        with gr.Row(visible=False) as self.files:
            self.page = gr.DownloadButton("Report (HTML)", size="md", min_width=150)
            self.data = gr.DownloadButton("Report (JSON)", size="md", min_width=150)
        self.evidence = EvidencePanel(prefix, visitor, current)
        self.others = gr.CheckboxGroup(
            label="Compare with",
            info="What else you taught with the same photos.",
            visible=False,
            elem_id=f"{prefix}-compare",
        )
        self.comparison = gr.HTML(visible=False, elem_classes="report-card")
        self.compared = gr.DownloadButton(
            "Comparison (HTML)", size="md", visible=False, elem_classes="alone"
        )
        self.beside = [self.comparison, self.compared]
        self.parts = [
            *(
                self.turn,
                self.tick,
                self.news,
                self.verdict,
                self.status,
                self.skip,
                self.measure,
                self.card,
            ),
            *(self.files, self.page, self.data, self.others, *self.beside),
            *self.evidence.parts,
        ]
        self.wire()

    def wire(self) -> None:
        """A tick looks at what the app measures, and on ZeroGPU is a part; buttons do the rest."""
        run = [self.visitor, self.current]
        if ON_ZERO:
            lent = {**IN_SIGHT, **ON_GPU, "show_progress_on": self.status}
            self.tick.tick(self.advance, [*run, self.turn], self.parts, **lent)
        else:
            self.tick.tick(self.look, run, self.parts, **UNQUEUED)
        self.skip.click(self.leave, run, self.parts, **UNQUEUED)
        self.measure.click(self.again, run, self.parts, **QUEUED)
        self.others.change(self.lay_beside, [*run, self.others], self.beside, **UNQUEUED)

    def next_part(self, run: Run, pace: Pace | None = None, left: int = 0) -> dict:
        """Ask the browser for a new request, which measures one part."""
        each = pace.each if pace else None
        turn = {"run": run.folder.name, "each": each, "left": left}
        reply: dict = {self.turn: turn, self.tick: gr.Timer(active=True)}
        if pace is None:  # the first one
            reply |= {
                self.status: gr.update(value=progress.measuring(), visible=True),
                self.skip: gr.update(visible=True),
                self.measure: gr.update(visible=False),
            }
        return reply

    def advance(self, visitor: str, current: str, turn: dict[str, Any] | None) -> Iterator[dict]:
        """One request's share of a report."""
        if not turn or turn["run"] != current:  # the visitor has gone on to another run
            yield {self.tick: gr.Timer(active=False)}
            return
        run: Run | None = None
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            visit = Visit(workspace, run.base)
            if run.stop_requested or is_measured(run):
                yield self.show(visit, run)
                return
            pace = Pace(turn["each"])
            for event in measure_part(workspace, run, turn["each"], turn["left"]):
                if isinstance(event, Report):
                    yield self.show(visit, run)
                elif run.stop_requested:  # skipped: it is said already
                    continue
                elif isinstance(event, SliceEnded):
                    yield self.next_part(run, pace, event.steps - event.step)
                else:
                    said = progress.measuring(event, pace.take(event))
                    yield {self.status: gr.update(value=said, visible=True)}
        except Exception as error:
            sorry = html.problems([user_message(error)])
            yield {
                self.tick: gr.Timer(active=False),
                self.status: gr.update(value=sorry, visible=True),
                self.skip: gr.update(visible=False),
                self.measure: gr.update(visible=run is not None),
            }

    def look(self, visitor: str, current: str) -> dict:
        """How far the app is with the report of the run that is shown."""
        try:
            workspace = page_workspace(visitor)
            if job := run_queue().find(workspace.id, current, "measure"):
                return {self.status: gr.update(value=said_of(job), visible=True)}
            run = workspace.run(current)
            if run.state.status == "finished":
                return self.show(Visit(workspace, run.base), run)
        except PersonalizationError:  # it was deleted meanwhile
            pass
        return {self.tick: gr.Timer(active=False)}

    def leave(self, visitor: str, current: str) -> dict:
        """Not now: the part at hand ends with the pictures that it draws."""
        workspace = page_workspace(visitor)
        run = workspace.run(current)
        run.stop()
        if job := run_queue().find(workspace.id, current, "measure"):
            run_queue().cancel(job)
        return self.show(Visit(workspace, run.base), run)

    def again(self, visitor: str, current: str) -> dict:
        """Measure what was skipped, or cut off."""
        workspace = page_workspace(visitor)
        run = workspace.run(current)
        run.clear_stop()
        if ON_ZERO:
            return self.next_part(run)
        enqueue(workspace, run, "measure")
        return self.show(Visit(workspace, run.base), run)

    def show(self, visit: Visit, run: Run) -> dict:
        """The report as the run's folder has it; or that there is none yet, or none to be read."""
        report, missing = None, progress.unmeasured(report_seconds(run))
        try:
            report = Report.open(run.folder)
        except ReportError as error:
            missing = html.problems([str(error)])
        if why := run_queue().error(run):
            missing = html.problems([why])
        job = run_queue().find(visit.workspace.id, run.folder.name, "measure")
        if job and not job.stopped.is_set():
            missing = said_of(job)
        else:
            job = None
        measured = bool(report and report.figures)
        others = [(way(other), other.folder.name) for other in comparable(visit.runs, run)]
        reply: dict = {
            self.verdict: html.verdict(run, run.adapter_path.stat().st_size, report),
            self.tick: gr.Timer(active=job is not None),
            self.news: f"{run.folder.name} {'measured' if measured else 'trained'}",
            self.status: gr.update(value=missing, visible=report is None),
            self.skip: gr.update(visible=job is not None),
            self.measure: gr.update(visible=not measured and job is None),
            self.card: gr.update(
                value=report_html.render(report, whole=False) if report else "",
                visible=bool(report),
            ),
            self.files: gr.update(visible=bool(report)),
            self.others: gr.update(choices=others, value=[], visible=measured and bool(others)),
            **dict.fromkeys(self.beside, gr.update(visible=False)),
            **self.evidence.show(run, report),
        }
        if report:
            name = run.folder.name.split("-", 3)[-1]
            reply[self.page] = publish_file(
                visit.workspace, run.folder / "report.html", f"{name}-report.html"
            )
            reply[self.data] = publish_file(
                visit.workspace, run.folder / "report.json", f"{name}-report.json"
            )
        return reply

    def show_card(self, card: str) -> dict:
        """A report that was written elsewhere, to be read alone."""
        hidden = (self.status, self.skip, self.measure, self.files, self.others, *self.beside)
        return {
            **dict.fromkeys(hidden, gr.update(visible=False)),
            **self.evidence.hidden(),
            self.card: gr.update(value=card, visible=bool(card)),
        }

    def lay_beside(self, visitor: str, current: str, chosen: list[str]) -> dict:
        """The run beside the chosen ones."""
        if not chosen:
            return dict.fromkeys(self.beside, gr.update(visible=False))
        workspace = page_workspace(visitor)
        found = compared(workspace, [current, *chosen])
        path = workspace.run(current).folder / "cache" / "comparison.html"
        with on_disk():
            write_atomically(path, report_html.render_comparison(found))
        return {
            self.comparison: gr.update(
                value=report_html.render_comparison(found, whole=False), visible=True
            ),
            self.compared: gr.update(value=publish_file(workspace, path), visible=True),
        }


def said_of(job: Job) -> str:
    """How far a report is, or how many are before it."""
    if job.stage is None:
        return progress.measuring(waiting=run_queue().place(job)[1])
    return progress.measuring(job.stage, job.view.seconds_left)


def is_measured(run: Run) -> bool:
    """Whether the report is there, with figures."""
    try:
        report = Report.open(run.folder)
    except ReportError:  # to be measured again
        return False
    return bool(report and report.figures)


def comparable(runs: Sequence[Run], run: Run) -> list[Run]:
    """Those of `runs`, but `run` itself, that were measured on the same photos."""
    return [
        other
        for other in runs
        if other.folder != run.folder
        and (other.folder / "report.json").exists()
        and other.photo_hashes == run.photo_hashes
    ]


def compared(workspace: Workspace, names: list[str]) -> Comparison:
    """The reports of these runs side by side.

    Raises `WorkspaceError` for a run of nobody's, `ReportError` for a report that is damaged.
    """
    runs = [workspace.run(name) for name in dict.fromkeys(names)]
    reports: dict[str, Report] = {}
    for run in runs:
        report = Report.open(run.folder)
        if report:
            same = sum(name.startswith(way(run)) for name in reports)
            reports[way(run) + (f" ({same + 1})" if same else "")] = report
    return Comparison(reports)


def way(run: Run) -> str:
    """How a run teaches, on a line: what distinguishes it from others on the same photos."""
    recipe = run.recipe
    said = [html.METHODS[recipe.method_name].removeprefix("a ")]
    if isinstance(recipe.method, LowRank):
        said.append(f"rank {recipe.method.rank}")
    if recipe.method_name != "textual_inversion":
        prior = {"images": "class images", "adapter_off": "adapter off"}
        said.append(prior[recipe.prior.kind] if recipe.prior else "no prior")
    return ", ".join([*said, f"{run.state.step} steps"])


def last_result(visit: Visit) -> tuple[Mark, int] | None:
    """The visitor's newest finished run on their base, for the spectrum: its size and what it
    changes; and the bytes of a full fine-tune of the base."""
    for run in visit.runs:
        with suppress(PersonalizationError, OSError):  # a damaged run is no result
            if run.state.status == "finished" and run.base == spec_of(visit.base).name:
                return placed(visit.base, run)
    return None


def placed(base_name: str, run: Run) -> tuple[Mark, int]:
    """A finished run's mark on the spectrum, and the bytes of a full fine-tune of the base."""
    shapes = read_header(run.adapter_path).shapes.values()
    whole = sum(p.numel() for m in base(base_name).modules.values() for p in m.parameters())
    share = sum(map(prod, shapes)) / whole
    method = run.recipe.method_name
    changed = {"textual_inversion": "no weight changed", "full": "every weight changed"}.get(
        method, f"a layer of {share:.1%} over the weights"
    )
    size = run.adapter_path.stat().st_size
    mark = Mark(f"your {html.trigger(run)}", method, size, run.state.seconds, changed)
    return mark, 2 * whole
