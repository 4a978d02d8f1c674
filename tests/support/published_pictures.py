"""What is published, embedded and sent to Jobs, as pictures for the documents.

`tests.screenshots --published` draws them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import FRAME, IDLE, LONG, open_tab, pick_example, set_steps, visiting
from tests.support.publishing import (
    Space,
    judge,
    look_at_versions,
    name,
    publish,
    sign_in,
    space,
    with_a_measured_run,
)

WIDTHS = {"": (1280, 900), "-narrow": (390, 844)}
Look = Literal["light", "dark"]
SHOTS: tuple[tuple[Look, str], ...] = (("light", ""), ("light", "-narrow"), ("dark", ""))
PATIENCE = 1_200_000  # milliseconds, for a whole run with its report
STEPS = 200  # of a word on Jobs: long enough to be seen
# A screenshot, and the name of what it shows.
Keep = Callable[[bytes, str], None]
# A name, and parts of the page that stand below each other.
Shown = Callable[[str, Sequence[str]], None]


def draw_published(browser: Browser, keep: Keep) -> None:
    """Evidence, its card, publishing with the model card, versions, Jobs and the embeds."""
    with tempfile.TemporaryDirectory() as home, space(Path(home)) as here:
        with here.page(browser) as page:
            with_a_measured_run(here, page)
            shown = partial(pieces, page, keep)
            evidence_card = draw_evidence(page, shown)
            draw_publishing(page, shown)
            draw_jobs(page, shown)
            page.set_content(evidence_card)
            shown("evidence-card", ["body"])
        draw_embeds(browser, here, keep)


def pieces(page: Page, keep: Keep, name: str, parts: Sequence[str]) -> None:
    """Parts of the page that stand below each other, wide and narrow, and wide in the dark."""
    for look, width in SHOTS:
        across, down = WIDTHS[width]
        page.emulate_media(color_scheme=look)
        page.set_viewport_size({"width": across, "height": down})
        page.evaluate(IDLE)
        keep(around(page, parts), f"{name}-{look}{width}")
    page.emulate_media(color_scheme="light")
    across, down = WIDTHS[""]
    page.set_viewport_size({"width": across, "height": down})


def around(page: Page, parts: Sequence[str], margin: int = 16) -> bytes:
    """A picture of the first part to the last, and of a little around them."""
    boxes = [box for part in parts if (box := page.locator(part).first.bounding_box())]
    scrolled = page.evaluate("scrollY")
    left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes) + scrolled
    right = max(box["x"] + box["width"] for box in boxes)
    bottom = max(box["y"] + box["height"] for box in boxes) + scrolled
    clip = {"x": max(0, left - margin), "y": max(0, top - margin)}
    clip |= {"width": right + margin - clip["x"], "height": bottom + margin - clip["y"]}
    return page.screenshot(animations="disabled", full_page=True, clip=clip)  # type: ignore[arg-type]


def draw_evidence(page: Page, shown: Shown) -> str:
    """The candidates as they are judged; returns the card that comes of them."""
    open_tab(page, "Teach a subject")
    page.locator("#subject-evidence").get_by_text("Evidence").first.click()
    judge(page, 0, "Choose", "crown, ears and colour as in the photos")
    judge(page, 1, "Choose", "stays itself in another place")
    judge(page, 2, "Reject", "the crown is gone")
    expect(page.locator("#subject-evidence-notes")).to_contain_text("Kept", timeout=LONG)
    page.locator("#subject-evidence-make").click()
    expect(page.locator("#subject-evidence-card")).to_be_visible(timeout=LONG)
    shown("evidence", ["#subject-evidence"])
    with page.expect_download() as card:
        page.locator("#subject-evidence-card").click()
    return Path(card.value.path()).read_text()


def draw_publishing(page: Page, shown: Shown) -> None:
    """The form with the model card and the link; then the versions, and two of them drawn."""
    sign_in(page)
    open_tab(page, "Teach a subject")
    page.locator("#subject-publish").click()
    expect(page.locator("#publish-go")).to_be_visible(timeout=LONG)
    name(page, "crowned-dog-lora")
    page.locator("#publish-look").click()
    expect(page.locator("#publish-card")).to_contain_text("Use it", timeout=PATIENCE)
    publish(page, "Published v1")
    shown("publish", ["#take-which", "#stack-publish"])
    publish(page, "Published v2")
    page.locator("#stack-publish").get_by_text("Publish on the Hugging Face Hub").click()
    look_at_versions(page, ["v2", "v1"])
    page.locator("#versions-draw").click()
    expect(page.locator("#versions-comparison img")).to_have_count(8, timeout=PATIENCE)
    shown("versions", ["#take-which", "#stack-versions"])


def draw_jobs(page: Page, shown: Shown) -> None:
    """A word that is taught on Jobs, on its way."""
    open_tab(page, "Teach a word")
    pick_example(page, "word", "crowned-dog")
    set_steps(page, "word", STEPS)
    page.locator("#word-advanced").get_by_text("Advanced").click()
    page.locator("#word-jobs").get_by_text("Train on Hugging Face Jobs").click()
    expect(page.locator("#word-jobs-bound")).to_contain_text("At most", timeout=LONG)
    page.locator("#word-jobs-send").click()
    expect(page.locator("#word-jobs-said")).to_contain_text(f"of {STEPS}", timeout=PATIENCE)
    shown("jobs", ["#teach-word-button", "#word-jobs"])
    page.locator("#word-jobs-cancel").click()
    expect(page.locator("#word-jobs-said")).to_contain_text("cancelled", timeout=LONG)


def draw_embeds(browser: Browser, here: Space, keep: Keep) -> None:
    """What a frame of a post shows: the recorded run, and a stack."""
    stack = "stack=crowned-dog:1,neon:1&prompt=sks%20dog,%20%3Cglow%3E%20style&seed=7"
    for title, query in {"embed": "", "embed-stack": f"&{stack}"}.items():
        address = f"{here.app.url}/?embed=true{query}"
        with visiting(browser, address, here.app.url, *FRAME) as page:
            if query:
                page.locator("#draw-button").click()
                expect(page.locator("#stack-gallery img").first).to_be_visible(timeout=LONG)
            else:
                expect(page.locator(".strengths img.seen")).to_have_count(4, timeout=LONG)
            for look, width in SHOTS:
                page.emulate_media(color_scheme=look)
                page.set_viewport_size({"width": 390 if width else 760, "height": 700})
                page.evaluate(IDLE)
                taken = page.screenshot(animations="disabled", full_page=True)
                keep(taken, f"{title}-{look}{width}")
