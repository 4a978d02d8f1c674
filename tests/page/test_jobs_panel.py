"""The panel of Hugging Face Jobs, by its handlers and a Hub on the loopback."""

from __future__ import annotations

import time

import gradio as gr
import pytest

from personalization.page.jobs_panel import JobsPanel, titled, told
from personalization.page.session import workspaces
from personalization.sharing import jobs
from tests.sharing.test_jobs import begun
from tests.support.hub_jobs import jobs_hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with jobs_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def panel():
    with gr.Blocks():
        yield JobsPanel("word", gr.BrowserState())


def token(hub) -> gr.OAuthToken:
    return gr.OAuthToken(hub.token, "jobs", 9e9)


def order(panel: JobsPanel, hub) -> dict:
    found = jobs.hardware(hub.token)
    return {panel.choices: found, panel.machine: "t4-small", panel.minutes: 30}


def test_the_price_is_said_before(panel, hub):
    values = order(panel, hub)
    assert "At most $0.20" in panel.price(values)
    assert titled(panel.chosen(values)) == "$0.40 an hour: Nvidia T4 - small, 16 GB"


def test_a_job_that_failed_is_said_and_deleted_and_the_run_is_kept(panel, hub):
    workspace = workspaces().new()
    run = begun(workspace.folder / "runs")
    hub.fails = True
    shown = panel.go(order(panel, hub), hub.token, workspace, run)
    assert shown[panel.away] == run.folder.name
    assert "At most $0.20" in shown[panel.said]
    assert run.stop_requested  # nothing learns it here meanwhile
    assert panel.find(workspace)[panel.away] == run.folder.name  # a page that comes back
    signed_out = panel.look(workspace.id, run.folder.name, None)
    assert "sign in again" in signed_out[panel.said]
    until = time.monotonic() + 20
    while "ended before" not in (
        said := panel.look(workspace.id, run.folder.name, token(hub))[panel.said]
    ):
        assert time.monotonic() < until
    assert "The run is kept here" in said
    assert not hub.repositories
    assert panel.find(workspace)[panel.away] == ""


def test_a_job_is_cancelled_and_deleted(panel, hub):
    workspace = workspaces().new()
    run = begun(workspace.folder / "runs")
    panel.go(order(panel, hub), hub.token, workspace, run)
    said = panel.cancel(workspace.id, run.folder.name, token(hub))[panel.said]
    assert "cancelled" in said
    assert not hub.repositories


def test_progress_is_escaped():
    sent = jobs.Sent("j", "v/r", "https://x", 0.2)
    said = told(sent, jobs.Progress("running", doing="<b>"))
    assert "<b>" not in said
