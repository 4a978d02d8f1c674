"""The pictures of the page in the documents.

    python -m tests.screenshots [--steps N]
    python -m tests.screenshots --photographs
    python -m tests.screenshots --published
    python -m tests.screenshots --things

Starts the app on a free port with a home of its own; as a visitor teaches a subject and draws with
the bundled adapters; then opens each tab in light and dark, wide and narrow, and writes
docs/screenshots/. The subject is taught by the default recipe, or in N steps.

--photographs draws what is said of photographs, and nothing else: how they are framed and that the
pocket is not for them; then, on Stable Diffusion 1.5 with weights of noise, what teaching takes on
this machine's processor, and the question before it begins. What it says goes by the whole base's
architecture; the weights that are served have fewer layers, for nothing is drawn with them.

--published draws evidence, publishing, versions, Jobs and embeds, and nothing else: who is signed
in to a Hub on the loopback has the recorded run as their own, says which pictures are evidence,
publishes twice, looks at the versions, and sends a word to Jobs. Without any of these they come
after the tabs.
--things draws “Your things” with photos, a word that was taught in 20 steps and a picture.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio
from PIL import Image
from playwright.sync_api import Page, expect

from personalization.bases.catalog import CATALOG
from tests.support.browser import chromium, open_tab, pick_example, set_steps, visiting
from tests.support.full_size import reduced, served_by
from tests.support.hub_server import hub
from tests.support.published_pictures import PATIENCE, WIDTHS, draw_published
from tests.support.server import ROOT, running

FOLDER = ROOT / "docs" / "screenshots"
TABS = {"word": "Teach a word", "subject": "Teach a subject", "stack": "Stack adapters"}
# An image below the window may be lazy, and wait until it is scrolled to.
LOADED = """() => [...document.images].every((image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return !image.offsetParent || bottom < 0 || top > innerHeight || image.complete;
})"""
BALANCED = 70  # of WebP's quality: letters are sharp, a picture takes tens of kilobytes


def use(page: Page, steps: int | None) -> None:
    """What a visitor does in each tab, until there is something to be seen in it."""
    pick_example(page, "word", "crowned-dog")
    open_tab(page, TABS["subject"])
    pick_example(page, "subject", "crowned-dog")
    if steps:
        set_steps(page, "subject", steps)
    page.locator("#teach-subject-button").click()
    expect(page.locator("#subject-gallery img").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#subject-report img").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#subject-verdict")).not_to_contain_text("is trained", timeout=PATIENCE)
    page.locator("#subject-send").click()
    draw(page)


def draw(page: Page) -> None:
    """A picture with the stack; the page keeps none over a reload."""
    page.locator("#draw-button").click()
    expect(page.locator("#stack-gallery img").first).to_be_visible(timeout=PATIENCE)


def shoot(page: Page, path: Path, *, whole: bool = False) -> None:
    """What the window shows, or the whole page, as WebP."""
    page.wait_for_function(LOADED)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    taken = page.screenshot(animations="disabled", full_page=whole)
    keep(taken, path.stem)


def keep(taken: bytes, name: str) -> None:
    """A screenshot as WebP."""
    path = FOLDER / f"{name}.webp"
    with Image.open(io.BytesIO(taken)) as picture:
        picture.save(path, quality=BALANCED, method=6)
    print(path.relative_to(ROOT), f"{path.stat().st_size / 1024:.0f} kB", flush=True)


def add_photographs(page: Page) -> None:
    """Photographs that come with Gradio, on the subject tab."""
    open_tab(page, TABS["subject"])
    folder = Path(gradio.__file__).parent / "media_assets" / "images"
    files = [str(folder / name) for name in ("cheetah.jpg", "lion.jpg", "tower.jpg")]
    page.locator("#subject-photos input[type=file]").set_input_files(files)
    expect(page.locator("#subject-crops figure")).to_have_count(3, timeout=PATIENCE)


def ask_to_teach(page: Page) -> None:
    """A subject of them, as far as the question before a long run."""
    add_photographs(page)
    page.locator("#subject-noun textarea, #subject-noun input").first.fill("animal")
    expect(page.locator("#subject-estimate")).to_contain_text(
        re.compile(r"\d (min|h)"), timeout=PATIENCE
    )
    page.locator("#teach-subject-button").click()
    expect(page.locator("#subject-long-go")).to_be_visible(timeout=PATIENCE)
    page.locator("#subject-estimate").scroll_into_view_if_needed()


def shoot_each(home: Path, name: str, show: Callable[[Page], None], **environment: str) -> None:
    """What the page shows then, in light and dark, wide and narrow, whole."""
    with running(home, patience=600, **environment) as app, chromium() as browser:
        for look in ("light", "dark"):
            for width, (across, down) in WIDTHS.items():
                window = {"viewport": {"width": across, "height": down}, "color_scheme": look}
                with visiting(browser, app.url, **window) as page:
                    show(page)
                    shoot(page, FOLDER / f"{name}-{look}{width}.webp", whole=True)


def shoot_photographs(folder: Path) -> None:
    """See ``--photographs``."""
    shoot_each(folder / "pocket", "photographs", add_photographs)
    spec = reduced(CATALOG["sd15"])
    with hub(served_by(spec, folder / "hub")) as server:
        real = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "cache")}
        real |= {"HF_ENDPOINT": server.url, "PERSONALIZATION_BASE": spec.name}
        shoot_each(folder / "sd15", "sd15-cpu", ask_to_teach, **real)


def show_things(page: Page) -> None:
    """A visitor's photos, run, adapter and picture, unfolded."""
    pick_example(page, "word", "crowned-dog")
    set_steps(page, "word", 20)
    page.locator("#teach-word-button").click()
    expect(page.locator("#word-gallery img").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#word-report img").first).to_be_visible(timeout=PATIENCE)
    page.locator("#word-send").click()
    draw(page)
    page.locator("#things").get_by_text("Your things").first.click()
    expect(page.locator("#things-list img").first).to_be_visible()


def shoot_things(home: Path) -> None:
    """See ``--things``: once shown, in light and dark, wide and narrow."""
    with (
        running(home, PERSONALIZATION_REPORT="1") as app,
        chromium() as browser,
        visiting(browser, app.url) as page,
    ):
        show_things(page)
        for look in ("light", "dark"):
            for width, (across, down) in WIDTHS.items():
                page.emulate_media(color_scheme=look)  # type: ignore[arg-type]
                page.set_viewport_size({"width": across, "height": down})
                part = page.locator("#things")
                part.scroll_into_view_if_needed()
                with Image.open(io.BytesIO(part.screenshot(animations="disabled"))) as picture:
                    path = FOLDER / f"things-{look}{width}.webp"
                    picture.save(path, quality=BALANCED, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="of the subject's run")
    parser.add_argument("--photographs", action="store_true", help="see above")
    parser.add_argument("--published", action="store_true", help="see above")
    parser.add_argument("--things", action="store_true", help="see above")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.photographs:
        with tempfile.TemporaryDirectory() as folder:
            return shoot_photographs(Path(folder))
    if arguments.things:
        with tempfile.TemporaryDirectory() as folder:
            return shoot_things(Path(folder))
    if not arguments.published:
        shoot_tabs(arguments.steps)
    with chromium() as browser:
        draw_published(browser, keep)


def shoot_tabs(steps: int | None) -> None:
    """Each tab, in light and dark, wide and narrow."""
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home)) as app,
        chromium() as browser,
    ):
        with visiting(browser, app.url) as page:
            use(page, steps)
            visitor = page.context.storage_state()
        for look in ("light", "dark"):
            for width, (across, down) in WIDTHS.items():
                size = {"width": across, "height": down}
                window = {"viewport": size, "color_scheme": look, "storage_state": visitor}
                with visiting(browser, app.url, **window) as page:
                    for name, title in TABS.items():
                        open_tab(page, title)
                        if name == "stack":
                            draw(page)
                        shoot(page, FOLDER / f"{name}-{look}{width}.webp")


if __name__ == "__main__":
    main()
