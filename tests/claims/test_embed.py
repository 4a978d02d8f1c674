"""The app inside somebody's post: the recorded run and stacks, in frames of another site's page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.support import real_base
from tests.support.browser import FRAME, LONG, open_tab, visiting
from tests.support.server import ROOT

STEPS = json.loads((ROOT / "assets" / "recorded" / "state.json").read_text())["step"]

pytestmark = pytest.mark.browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def post() -> Iterator[str]:
    serve = partial(Quiet, directory=str(ROOT / "docs"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/post/"
        server.shutdown()


def seen(page: Page | FrameLocator) -> list[str]:
    """The pictures that the slider shows now."""
    shown = page.locator(".strengths img.seen")
    expect(shown).to_have_count(4, timeout=LONG)
    return [shown.nth(i).get_attribute("alt") or "" for i in range(4)]


@pytest.mark.parametrize("width", [320, 760])
def test_a_frame_opens_on_the_recorded_run_and_on_nothing_else(app, browser, width):
    window = {"viewport": {"width": width, "height": 700}}
    before = set((app.home / "workspaces").glob("*/runs"))
    with visiting(browser, f"{app.url}/?embed=true", app.url, **window) as page:
        seen(page)
        expect(page.locator("#subject-recorded")).to_contain_text("Recorded on")
        for hidden in ("#head", ".tab-container", "#subject-photos", ".foot", "footer"):
            expect(page.locator(hidden).first).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert set((app.home / "workspaces").glob("*/runs")) == before


# Within one turn of the browser's loop: nothing can have been asked of the app.
SLIDE = """(input) => {
    input.value = '0';
    input.dispatchEvent(new Event('input', { bubbles: true }));
    const seen = input.closest('.strengths').querySelectorAll('img.seen');
    return [...seen].map((image) => image.alt);
}"""


def test_the_slider_changes_the_pictures_in_the_browser_at_once(app, browser):
    with visiting(browser, f"{app.url}/?embed=true", app.url) as page:
        before = seen(page)
        after = page.locator(".strengths input").evaluate(SLIDE)
        assert len(after) == 4
        assert all(alt.endswith("strength 0") for alt in after)
        assert not set(after) & set(before)


def test_the_recorded_run_is_watched_without_training(app, browser):
    with visiting(browser, f"{app.url}/?run=recorded", app.url) as page:
        expect(page.locator("#subject-report")).to_contain_text("strength", timeout=LONG)
        page.locator("#subject-watch").click()
        expect(page.locator("#subject-status")).to_contain_text(f"of {STEPS}")
        expect(page.locator("#subject-strengths")).to_be_visible(timeout=LONG)


def test_a_copied_link_opens_the_same_stack_for_somebody_else(app, browser):
    permissions = {"permissions": ["clipboard-read", "clipboard-write"]}
    query = "?stack=someone/dogs:0.5,neon:1&prompt=sks%20dog%20on%20the%20moon&seed=7"
    with visiting(browser, f"{app.url}/{query}", app.url, **permissions) as page:
        expect(page.locator("#stack-prompt textarea")).to_have_value("sks dog on the moon")
        expect(page.locator("#stack-link-notes")).to_be_empty()
        page.locator("#stack-copy-link").click()
        expect(page.locator("#stack-link textarea, #stack-link input")).to_have_value(
            f"{app.url}/?stack=someone/dogs/dog.safetensors:0.5,neon:1"
            "&prompt=sks%20dog%20on%20the%20moon&seed=7"
        )
        copied = page.evaluate("navigator.clipboard.readText()")
    with visiting(browser, copied, app.url) as page:
        expect(page.locator("#slot-0-weight input[type=number]")).to_have_value("0.5")
        page.locator("#stack-advanced").get_by_text("Advanced").click()
        expect(page.locator("#stack-seed input")).to_have_value("7")
        open_tab(page, "Teach a word")  # the tabs are all there


def test_on_a_real_base_a_ready_adapter_is_a_click_away_and_what_is_gone_is_said(app, browser):
    with visiting(browser, app.url, app.url) as page:
        page.locator("#base").get_by_text("Choose the base").click()
        page.locator("#base-own textarea, #base-own input").first.fill(real_base.NAME)
        page.locator("#base-load").click()
        expect(page.locator("#head")).to_contain_text("real-one", timeout=LONG)
        open_tab(page, "Stack adapters")
        chips = page.locator("#stack-ready button.chip")
        expect(chips).to_have_count(2, timeout=LONG)
        chips.filter(has_text="LCM-LoRA").click()
        expect(page.locator("#stack-list-notes")).to_contain_text(
            "latent-consistency", timeout=LONG
        )
        chips.filter(has_text="Pixel art").click()
        # Beneath the pocket's own two, of which it says that they are for another base.
        expect(page.locator("#slot-2")).to_contain_text("PIXARFK", timeout=LONG)


def test_the_post_shows_the_recording_and_draws_with_its_stacks(app, browser, post):
    visitor = browser.new_context(viewport={"width": 1280, "height": 900})
    page = visitor.new_page()
    page.route(lambda url: url.startswith(FRAME), lambda route: route.abort())
    page.goto(f"{post}?app={app.url}")
    frames = page.locator("iframe")
    expect(frames).to_have_count(5)
    recorded = page.frame_locator("iframe").nth(1)
    frames.nth(1).scroll_into_view_if_needed()
    seen(recorded)
    page.wait_for_function("document.querySelectorAll('iframe')[1].style.height !== ''")
    both = page.frame_locator("iframe").nth(4)
    frames.nth(4).scroll_into_view_if_needed()
    expect(both.locator("#stack-prompt textarea")).to_have_value(
        "sks dog, <glow> style", timeout=LONG
    )
    both.locator("#draw-button").click()
    expect(both.locator("#stack-gallery img").first).to_be_visible(timeout=LONG)
    visitor.close()
