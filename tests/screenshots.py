"""The pictures of the page in the documents: ``python -m tests.screenshots [--steps N]``.

Starts the app on a free port with a home of its own; as a visitor teaches a subject and draws with
the bundled adapters; then opens each tab in light and dark, wide and narrow, and writes
docs/screenshots/. The subject is taught by the default recipe, or in N steps.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.browser import chromium, open_tab, pick_example, set_steps, visiting
from tests.support.server import ROOT, running

FOLDER = ROOT / "docs" / "screenshots"
TABS = {"word": "Teach a word", "subject": "Teach a subject", "stack": "Stack adapters"}
WIDTHS = {"": (1280, 900), "-narrow": (390, 844)}
PATIENCE = 1_200_000  # milliseconds, for a whole run with its report
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


def shoot(page: Page, path: Path) -> None:
    """What the window shows, as WebP."""
    page.wait_for_function(LOADED)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as picture:
        picture.save(path, quality=BALANCED, method=6)
    print(path.relative_to(ROOT), f"{path.stat().st_size / 1024:.0f} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="of the subject's run")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home)) as app,
        chromium() as browser,
    ):
        with visiting(browser, app.url) as page:
            use(page, arguments.steps)
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
