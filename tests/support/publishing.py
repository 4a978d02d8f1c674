"""The app with a sign-in and a Hub on the loopback, and somebody in a browser who publishes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from personalization.bases.catalog import ASSETS
from personalization.evaluation import report_html
from personalization.evaluation.report import Report
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspaces
from tests.support.browser import FRAME, LONG, open_tab, visiting
from tests.support.hub_jobs import JobsHub, jobs_hub
from tests.support.hub_server import Repository
from tests.support.openid import provider
from tests.support.server import App, running

TOKEN = "hf_a_token_that_nobody_may_find_again"
THEIRS = {"README.md": b"mine", "model.safetensors": b"x"}  # in visitor/taken


@dataclass(frozen=True)
class Space:
    """The app as on a Space, and the Hub that whoever signs in there reaches."""

    app: App
    hub: JobsHub
    provider: str

    @contextmanager
    def page(self, browser: Browser) -> Iterator[Page]:
        """A new visitor's."""
        with visiting(browser, self.app.url, self.provider, *FRAME) as page:
            yield page

    def workspace(self) -> Path:
        """The newest visitor's folder."""
        used = (self.app.home / "workspaces").glob("*/used")
        return max(used, key=lambda path: path.stat().st_mtime_ns).parent


@contextmanager
def space(
    home: Path, served: Mapping[str, Repository] | None = None, **environment: str
) -> Iterator[Space]:
    """Until its end. `served`: what else is on the Hub."""
    there = {"visitor/taken": Repository(THEIRS), **(served or {})}
    with jobs_hub(there) as server, provider(TOKEN) as signing:
        server.token = TOKEN
        reached = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", **environment}
        with running(home, **signing, **reached) as app:
            yield Space(app, server, signing["OPENID_PROVIDER_URL"])


@contextmanager
def publishing(browser: Browser, home: Path, **environment: str) -> Iterator[tuple[Page, JobsHub]]:
    """One visitor's page, and the Hub."""
    with space(home, **environment) as here, here.page(browser) as page:
        yield page, here.hub


def sign_in(page: Page) -> None:
    """By the button beside “Publish”."""
    open_publishing(page)
    with page.expect_navigation():
        page.locator("#publish-sign-in").click()
    expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
    open_publishing(page)
    expect(page.locator("#publish-sign-in")).to_contain_text("visitor", timeout=LONG)


def open_publishing(page: Page) -> None:
    open_tab(page, "Stack adapters")
    if not page.locator("#publish-go").is_visible():
        page.get_by_text("Publish on the Hugging Face Hub").click()
    expect(page.locator("#publish-go")).to_be_visible(timeout=LONG)


def name(page: Page, name: str) -> None:
    page.locator("#publish-name input, #publish-name textarea").first.fill(name)


def publish(page: Page, said: str) -> None:
    """A click on “Publish”, until the page says this."""
    page.locator("#publish-go").click()
    expect(page.locator("#publish-notes")).to_contain_text(said, timeout=LONG)


def look_at_versions(page: Page, tags: list[str]) -> None:
    """The list, until it has these."""
    if not page.locator("#versions-look").is_visible():
        page.get_by_text("Versions on the Hub").click()
    page.locator("#versions-look").click()
    expect(page.locator("#versions-list li b")).to_have_text(tags, timeout=LONG)


def judge(page: Page, number: int, verdict: str, why: str) -> None:
    """What is said of one of the report's pictures."""
    candidate = page.locator("#subject-candidates li").nth(number)
    candidate.get_by_role("button", name=verdict).click()
    expect(candidate.get_by_role("button", name=verdict)).to_have_attribute("aria-pressed", "true")
    line = candidate.get_by_role("textbox")
    line.fill(why)
    line.press("Enter")


def with_a_measured_run(here: Space, page: Page) -> None:
    """The recorded run as the visitor's own, and its adapter in their library."""
    folder = here.workspace() / "runs" / "20260101-000000-000000-sks-dog"
    shutil.copytree(ASSETS / "recorded", folder)
    report = Report.open(folder)
    assert report
    (folder / "report.html").write_text(report_html.render(report))
    owner = Workspaces(here.app.home / "workspaces").open(here.workspace().name)
    owner.library.add(Run.open(folder).adapter_path, "My dog")
    page.reload()
    expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
