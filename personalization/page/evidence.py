"""Under a report: which pictures a person takes as evidence, which not, and why in a line."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from personalization.adapters.adapter import embedded_description
from personalization.errors import PersonalizationError, ReportError
from personalization.evaluation import evidence, evidence_html
from personalization.evaluation.evidence import Evidence, Judgement
from personalization.evaluation.report import Report, Shot
from personalization.files import read_header, write_atomically
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html
from .entered import key_of
from .event_options import UNQUEUED
from .messages import user_message
from .session import page_workspace
from .uploads import publish_file

SIDE = 160  # pixels of a candidate, at most
ASK = "Choose what shows it well and reject what does not, each with a line that says why."
# A press or a finished line is told with its picture, and shown at once: nothing is drawn anew.
JUDGE = """const tell = (part, what, value) => trigger('click', {
    key: JSON.stringify([part.closest('[data-shot]').dataset.shot, what, value])
});
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-verdict]');
    if (!button) return;
    const press = button.getAttribute('aria-pressed') !== 'true';
    for (const each of button.parentElement.querySelectorAll('[data-verdict]'))
        each.setAttribute('aria-pressed', press && each === button);
    tell(button, 'verdict', press ? button.dataset.verdict : '');
});
element.addEventListener('change', (event) => {
    if (event.target.matches('textarea')) tell(event.target, 'why', event.target.value);
});
element.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !event.target.matches('textarea')) return;
    event.preventDefault();
    event.target.blur();
});"""


class EvidencePanel:
    """The candidates, and the card that comes of them."""

    def __init__(self, prefix: str, visitor: gr.BrowserState, current: gr.State) -> None:
        with gr.Accordion(
            "Evidence", open=False, visible=False, elem_id=f"{prefix}-evidence"
        ) as self.fold:
            gr.HTML(html.hint(ASK))
            self.list = gr.HTML(js_on_load=JUDGE, elem_id=f"{prefix}-candidates")
            self.notes = gr.HTML(elem_id=f"{prefix}-evidence-notes")
            self.make = gr.Button("Make the card", size="md", elem_id=f"{prefix}-evidence-make")
            self.page = gr.DownloadButton(
                "Evidence (HTML)", size="md", visible=False, elem_classes="alone",
                elem_id=f"{prefix}-evidence-card",
            )  # fmt: skip
        self.parts: list[Any] = [self.fold, self.list, self.notes, self.page]
        run = [visitor, current]
        # A line is told as the next button is pressed: neither is dropped for the other.
        every: dict[str, Any] = {**UNQUEUED, "trigger_mode": "multiple"}
        self.list.click(self.judge, run, [self.notes, self.page], **every)
        self.make.click(self.card, run, [self.notes, self.page], **UNQUEUED)

    def show(self, run: Run, report: Report | None) -> dict:
        """The candidates of a run's report."""
        if report is None or not report.shots:
            return self.hidden()
        shown = {self.fold: gr.update(visible=True), self.page: gr.update(visible=False)}
        try:
            judged = evidence_of(run, report)
        except PersonalizationError as error:
            return {**shown, self.list: "", self.notes: html.problems([str(error)])}
        return {**shown, self.list: candidates(judged), self.notes: ""}

    def hidden(self) -> dict:
        """Nothing: there is no run of the visitor's."""
        return {self.fold: gr.update(visible=False)}

    def judge(self, visitor: str, current: str, event: gr.EventData) -> dict:
        """Keep a press or a line."""
        try:
            shot, what, said = key_of(event, least=3)
            run = page_workspace(visitor).run(current)
            judge(run, shot, **({"why": said} if what == "why" else {"verdict": said}))
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}
        return {self.notes: html.hint("Kept."), self.page: gr.update(visible=False)}

    def card(self, visitor: str, current: str) -> dict:
        """The card as a file."""
        try:
            workspace = page_workspace(visitor)
            path = made(workspace, workspace.run(current))
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {self.page: gr.update(value=path, visible=True), self.notes: ""}


def evidence_of(run: Run, report: Report | None = None) -> Evidence:
    """What a run's report shows, and what was said of it. Raises `ReportError`, `AdapterError`."""
    report = report or Report.open(run.folder)
    about = embedded_description(read_header(run.adapter_path))
    if report is None or about is None:
        raise ReportError("Measure the run first: its evidence are the report's pictures.")
    return Evidence.open(run.folder, report, about)


def judge(run: Run, shot: str, **said: str) -> Judgement:
    """Keep a `verdict` or a `why` of the picture of that key. Raises `ReportError`."""
    for judgement in evidence_of(run).judgements:
        if judgement.key == shot:
            return evidence.keep(run.folder, judgement, **said)
    raise ReportError("This picture is no longer in the report: load the page again.")


def made(workspace: Workspace, run: Run) -> str:
    """The card, kept in the run's folder; where it is served. Raises `ReportError`."""
    path = write_atomically(run.folder / "evidence.html", evidence_html.render(evidence_of(run)))
    name = run.folder.name.split("-", 3)[-1]
    return publish_file(workspace, path, f"{name}-evidence.html")


def candidates(judged: Evidence) -> str:
    """Each picture with its two buttons and its line."""
    pairs = zip(judged.report.shots, judged.judgements, strict=True)
    return f'<ul class="candidates">{"".join(_candidate(*pair) for pair in pairs)}</ul>'


def _candidate(shot: Shot, judgement: Judgement) -> str:
    buttons = "".join(
        f'<button type="button" data-verdict="{verdict}" '
        f'aria-pressed="{str(judgement.verdict == verdict).lower()}">{label}</button>'
        for verdict, label in (("chosen", "Choose"), ("rejected", "Reject"))
    )
    prompt = escape(shot.prompt)
    return (
        f'<li data-shot="{judgement.key}"><img src="{html.data_uri(shot.image, SIDE)}" alt="">'
        f"<div><p>{prompt} <span>seed {shot.seed}</span></p><div>{buttons}</div>"
        f'<textarea rows="1" maxlength="{evidence.MAX_WHY}" placeholder="Why" '
        f'aria-label="Why, of {prompt}, seed {shot.seed}">{escape(judgement.why)}</textarea>'
        "</div></li>"
    )
