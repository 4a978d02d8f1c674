"""How long publishing takes, from the click to the link: ``python -m tests.benchmarks.publishing``.

The real page in headless Chromium, signed in, against a Hub on the loopback: what is measured is
the app's own share, without the network and the Hub's.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from tests.support.browser import chromium
from tests.support.publishing import name, publish, publishing, sign_in

TIMES = 5


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        chromium() as browser,
        publishing(browser, Path(home)) as (page, server),
    ):
        sign_in(page)
        seconds = []
        for number in range(TIMES):
            name(page, f"mug-{number}")
            started = time.perf_counter()
            publish(page, "Published v1")
            page.locator("#publish-notes a").filter(has_text=f"mug-{number}").wait_for()
            seconds.append(time.perf_counter() - started)
        held = server.repositories["visitor/mug-0"].files
        size = sum(map(len, held.values()))
        print(
            f"from click to link: {median(seconds):.2f} s (median of {TIMES}: "
            f"{min(seconds):.2f} to {max(seconds):.2f}), {len(held)} files, {size / 1e6:.2f} MB"
        )


if __name__ == "__main__":
    main()
