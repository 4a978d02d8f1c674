"""What is told meanwhile, and how it is interrupted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from tqdm import tqdm

from personalization.events import Stage, StepDone

INTERRUPTED = 128 + signal.SIGINT


def tell(sentence: object) -> None:
    """Beside the results, which are all that stdout gets."""
    print(sentence, file=sys.stderr)


class Bar:
    """How far the work is, on a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self.part = ""
        self.bar: tqdm[Any] = tqdm(disable=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, part: str, done: int, total: int) -> None:
        """`done` of `total` of that part; another part gets a line of its own."""
        if part != self.part:
            self.bar.close()
            self.part = part
            self.bar = tqdm(desc=part, total=total, initial=done, disable=None)
        self.bar.total = total
        self.bar.update(done - self.bar.n)


def shown(events: Iterable[Any]) -> Iterator[Any]:
    """The events, as they come, told by a bar."""
    with Bar() as bar:
        for event in events:
            if isinstance(event, Stage):
                bar.show(event.name, event.done, event.total)
            elif isinstance(event, StepDone):
                bar.show("learning", event.step, event.steps)
                bar.bar.set_postfix(loss=f"{event.loss:.4f}", refresh=False)
            yield event


def last(events: Iterable[Any]) -> Any:
    """What the work ends with."""
    *_, result = events
    return result


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl+C was pressed while it lasts; the second time it ends all at once."""
    pressed = Event()

    def press(*_signal: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
