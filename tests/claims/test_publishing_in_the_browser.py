"""Signed in, in a browser: publish and go back, judge the evidence, have a run learned elsewhere.

The real page, and a Hub with its Jobs on the loopback.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from playwright.sync_api import Page, expect

from personalization.sharing.jobs import SENT
from personalization.training.run import Run
from tests.support.browser import LONG, open_tab, pick_example, set_steps
from tests.support.hub_server import Hub
from tests.support.publishing import (
    THEIRS,
    TOKEN,
    judge,
    look_at_versions,
    name,
    open_publishing,
    publish,
    sign_in,
    with_a_measured_run,
)

pytestmark = pytest.mark.browser


def found(token: str, folder: Path) -> list[Path]:
    """The files below the folder that hold the token."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if token.encode() in path.read_bytes()]


def look_at_hub(page: Page, repository: str) -> None:
    open_tab(page, "Stack adapters")
    page.get_by_text("Add from the Hugging Face Hub").click()
    page.locator("#hub-name input, #hub-name textarea").first.fill(repository)
    page.locator("#hub-look").click()


def test_a_private_adapter_opens_to_who_signs_in(here, browser):
    with here.page(browser) as page:
        look_at_hub(page, "someone/secret")
        expect(page.locator("#hub-notes")).to_contain_text("sign in", timeout=LONG)
        with page.expect_navigation():
            page.locator("#sign-in").click()
        expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
        look_at_hub(page, "someone/secret")
        expect(page.locator("#sign-in")).to_contain_text("visitor")
        page.locator("#hub-add").click()
        expect(page.locator("#slot-2")).to_contain_text("sks dog", timeout=LONG)


def refused(page: Page, server: Hub) -> None:
    """What can be in the way of who is signed in, as the page says it."""
    name(page, "someone/mug")
    publish(page, "no owner before it")
    name(page, "taken")
    publish(page, "this app did not publish it")
    name(page, "mug-lora")
    server.may_write = False
    publish(page, "agree that it creates repositories")
    server.may_write = True
    server.stops_halfway = True
    publish(page, "stopped halfway, so nothing was published")
    server.stops_halfway = False
    server.token = "hf_another"  # as if the sign-in had run out
    publish(page, "Your sign-in has ended")
    server.token = TOKEN
    assert not server.repositories["visitor/mug-lora"].files


def test_who_signs_in_publishes_gets_the_link_and_finds_the_versions(here, browser):
    server = here.hub
    with here.page(browser) as page:
        open_publishing(page)
        publish(page, "You are not signed in")
        sign_in(page)
        refused(page, server)
        page.locator("#publish-look").click()
        expect(page.locator("#publish-card")).to_contain_text("Use it", timeout=LONG)
        publish(page, "Published v1")
        address = f"{server.url}/visitor/mug-lora"
        expect(page.locator("#publish-notes a")).to_have_attribute("href", address)
        publish(page, "Published v2")
        page.get_by_label("Only I see it").uncheck()
        publish(page, "is private, and this version is to be public")

        look_at_versions(page, ["v2", "v1"])
        page.locator("#versions-draw").click()
        expect(page.locator("#versions-comparison img")).to_have_count(8, timeout=LONG)
        page.get_by_role("button", name="Go back to v1").click()
        expect(page.locator("#versions-notes")).to_contain_text("is v1 again", timeout=LONG)
        assert found(TOKEN, here.app.home) == []  # workspaces, served files and the log
        assert len(server.repositories["visitor/mug-lora"].commits) == 2
        assert server.repositories["visitor/taken"].files == THEIRS


def test_what_is_chosen_and_rejected_is_in_the_published_repository(here, browser):
    with here.page(browser) as page:
        with_a_measured_run(here, page)
        open_tab(page, "Teach a subject")
        page.locator("#subject-evidence").get_by_text("Evidence").first.click()
        judge(page, 0, "Choose", "its crown | and ears")
        judge(page, 1, "Reject", "the crown is gone")
        expect(page.locator("#subject-evidence-notes")).to_contain_text("Kept")
        page.locator("#subject-evidence-make").click()
        with page.expect_download() as card:
            page.locator("#subject-evidence-card").click()
        told = Path(card.value.path()).read_text()
        assert "its crown | and ears" in told
        assert "the crown is gone" in told

        sign_in(page)
        open_tab(page, "Teach a subject")
        page.locator("#subject-publish").click()
        expect(page.locator("#take-which input")).to_have_value(re.compile("sks dog"), timeout=LONG)
        name(page, "my-dog")
        publish(page, "Published v1")
    files = here.hub.repositories["visitor/my-dog"].files
    assert "the crown is gone" in files["evidence.html"].decode()
    said = json.loads(files["evidence.json"])
    assert "the crown is gone" in json.dumps(said)
    card_text = ModelCard(files["README.md"].decode()).text
    assert r"| chosen | its crown \| and ears |" in card_text
    assert "| rejected | the crown is gone |" in card_text
    assert not [name for name in files if "photo" in name]


def test_a_run_is_learned_on_jobs_and_comes_back_into_the_library(here, browser):
    server = here.hub
    with here.page(browser) as page:
        sign_in(page)
        open_tab(page, "Teach a word")
        pick_example(page, "word", "crowned-dog")
        set_steps(page, "word", 2)
        page.locator("#word-jobs").get_by_text("Train on Hugging Face Jobs").click()
        machine = page.locator("#word-jobs-machine input")
        expect(machine).to_have_value("$0.40 an hour: Nvidia T4 - small, 16 GB", timeout=LONG)
        page.locator("#word-jobs-minutes input").fill("30")
        expect(page.locator("#word-jobs-bound")).to_contain_text("At most $0.20", timeout=LONG)

        server.may_run = False  # the sign-in has not the scope
        page.locator("#word-jobs-send").click()
        said = page.locator("#word-jobs-said")
        expect(page.locator("#word-setting-notes")).to_contain_text(
            "does not allow this app to run jobs", timeout=LONG
        )
        assert not [name for name in server.repositories if "job" in name]
        server.may_run = True
        page.locator("#word-jobs-send").click()
        expect(said).to_contain_text("At most $0.20", timeout=LONG)
        expect(page.locator("#word-status")).to_contain_text("taught on Hugging Face Jobs")
        (job,) = server.jobs.values()
        assert (job.spec["flavor"], job.spec["timeoutSeconds"]) == ("t4-small", 1800)
        assert any(part.startswith("torch") for part in job.spec["command"])

        page.reload()  # it goes on
        expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
        expect(said).to_contain_text("At most $0.20", timeout=LONG)
        expect(said).to_contain_text("It is back, and in your library.", timeout=2 * LONG)
        expect(page.locator("#word-gallery img").first).to_be_visible(timeout=LONG)
        (run,) = [
            run
            for run in (here.workspace() / "runs").iterdir()
            if (run / "adapter.safetensors").exists()
        ]
        assert not (run / SENT).exists()
        assert Run.open(run).state.status == "finished"
        assert [name for name in server.repositories if "job" in name] == []
        (sent,) = set(server.deleted[1:])  # the first one was refused
        assert server.deleted.count(sent) == 2  # with the photos, by the job; and what it learned
        assert found(TOKEN, here.app.home) == []
        open_tab(page, "Stack adapters")
        page.locator("#stack-add input").click()
        expect(page.get_by_role("option", name="<king>").first).to_be_visible()
