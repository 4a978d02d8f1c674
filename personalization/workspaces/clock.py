"""What time it is, as far as it can be believed: by a clock that jumps nobody's things expire.

Between two looks the time goes on by what the process has seen pass. Where the machine's clock says
more, after a restart or a jump, it is believed once it has gone evenly for a day.

    <root>/.seen    changed last when it was as late as was believed then
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from personalization.workspaces.expiry import USED

SEEN = ".seen"  # no id starts so
EVEN = 60.0  # seconds by which a clock may be set between two looks
DAY = 24 * 3600.0


class Clock:
    """The time of a root of workspaces; `wall` may jump, `steady` does not. Both in seconds."""

    def __init__(
        self,
        root: Path,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ):
        self.path, self.wall, self.steady = root / SEEN, wall, steady
        self.believed = min(wall(), last_seen(root) or wall())
        self.looked = self.even_since = steady()
        self.ahead = wall() - self.looked

    def now(self) -> float:
        """Seconds since the epoch, no later than it is believed to be; kept for the next start."""
        wall, steady = self.wall(), self.steady()
        if abs(wall - steady - self.ahead) > EVEN:
            self.even_since = steady
        self.believed += steady - self.looked
        if steady - self.even_since >= DAY:
            self.believed = wall
        self.believed = min(self.believed, wall)
        self.ahead, self.looked = wall - steady, steady
        with suppress(OSError):  # a home that cannot be written: only the next start misses it
            self.path.touch()
            os.utime(self.path, (self.believed, self.believed))
        return self.believed


def last_seen(root: Path) -> float | None:
    """When the last process looked, or where none has, when somebody was here; None for never."""
    with suppress(OSError):
        return (root / SEEN).stat().st_mtime
    return max((path.stat().st_mtime for path in root.glob(f"*/{USED}")), default=None)
