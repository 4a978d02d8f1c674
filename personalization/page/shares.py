"""Work that gives way: to who waits, after ten seconds of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeVar

from personalization.events import Stage, StepDone

from .loaded import compute

SHARE = 10  # seconds of work before it gives way to who waits
Item = TypeVar("Item")


def never() -> bool:
    """Nobody stops it."""
    return False


def shared(
    ask: Callable[[Callable[[], bool]], Generator[Item]], stopped: Callable[[], bool] = never
) -> Iterator[Item]:
    """What `ask(enough)` yields: to its end, or `SHARE` seconds after its first step where others
    wait, or until it is stopped. So each slice gets somewhere."""
    begun: list[float] = []

    def enough() -> bool:
        fair = compute().others_wait and bool(begun) and time.monotonic() - begun[0] > SHARE
        return fair or stopped()

    with closing(ask(enough)) as events:
        for event in events:
            done = isinstance(event, StepDone) or (isinstance(event, Stage) and event.done)
            if not begun and done:
                begun.append(time.monotonic())
            yield event
