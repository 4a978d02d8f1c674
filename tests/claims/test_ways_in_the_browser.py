"""Around a training, in a browser: one photo first, a map drawn by hand, every way in turn."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from personalization.sampling.picture_record import read_record
from tests.support.browser import LONG, newest_workspace, open_tab, pick_example
from tests.support.spectrum import lay_out

pytestmark = pytest.mark.browser


def test_one_photo_is_tried_before_a_training_begins_from_it(page):
    open_tab(page, "Teach a subject")
    pick_example(page, "subject", "crowned-dog")
    page.locator("#subject-first-try-go").click()
    pictures = page.locator("#subject-first-try-pictures img")
    expect(pictures).to_have_count(4, timeout=LONG)
    expect(page.locator("#subject-first-try")).to_contain_text("looking at your photo")
    page.locator("#subject-first-try-train").click()
    expect(page.locator("#subject-status")).to_contain_text("Teaching sks dog", timeout=LONG)
    page.locator("#subject-cancel").click()
    expect(page.locator("#subject-continue")).to_be_visible(timeout=LONG)


def test_a_map_is_drawn_by_hand_seen_and_followed(app, page, tmp_path):
    open_tab(page, "Stack adapters")
    page.locator("#stack-advanced").get_by_text("Advanced").click()
    page.locator("#stack-advanced").get_by_label("Steps").first.fill("4")
    page.locator("#stack-guides").get_by_text("A reference picture, a structure map").click()
    page.locator("#stack-structure-source").get_by_label("draw one").check()
    sheet = page.locator("#stack-sketch canvas").first
    expect(sheet).to_be_visible(timeout=LONG)
    brush = page.locator("#stack-sketch").get_by_label("Brush").first
    expect(brush).to_have_class(re.compile("highlight"), timeout=LONG)  # in hand from the first
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    corners = [(-52, -52), (52, -52), (52, 52), (-52, 52), (-52, -52)]  # of a sheet of 256
    places = [(middle[0] + x, middle[1] + y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    expect(page.locator("#stack-map img")).to_be_visible(timeout=LONG)
    page.locator("#draw-button").click()
    expect(page.locator("#stack-gallery img").first).to_be_visible(timeout=LONG)

    workspace = newest_workspace(app.home)
    source = page.locator("#stack-gallery img").first.get_attribute("src")
    picture = tmp_path / "picture.png"
    picture.write_bytes(page.request.get(source).body())
    record = read_record(picture)
    assert record
    assert (record.structure.kind, record.structure.is_map) == ("edges", True)
    (kept,) = (workspace / "photos").glob(f"{record.structure.picture}*")
    drawn = np.asarray(Image.open(kept).convert("L")) > 127
    height, width = drawn.shape
    upper = slice(round(0.25 * height), round(0.35 * height))
    assert drawn[upper].any(0).sum() > width / 4  # the upper side of the square
    assert not drawn[height // 2, width // 2]


def test_the_whole_spectrum_is_taught_in_turn_stopped_and_shown(app, page):
    run = lay_out(newest_workspace(app.home), ["word"], {"unpreserved": 500})
    page.reload()
    expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
    open_tab(page, "Teach a subject")
    page.locator("#subject-spectrum").get_by_text("See the whole spectrum").click()
    ways = page.locator("#subject-spectrum-ways")
    status = page.locator("#subject-spectrum-status")
    expect(ways).to_contain_text("a word, there already", timeout=LONG)
    expect(status).to_contain_text("It takes")
    all_of_it = status.inner_text()
    for way in ("LoKr", "full fine-tune"):
        ways.get_by_label(way).uncheck()
    expect(status).not_to_have_text(all_of_it)

    page.locator("#subject-spectrum-go").click()
    expect(status).to_contain_text("no prior preservation: step", timeout=LONG)
    expect(status.locator("li.done")).to_have_count(2)  # which were there
    page.locator("#subject-spectrum-stop").click()
    expect(status).to_contain_text("the same button goes on")
    ways.get_by_label("no prior preservation").uncheck()
    expect(status).to_contain_text("All of it is there")
    page.locator("#subject-spectrum-go").click()
    card = page.locator("#subject-spectrum-card")
    expect(card.locator("img")).to_be_visible(timeout=LONG)
    first = "no training, one photo as a reference"  # which the run's report has
    expect(card.locator("tbody th")).to_have_text([first, "a word", "LoRA"])
    state = json.loads((run.folder / "spectrum" / "unpreserved" / "state.json").read_text())
    assert 0 < state["step"] < 500  # it goes on from there
