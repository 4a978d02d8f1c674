"""Headless Chromium on the app's page, as a visitor has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What Gradio draws around an app on a Space: its font, and the Hub's line above it.
FRAME = ("https://fonts.googleapis.com/", "https://huggingface.co/api/spaces/")
# Twice: what was put off until a frame was drawn is done in the next.
IDLE = """async () => {
    for (let i = 0; i < 2; i++) {
        await new Promise(requestAnimationFrame);
        await new Promise((resolve) => requestIdleCallback(resolve, { timeout: 5000 }));
    }
}"""
LONG = 120_000  # milliseconds: what a slow machine may need for six steps


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's own Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visiting(
    browser: Browser, url: str, *also: str, asked: list[str] | None = None, **context: Any
) -> Iterator[Page]:
    """A new visitor, who must not be sent anywhere but to the app, nor meet a script's error.

    `also`: addresses that may be asked beside the app's. `asked` takes each address that the page
    asks for. `context`: of Playwright's `new_context`.
    """
    visitor = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
    page = visitor.new_page()
    page.route(lambda url: url.startswith(FRAME), lambda route: route.abort())
    elsewhere: list[str] = []
    errors: list[str] = []
    here = (url, "data:", "blob:", *also)
    page.on("request", lambda r: None if r.url.startswith(here) else elsewhere.append(r.url))
    if asked is not None:
        page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
    yield page
    assert elsewhere == []
    assert errors == []
    visitor.close()


def newest_workspace(home: Path) -> Path:
    """The folder of who came last: a browser knows its name, in a form that it alone reads."""
    folders = [path for path in (home / "workspaces").iterdir() if path.is_dir()]
    return max(folders, key=lambda path: path.stat().st_mtime_ns)


def open_tab(page: Page, name: str) -> None:
    """Gradio puts the values of a tab's fields into them only once all of it is there."""
    page.get_by_role("tab", name=name).click()
    page.evaluate(IDLE)


def set_steps(page: Page, tab: str, steps: int) -> None:
    page.locator(f"#{tab}-advanced").get_by_text("Advanced").click()
    page.locator(f"#{tab}-advanced").get_by_label("Steps").fill(str(steps))


def pick_example(page: Page, tab: str, name: str) -> None:
    page.locator(f"#{tab}-examples [data-key='{name}']").click()
    expect(page.locator(f"#{tab}-crops img")).to_have_count(5, timeout=LONG)
