"""What was computed and may be wanted again, as much of it as a bound allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

LIMIT = 256 * 2**20  # bytes

T = TypeVar("T")


class BoundedCache:
    """Values by key, `limit` bytes in all; what has not been asked for the longest goes first.

    Not for several threads at once: a base's is used under the base's lock.
    """

    def __init__(self, limit: int = LIMIT):
        self.limit = limit
        self.size = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value under `key`, made now where it is not there; `size` tells its bytes.

        A value larger than the limit is made each time.
        """
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        added = size(value)
        if added <= self.limit:
            self._values[key] = value, added
            self.size += added
            while self.size > self.limit:
                _, (_, freed) = self._values.popitem(last=False)
                self.size -= freed
        return value

    def __len__(self) -> int:
        return len(self._values)
