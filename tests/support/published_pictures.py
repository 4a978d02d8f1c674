"""What is published, as pictures for the documents; `tests.screenshots` draws them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import IDLE, open_tab, pick_example, set_steps
from tests.support.publishing import (
    look_at_versions,
    name,
    open_publishing,
    publish,
    publishing,
    sign_in,
)

WIDTHS = {"": (1280, 900), "-narrow": (390, 844)}
PATIENCE = 1_200_000  # milliseconds, for a whole run with its report
# A screenshot, and the name of what it shows.
Keep = Callable[[bytes, str], None]


def draw_published(browser: Browser, keep: Keep, steps: int | None) -> None:
    """Evidence, its card, publishing with the model card, and versions; wide and narrow."""
    with (
        tempfile.TemporaryDirectory() as home,
        publishing(browser, Path(home)) as (page, _server),
    ):
        sign_in(page)
        open_tab(page, "Teach a subject")
        pick_example(page, "subject", "crowned-dog")
        if steps:
            set_steps(page, "subject", steps)
        page.locator("#teach-subject-button").click()
        expect(page.locator("#subject-report img").first).to_be_visible(timeout=PATIENCE)
        page.locator("#subject-evidence").get_by_text("Evidence").first.click()
        judge(page, 0, "Choose", "its crown and its ears are right")
        judge(page, 1, "Reject", "the crown is gone")
        pieces(page, keep, "evidence", "#subject-evidence")
        page.locator("#subject-evidence-make").click()
        with page.expect_download() as card:
            page.locator("#subject-evidence-card").click()
        page.locator("#subject-send").click()
        open_publishing(page)
        page.locator("#take-which input").click()
        page.get_by_role("option", name="sks dog").first.click()
        name(page, "crowned-dog-lora")
        page.locator("#publish-look").click()
        expect(page.locator("#publish-card")).to_contain_text("Use it", timeout=PATIENCE)
        publish(page, "Published v1")
        publish(page, "Published v2")
        pieces(page, keep, "publish", "#stack-publish")
        look_at_versions(page, ["v2", "v1"])
        page.locator("#versions-draw").click()
        expect(page.locator("#versions-comparison img")).to_have_count(4, timeout=PATIENCE)
        pieces(page, keep, "versions", "#stack-versions")
        page.set_content(Path(card.value.path()).read_text())
        pieces(page, keep, "evidence-card", "body")


def judge(page: Page, number: int, verdict: str, why: str) -> None:
    """What is said of one of the pictures."""
    candidate = page.locator("#subject-candidates li").nth(number)
    candidate.get_by_role("button", name=verdict).click()
    line = candidate.get_by_role("textbox")
    line.fill(why)
    line.blur()
    expect(page.locator("#subject-evidence-notes")).to_contain_text("Kept", timeout=PATIENCE)


def pieces(page: Page, keep: Keep, name: str, part: str) -> None:
    """A part of the page, at either width."""
    for width, (across, down) in WIDTHS.items():
        page.set_viewport_size({"width": across, "height": down})
        page.evaluate(IDLE)
        keep(page.locator(part).screenshot(animations="disabled"), f"{name}{width}")
    across, down = WIDTHS[""]
    page.set_viewport_size({"width": across, "height": down})
