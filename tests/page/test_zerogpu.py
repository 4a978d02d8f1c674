"""The app on ZeroGPU's terms, by a stand-in: forks, pickles, refusals, and a kill at overrun."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import expect

from personalization.adapters.adapter import read
from personalization.bases.catalog import CATALOG
from personalization.page.lending import Refusal, fits, granted
from personalization.workspaces.workspace import Workspaces
from tests.support.browser import LONG, chromium, open_tab, visiting
from tests.support.scheduler import token
from tests.support.server import ONE_CORE, ROOT, App, running

DOGS = sorted((ROOT / "assets" / "examples" / "crowned-dog").glob("*.png"))[:3]
STANDIN = str(ROOT / "tests" / "support" / "zerogpu")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    root = tmp_path_factory.mktemp("zero")
    choices = {"PERSONALIZATION_SLICE": "16", "PERSONALIZATION_REPORT": "4", "ZERO_ALLOWANCE": "30"}
    where = {"PYTHONPATH": STANDIN, "ZERO_LOG": str(root / "log")}
    with running(root, **where, **choices, **ONE_CORE) as app:
        yield app


def visitor(app: App, name: str, **about: object) -> Client:
    headers = {"X-IP-Token": token(name, **about)}
    patient = {"timeout": LONG / 1000}
    return Client(
        app.url,
        verbose=False,
        download_files=str(app.home / name),
        headers=headers,
        httpx_kwargs=patient,
    )


# To look first takes one core seconds of a slice.
WITHOUT_A_LOOK = json.loads(CATALOG["pocket"].recipes["word"].changed(annotate=False).to_json())


def train(client: Client, steps: int, session: str = "", **given: object):
    photos = [handle_file(str(path)) for path in DOGS]
    return client.predict(
        photos, "<w>", "dog", "creature", steps, 0, session,
        **given, api_name="/train_word",
    )  # fmt: skip


def allocations(app: App, user: str, task: str) -> list[dict]:
    path = app.home / "log"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [entry for entry in entries if (entry["user"], entry["task"]) == (user, task)]


@pytest.mark.slow
def test_a_run_longer_than_one_allocation_finishes_over_several(app):
    client = visitor(app, "pro", left=2400, auth="pro")
    status, adapter, pictures = train(client, 60)
    said, figures, page = client.predict(status["session"], status["run"], api_name="/report")
    left_out = ["lora", "lokr", "full", "unpreserved"]
    taught, table, sheet = client.predict(
        status["session"], status["run"], left_out, api_name="/teach_spectrum"
    )
    own = [a for a in client.predict(status["session"], api_name="/list_adapters") if a["own"]]
    events = client.config["dependencies"]
    client.close()
    # The place in Gradio's queue is shown by Gradio, where a slice or a report's part will be seen.
    shown = [event for event in events if event["show_progress"] == "minimal"]
    assert len([event for event in shown if event["queue"] and event["show_progress_on"]]) == 4
    assert status["state"] == "finished"
    assert read(Path(adapter)).description.recipe["steps done"] == 60
    assert len(pictures) >= 3
    training = allocations(app, "pro", "gpu_train")
    assert len(training) >= 2
    assert {entry["ended"] for entry in training} == {"done"}  # it left in time, each time
    assert all(entry["asked"] <= 16 for entry in training)
    assert said["state"] == "finished"
    assert said["verdict"] == figures["verdict"]
    assert figures["figures"]["pictures"] == said["done"] == said["total"]
    assert figures["verdict"].split(".")[0] in Path(page).read_text()
    assert [a["strength"] for a in own] == [said["strength"]]
    measuring = allocations(app, "pro", "gpu_measure")
    assert measuring
    assert {entry["ended"] for entry in measuring} == {"done"}
    assert all(entry["asked"] <= 16 for entry in measuring)
    assert taught["state"] == "finished"
    assert [row["name"] for row in table["rows"]][-1] == "a word"
    assert "The whole spectrum" in Path(sheet).read_text()
    in_turn = allocations(app, "pro", "gpu_spectrum")
    assert in_turn
    assert {entry["ended"] for entry in in_turn} == {"done"}
    assert all(entry["asked"] <= 16 for entry in in_turn)


@pytest.mark.slow
def test_a_slice_shrinks_to_what_is_left_and_what_was_learned_is_there_without_pictures(app):
    client = visitor(app, "late", left=23, runs=1)  # 16 seconds are counted as 24, 15 as 23
    # A slice of seconds holds it.
    status, adapter, pictures = train(client, 1, recipe=WITHOUT_A_LOOK)
    client.close()
    assert status["state"] == "finished"
    assert read(Path(adapter)).description.recipe["steps done"] == 1
    assert [entry["asked"] for entry in allocations(app, "late", "gpu_train")] == [15]
    assert not pictures
    assert "ZeroGPU lends no card" in status["notes"][-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"left": 5, "auth": "regular"}, "5 are left.*PRO has 40 minutes"),
        ({"exp": 0}, "token for this page has ended.*Reload"),
    ],
)
def test_a_refusal_is_said_in_words_and_the_run_is_kept(app, about, said):
    before = len(list((app.home / "workspaces").rglob("run.json")))
    client = visitor(app, f"refused-{len(about)}", **about)
    with pytest.raises(AppError, match=said):
        train(client, 4)
    client.close()
    assert len(list((app.home / "workspaces").rglob("run.json"))) == before + 1


@pytest.mark.slow
def test_a_run_that_was_refused_goes_on_when_there_are_seconds_again(app):
    workspace = Workspaces(app.home / "workspaces").new()
    today = visitor(app, "today", left=5)
    with pytest.raises(AppError, match=r"5 are left.*12.0 h.*a free account has 5 minutes"):
        train(today, 4, workspace.id)
    today.close()
    (run,) = workspace.runs()
    tomorrow = visitor(app, "tomorrow", left=120)
    status, adapter, _ = tomorrow.predict(workspace.id, run.folder.name, api_name="/continue_run")
    tomorrow.close()
    assert (status["run"], status["state"]) == (run.folder.name, "finished")
    assert read(Path(adapter)).description.recipe["steps done"] == 4


@pytest.mark.browser
def test_who_waits_for_the_card_sees_the_place_in_the_queue(app):
    busy = visitor(app, "busy", left=2400, auth="pro")
    photos = [handle_file(str(path)) for path in DOGS]
    job = busy.submit(photos, "<q>", "dog", "creature", 400, api_name="/train_word")
    headers = {"X-IP-Token": token("second", left=120)}
    try:
        assert any(status["state"] == "learning" for status, *_ in job)
        with (
            chromium() as browser,
            visiting(browser, app.url, extra_http_headers=headers) as page,
        ):
            open_tab(page, "Stack adapters")
            page.locator("#stack-prompt textarea").fill("a dog")
            page.locator("#draw-button").click()
            place = page.locator("#stack-notes .progress-text")
            expect(place).to_contain_text(re.compile(r"queue: \d+/\d+"), timeout=LONG)
            frame = page.locator("#stack-notes").bounding_box()
            assert frame
            assert frame["height"] > 40, "it can be read"
    finally:
        job.cancel()
        busy.close()


def test_less_is_asked_for_until_it_is_granted_or_not_worth_it():
    def lends(left: int, asked: list[int]):
        def ask(seconds: int):
            asked.append(seconds)
            counted = round(1.5 * (seconds + 10))
            if counted > left:
                message = f"exceeded your ZeroGPU quota ({counted}s requested vs. {left}s left)."
                raise gr.Error(message, title="ZeroGPU quota exceeded")
            yield seconds

        return ask

    plenty: list[int] = []
    assert list(granted(lends(90, plenty), 50, 10)) == [50]
    some: list[int] = []
    assert list(granted(lends(60, some), 50, 10)) == [30]
    assert some == [50, 30]
    few: list[int] = []
    with pytest.raises(gr.Error):
        list(granted(lends(20, few), 50, 10))
    assert few == [50]


def test_only_what_zerogpu_refuses_is_a_refusal():
    assert Refusal.of(gr.Error("No such word.")) is None
    assert Refusal.of(gr.Error("GPU task aborted", title="ZeroGPU worker error")) is None
    busy = Refusal.of(gr.Error("No GPU was available after 60s. x", title="ZeroGPU quota exceeded"))
    assert busy is not None
    assert busy.passes


def test_the_estimate_says_whose_day_holds_it():
    assert "of the 2 minutes a day that anyone has" in fits(44)
    assert "more than the 2 minutes" in fits(100)
    assert "a free account has 5" in fits(100)
    assert "PRO has 40" in fits(600)
    assert "several days" in fits(6000)
