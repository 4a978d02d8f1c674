"""What was computed and may be wanted again, as much of it as a bound allows: in memory, on disk.

Both let go of what has not been used for the longest. Of a file that is its time of change: who
uses one touches it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

LIMIT = 256 * 2**20  # bytes
ON_DISK = 2 * 2**30  # bytes: class images of all bases and classes together

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


def trim(
    folder: Path, limit: int, *, oldest: float = 0.0, spare: Collection[Path] = ()
) -> tuple[int, int]:
    """Delete files under `folder`, the least recently used first, until they have `limit` bytes.

    What was last used before `oldest`, in seconds since the epoch, goes in any case; `spare` stays,
    and links are not followed. Returns the bytes that are left, and those that went.
    """
    files: list[tuple[float, int, Path]] = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with suppress(FileNotFoundError):  # another process trims it as well
                said = path.lstat()
                files.append((said.st_mtime, said.st_size, path))
    left, gone = sum(size for _, size, _ in files), 0
    for used, size, path in sorted(files, key=lambda file: file[0]):
        if (left > limit or used < oldest) and path not in spare:
            path.unlink(missing_ok=True)
            left, gone = left - size, gone + size
    for root, _, _ in os.walk(folder, topdown=False):
        if root != str(folder):
            with suppress(OSError):  # it is not empty, or not there any more
                os.rmdir(root)
    return left, gone
