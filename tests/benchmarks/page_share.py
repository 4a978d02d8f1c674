"""What a page that watches takes from a run on the same cores.

    python -m tests.benchmarks.page_share [--turns N] [--seconds S] [--json FILE]

One long run of a subject by the page's recipe, begun on the page in headless Chromium. It goes on
when the page is closed, so the page is open and closed in turn while it learns: what a step took is
read from the run's own log, and each turn with a page is compared with those beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import expect

from personalization.training.run import Run
from tests.benchmarks.start import processor
from tests.support.browser import LONG, chromium, open_tab, pick_example, set_steps, visiting
from tests.support.results import conclude
from tests.support.server import running

ASKED = 1.15
STEPS = 1500  # three minutes of quiet cores: as long as is taught without a confirmation
SETTLING = 3.0  # seconds after the page opened or closed that do not count


def seconds_a_step(run: Path, wait: float) -> float:
    """The mean over the next `wait` seconds, by the run's own count."""
    before = len(Run.open(run).losses())
    time.sleep(wait)
    rows = Run.open(run).losses()[before:]
    if not rows:
        raise SystemExit("the run was over: take fewer turns, or fewer seconds")
    return statistics.fmean(row.seconds for row in rows)


def measured(home: Path, turns: int, wait: float) -> list[tuple[float, float]]:
    """Seconds of a step in each turn: with the page open, and closed."""
    found = []
    with running(home) as app, chromium() as browser, visiting(browser, app.url) as page:
        open_tab(page, "Teach a subject")
        pick_example(page, "subject", "crowned-dog")
        set_steps(page, "subject", STEPS)
        page.locator("#teach-subject-button").click()
        expect(page.locator("#subject-status")).to_contain_text("Step", timeout=LONG)
        (run,) = home.glob("workspaces/*/runs/*")
        for _ in range(turns):
            time.sleep(SETTLING)
            watched = seconds_a_step(run, wait)
            page.goto("about:blank")
            time.sleep(SETTLING)
            found.append((watched, seconds_a_step(run, wait)))
            page.goto(app.url)
            open_tab(page, "Teach a subject")
            expect(page.locator("#subject-status")).to_contain_text("Step", timeout=LONG)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half of a turn")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = measured(Path(home), arguments.turns, arguments.seconds)
    ratios = [watched / alone for watched, alone in found]
    middle = statistics.median(ratios)
    result = {
        "processor": processor(),
        "seconds a step, watched and alone": found,
        "times as long": {"median": middle, "least": min(ratios), "most": max(ratios)},
        "asked at most": ASKED,
    }
    conclude(result, arguments.json, [])


if __name__ == "__main__":
    main()
