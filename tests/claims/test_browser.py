"""A person with a browser: three tabs that do their job, and nothing that was entered lost."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.benchmarks.hostile import Sender
from tests.support.browser import IDLE, LONG, open_tab, pick_example, set_steps, visiting
from tests.support.server import ROOT

pytestmark = pytest.mark.browser

WRITTEN = "() => Object.values(localStorage).join()"


def test_what_is_picked_and_typed_leaves_the_page_at_rest(app, browser):
    """Each change is answered once: answers that renew each other take a core of the browser."""
    asked: list[str] = []
    with visiting(browser, app.url, asked=asked) as page:
        open_tab(page, "Teach a subject")
        pick_example(page, "subject", "crowned-dog")
        before = page.locator("#subject-estimate").inner_text()
        noun = page.locator("#subject-noun textarea, #subject-noun input").first
        noun.press("Control+a")
        noun.press_sequentially("owl")  # a class whose pictures must be drawn first
        expect(page.locator("#subject-estimate")).not_to_have_text(before, timeout=LONG)
        for _ in range(60):  # a slow machine answers long; what goes round never rests
            asked.clear()
            page.wait_for_timeout(1000)
            if not asked:
                break
        assert not asked


def test_a_word_is_taught_and_drawn(page):
    pick_example(page, "word", "crowned-dog")
    expect(page.locator("#word-token input, #word-token textarea").first).to_have_value("<king>")
    set_steps(page, "word", 6)
    page.locator("#teach-word-button").click()
    expect(page.locator("#word-gallery img").first).to_be_visible(timeout=LONG)
    expect(page.locator("#word-verdict")).to_contain_text("<king>")
    expect(page.locator("#word-download")).to_be_visible()
    # Then, unasked, whether it worked; and the result has its place on the spectrum.
    expect(page.locator("#word-report img").first).to_be_visible(timeout=LONG)
    expect(page.locator("#word-verdict")).not_to_contain_text("is trained")
    expect(page.locator("#head")).to_contain_text("your <king>")


def test_a_subject_is_taught_found_again_after_a_reload_and_sent_to_the_stack(page):
    open_tab(page, "Teach a subject")
    pick_example(page, "subject", "crowned-dog")
    set_steps(page, "subject", 6)
    page.locator("#teach-subject-button").click()
    expect(page.locator("#subject-gallery img").first).to_be_visible(timeout=LONG)
    page.locator("#subject-skip").click()
    expect(page.locator("#subject-measure")).to_be_visible()

    page.reload()
    open_tab(page, "Teach a subject")
    expect(page.locator("#subject-gallery img").first).to_be_visible(timeout=LONG)
    expect(page.locator("#subject-crops img")).to_have_count(5)
    expect(page.locator("#subject-measure")).to_be_visible()

    page.locator("#subject-send").click()
    expect(page.locator("#draw-button")).to_be_visible(timeout=LONG)
    expect(page.locator("#stack-prompt textarea")).to_have_value("a photo of sks dog")


def test_a_stack_of_the_ready_adapters_is_one_click_from_its_first_picture(page):
    open_tab(page, "Stack adapters")
    expect(page.locator("#slot-1")).to_be_visible()
    page.locator("#draw-button").click()
    expect(page.locator("#stack-gallery img").first).to_be_visible(timeout=LONG)


def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(page):
    open_tab(page, "Teach a subject")
    page.locator("#subject-token input, #subject-token textarea").first.fill("dog")
    page.locator("#subject-noun input, #subject-noun textarea").first.fill("")
    page.locator("#teach-subject-button").click()
    expect(page.locator("#subject-photo-notes")).to_contain_text("no photos")
    expect(page.locator("#subject-word-notes")).to_contain_text("knows the word")
    expect(page.locator("#subject-word-notes")).to_contain_text("class noun")
    expect(page.locator("#subject-token input, #subject-token textarea").first).to_have_value("dog")


def test_what_was_set_and_asked_is_there_after_a_reload(page):
    open_tab(page, "Teach a subject")
    page.locator("#subject-advanced").get_by_text("Advanced").click()
    steps = page.locator("#subject-advanced").get_by_label("Steps")
    expect(steps).to_have_value("145")
    page.locator("#subject-method").get_by_label("LoKr").check()
    expect(steps).to_have_value("210", timeout=LONG)  # its own recipe's, which is an answer away
    steps.fill("77")
    open_tab(page, "Stack adapters")
    page.locator("#stack-prompt textarea").fill("a mug of sks dog")
    page.locator("#stack-advanced").get_by_text("Advanced").click()
    page.locator("#stack-negative textarea, #stack-negative input").first.fill("rain")
    before = page.evaluate(WRITTEN)
    page.locator("#stack-combine").get_by_label("TIES").check()
    page.wait_for_function(f"before => ({WRITTEN})() !== before", arg=before)
    page.reload()
    expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
    open_tab(page, "Stack adapters")
    expect(page.locator("#stack-prompt textarea")).to_have_value("a mug of sks dog")
    expect(page.locator("#stack-combine").get_by_label("TIES")).to_be_checked()
    page.locator("#stack-advanced").get_by_text("Advanced").click()
    expect(page.locator("#stack-negative textarea, #stack-negative input").first).to_have_value(
        "rain"
    )
    open_tab(page, "Teach a subject")
    expect(page.locator("#subject-method").get_by_label("LoKr")).to_be_checked()
    page.locator("#subject-advanced").get_by_text("Advanced").click()
    expect(page.locator("#subject-advanced").get_by_label("Steps")).to_have_value("77")


def test_a_run_can_be_cancelled_and_continued(page):
    pick_example(page, "word", "crowned-dog")
    page.locator("#teach-word-button").click()
    expect(page.locator("#word-status")).to_contain_text("step", timeout=LONG, ignore_case=True)
    page.locator("#word-cancel").click()
    expect(page.locator("#word-continue")).to_be_visible(timeout=LONG)
    page.locator("#word-keep").click()
    expect(page.locator("#word-gallery img").first).to_be_visible(timeout=LONG)


def is_live(page):
    """Whether the run of the word tab goes on before one's eyes."""
    expect(page.locator("#word-status")).to_contain_text("Step", timeout=LONG)
    step = page.locator("#word-status").inner_text()
    expect(page.locator("#word-status")).not_to_have_text(step)


