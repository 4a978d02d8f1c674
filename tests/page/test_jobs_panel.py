"""The panel of Hugging Face Jobs, by its handlers and a Hub on the loopback."""

from __future__ import annotations

import time

import gradio as gr
import pytest

from personalization.page.jobs_endpoints import (
    cancel_job,
    list_job_hardware,
    look_at_job,
    send_job,
)
from personalization.page.jobs_panel import JobsPanel, titled, told
from personalization.page.requests import _endpoint
from personalization.page.run_endpoints import continue_run
from personalization.page.run_panel import RunPanel
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
        visitor = gr.BrowserState()
        panel = JobsPanel("word", visitor)
        panel.panel = RunPanel("word", visitor, gr.Button())
        yield panel


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
    assert "taught on Hugging Face Jobs" in shown[panel.panel.status]["value"]
    with pytest.raises(gr.Error, match="is on Hugging Face Jobs"):  # not learned here meanwhile
        next(_endpoint(continue_run)(workspace.id, run.folder.name, False, False))
    refused = panel.panel.carry_on(workspace.id, run.folder.name)
    assert "is on Hugging Face Jobs" in refused[panel.panel.status]["value"]
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


def test_a_program_sends_looks_and_cancels(hub):
    workspace = workspaces().new()
    run = begun(workspace.folder / "runs")
    machines = _endpoint(list_job_hardware)(hub.token)
    assert machines[0]["name"] == "t4-small"
    assert machines[0]["dollars_an_hour"] == pytest.approx(0.4)
    asked = (workspace.id, run.folder.name)
    sent = _endpoint(send_job)(*asked, "t4-small", hub.token, 30)
    assert sent["most"] == 0.2
    with pytest.raises(gr.Error, match="on its way already"):
        _endpoint(send_job)(*asked, "t4-small", hub.token, 30)
    assert _endpoint(look_at_job)(*asked, hub.token)["stage"] in ("waiting", "running")
    assert _endpoint(cancel_job)(*asked, hub.token) == {"run": run.folder.name}
    assert not hub.repositories
    for ask in (look_at_job, cancel_job):
        with pytest.raises(gr.Error, match="is not on Hugging Face Jobs"):
            _endpoint(ask)(*asked, hub.token)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "t5-huge"}, "no machine “t5-huge”. Take one of t4-small, cpu-basic"),
        ({"minutes": 0}, "1 to 360 minutes"),
        ({"token": ""}, "not signed in"),
        ({"token": "hf_old"}, "sign in again"),
        ({"run": "nowhere"}, "not in your workspace"),
    ],
)
def test_what_cannot_be_sent_is_said_to_a_program(hub, changes, said):
    workspace = workspaces().new()
    run = begun(workspace.folder / "runs")
    asked = {"session": workspace.id, "run": run.folder.name, "machine": "t4-small"}
    asked |= {"token": hub.token, "minutes": 30} | changes
    with pytest.raises(gr.Error, match=said):
        _endpoint(send_job)(*asked.values())
    assert not hub.repositories
    assert run.photo_hashes
