"""What a generator returns in the end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def returned(generator: Generator[Any, None, T]) -> T:
    """Run it to its end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            answer: T = end.value
            return answer