def test_a_run_goes_on_when_the_page_closes_and_is_found_live(browser, app):
    asked: list[str] = []
    with visiting(browser, app.url, asked=asked) as page:
        open_tab(page, "Teach a subject")
        open_tab(page, "Stack adapters")
        open_tab(page, "Teach a word")
        # Who only looks takes no place where what computes waits.
        assert [url for url in asked if "/queue/join" in url] == []
        pick_example(page, "word", "crowned-dog")
        set_steps(page, "word", 1500)
        page.locator("#teach-word-button").click()
        expect(page.locator("#word-status")).to_contain_text("Step", timeout=LONG)
        open_tab(page, "Teach a subject")
        pick_example(page, "subject", "crowned-dog")
        set_steps(page, "subject", 4)
        page.locator("#teach-subject-button").click()
        expect(page.locator("#subject-status")).to_contain_text("Number 2 in the queue")
        expect(page.locator("#subject-status")).to_contain_text("a run of yours is before it")

        page.reload()
        is_live(page)
        first, page = page, page.context.new_page()
        page.goto(app.url)
        is_live(page)
        first.close()
        is_live(page)
        page.locator("#word-cancel").click()
        expect(page.locator("#word-continue")).to_be_visible(timeout=LONG)
        open_tab(page, "Teach a subject")
        expect(page.locator("#subject-gallery img").first).to_be_visible(timeout=LONG)
        page.locator("#subject-skip").click()
        expect(page.locator("#subject-measure")).to_be_visible(timeout=LONG)


def test_a_broken_photo_is_named(page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    good = sorted((ROOT / "assets" / "examples" / "owl").glob("*.png"))[:3]
    page.locator("#word-photos input[type=file]").set_input_files([*map(str, good), str(broken)])
    expect(page.locator("#word-photo-notes")).to_contain_text("broken.png", timeout=LONG)
    expect(page.locator("#word-crops img")).to_have_count(3)


def test_the_page_does_not_scroll_sideways(page):
    for tab in ("Teach a word", "Teach a subject", "Stack adapters"):
        open_tab(page, tab)
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            page.evaluate(IDLE)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, tab


def test_nothing_that_was_sent_stands_in_the_log_and_no_other_site_does_anything(app):
    sender = Sender(app, secret := secrets.token_hex(16))
    for event in sender.events:
        if not event["queue"] and event["api_visibility"] != "public":
            sender.direct(event, [secret] * len(event["inputs"]))
    log = app.log.read_text()
    assert secret not in log
    assert not [each.name for each in (app.home / "workspaces").iterdir() if each.name in log]
    elsewhere = {"origin": "https://elsewhere.example"}
    files = {"files": ("a.png", b"1" * 100)}
    assert sender.client.post("/upload", files=files, headers=elsewhere).status_code == 403
    assert sender.client.post("/upload", files=files).status_code == 200  # a program
    told = sender.client.get(f"{app.url}/monitoring/summary")
    assert told.status_code in (403, 404), "what was done, and how often, is told to nobody"


def readable_by_others(folder: Path) -> list[Path]:
    """What another user of the machine could reach in it: nothing below a folder that is closed."""
    open_to_them = [path for path in folder.iterdir() if path.stat().st_mode & 0o077]
    below = [path for each in open_to_them if each.is_dir() for path in readable_by_others(each)]
    return [path for path in open_to_them if path.is_file()] + below


def test_ones_things_are_listed_deleted_and_brought_back_with_their_place_on_the_stack(app, page):
    pick_example(page, "word", "crowned-dog")
    open_tab(page, "Stack adapters")
    file = ROOT / "assets" / "adapters" / "neon.safetensors"
    with page.expect_file_chooser() as chooser:
        page.locator("#stack-upload").click()
    mine: Any = {"name": "mine.safetensors", "mimeType": "", "buffer": file.read_bytes()}
    chooser.value.set_files(mine)
    expect(page.locator("#slot-2")).to_be_visible()
    things = page.locator("#things-list")
    page.locator("#things").get_by_text("Your things").first.click()
    expect(things.locator("li")).to_have_count(6)  # five photos, and the adapter
    things.locator("""[data-key*='"delete", "adapter"']""").first.click()
    expect(things.locator("li")).to_have_count(5)
    expect(page.locator("#slot-2")).not_to_be_visible()
    page.locator("#things-undo [data-key]").click()
    expect(things.locator("li")).to_have_count(6)
    expect(page.locator("#slot-2")).to_be_visible()
    assert readable_by_others(app.home / "workspaces") == []
    assert readable_by_others(app.home / "served") == []
