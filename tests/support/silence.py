"""How long a stream is silent, in forwards of its base's denoiser: of any machine the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from personalization.bases.base import Base

Event = TypeVar("Event")


class Silence:
    """Counts while a stream is listened to: `most` is what it computed between two events."""

    def __init__(self) -> None:
        self.most = self.since = self.all = 0

    def heard(self, base: Base, events: Iterable[Event]) -> Iterator[Event]:
        """The same events."""

        def count(*_: object) -> None:
            self.since += 1
            self.all += 1

        hook = base.denoiser.register_forward_pre_hook(count)
        try:
            for event in events:
                self.most = max(self.most, self.since)
                self.since = 0
                yield event
        finally:
            self.most = max(self.most, self.since)
            hook.remove()
