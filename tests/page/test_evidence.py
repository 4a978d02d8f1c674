"""What is said of a run's pictures, on the page and by program, and the card that comes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gradio as gr
import pytest

from personalization.bases.catalog import ASSETS
from personalization.evaluation import evidence
from personalization.page.evidence import candidates, evidence_of
from personalization.page.evidence_endpoints import evidence_card, judge_picture, list_evidence
from personalization.page.requests import _endpoint
from personalization.page.session import workspaces
from personalization.training.run import Run


@pytest.fixture
def run() -> tuple[str, str]:
    """A session with the recorded run."""
    workspace = workspaces().new()
    folder = workspace.folder / "runs" / "20260101-000000-000000-sks-dog"
    shutil.copytree(ASSETS / "recorded", folder)
    return workspace.id, folder.name


def test_a_program_judges_and_gets_the_card(run):
    first, second, *others = _endpoint(list_evidence)(*run)
    kept = _endpoint(judge_picture)(*run, first["picture"], "chosen", "its crown")
    assert kept == first | {"verdict": "chosen", "why": "its crown"}
    _endpoint(judge_picture)(*run, second["picture"], "rejected", "")
    assert [each["verdict"] for each in _endpoint(list_evidence)(*run)] == [
        "chosen", "rejected", *("" for _ in others),
    ]  # fmt: skip
    card = Path(_endpoint(evidence_card)(*run)).read_text()
    assert "its crown" in card
    assert f"Rejected: 1 of {len(others) + 2}" in card
    assert "Failures that the report found" in card


@pytest.mark.parametrize(
    ("picture", "verdict", "why", "said"),
    [
        ("nowhere", "chosen", "", "no longer in the report"),
        ("", "maybe", "", "verdict is the text “maybe”"),
        ("", "chosen", "x" * 201, "why has 201 characters: at most 200"),
    ],
)
def test_what_cannot_be_said_is_refused(run, picture, verdict, why, said):
    with pytest.raises(gr.Error, match=said):
        _endpoint(judge_picture)(*run, picture, verdict, why)


def test_a_tick_and_a_line_that_come_at_once_are_both_kept(run):
    session, name = run
    opened = Run.open(workspaces().open(session).folder / "runs" / name)
    stale = evidence_of(opened).judgements[0]
    evidence.keep(opened.folder, stale, verdict="rejected")
    evidence.keep(opened.folder, stale, why="the crown  is gone")
    kept = evidence_of(opened).judgements[0]
    assert (kept.verdict, kept.why) == ("rejected", "the crown is gone")


def test_the_page_shows_what_was_said_as_text(run):
    session, name = run
    opened = Run.open(workspaces().open(session).folder / "runs" / name)
    key = evidence_of(opened).judgements[0].key
    _endpoint(judge_picture)(*run, key, "rejected", '"><script>')
    shown = candidates(evidence_of(opened))
    assert "<script>" not in shown
    assert shown.count('aria-pressed="true"') == 1
    assert shown.count("<img") == len(evidence_of(opened).judgements)


@pytest.mark.parametrize("key", ["", "[]", "1", '["a","why"]', json.dumps([1, 2, 3])])
def test_what_no_button_sends_is_a_sentence(run, key):
    import app
    from personalization.page.evidence import EvidencePanel

    panel = next(
        fn.fn.__self__
        for fn in app.demo.fns.values()
        if isinstance(getattr(fn.fn, "__self__", None), EvidencePanel)
    )
    event = gr.EventData(None, {"key": key})
    (reply,) = (v for k, v in panel.judge(*run, event).items() if k is panel.notes)
    assert 'role="alert"' in reply
