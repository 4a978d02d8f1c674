"""What an embedded page weighs: ``python -m tests.benchmarks.embedded``.

Opens `?embed=true` in a browser that has nothing in its cache, and counts the bytes that come over
the wire until the first picture of the recorded run is there; then those that come later.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.browser import FRAME, chromium
from tests.support.server import running


def weigh(url: str) -> None:
    """Print kB by kind, and the seconds to the first picture."""
    sizes: Counter[str] = Counter()
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 760, "height": 700}).new_page()
        page.route(lambda url: url.startswith(FRAME), lambda route: route.abort())
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        kinds: dict[str, str] = {}
        session.on(
            "Network.responseReceived",
            lambda e: kinds.update(
                {e["requestId"]: Path(urlsplit(e["response"]["url"]).path).suffix or "pages, data"}
            ),
        )
        session.on(
            "Network.loadingFinished",
            lambda e: sizes.update({kinds.get(e["requestId"], "?"): e["encodedDataLength"]}),
        )
        started = time.monotonic()
        page.goto(f"{url}/?embed=true", wait_until="commit")
        page.locator(".strengths img.seen").first.wait_for()
        seconds, first = time.monotonic() - started, Counter(sizes)
        page.locator("body.arrived").wait_for()
        page.wait_for_timeout(2000)  # nothing says that nothing more will come
    print(f"first picture after {seconds:.1f} s and {sum(first.values()) / 1e3:.0f} kB")
    for kind, size in first.most_common(5):
        print(f"    {kind}: {size / 1e3:.0f} kB")
    print(f"all of it: {sum(sizes.values()) / 1e3:.0f} kB")


def main() -> None:
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as app:
        weigh(app.url)


if __name__ == "__main__":
    main()
