"""The app with a sign-in and a Hub on the loopback, and somebody in a browser who publishes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import FRAME, LONG, open_tab, visiting
from tests.support.hub_server import Hub, Repository, hub
from tests.support.openid import provider
from tests.support.server import running

TOKEN = "hf_a_token_that_nobody_may_find_again"
THEIRS = {"README.md": b"mine", "model.safetensors": b"x"}  # in visitor/taken


@contextmanager
def publishing(browser: Browser, home: Path, **environment: str) -> Iterator[tuple[Page, Hub]]:
    """A visitor's page, and the Hub that whoever signs in there reaches."""
    with hub({"visitor/taken": Repository(THEIRS)}) as server, provider(TOKEN) as space:
        server.token = TOKEN
        reached = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", **environment}
        signing = (space["OPENID_PROVIDER_URL"], *FRAME)
        with (
            running(home, **space, **reached) as app,
            visiting(browser, app.url, *signing) as page,
        ):
            yield page, server


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
