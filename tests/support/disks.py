"""A disk that fills up or turns read-only: a small tmpfs where one may be mounted."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = 24  # MB


class Disk:
    """A mounted folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"

    def fill(self) -> None:
        """Until nothing more fits."""
        with suppress(OSError), self.filler.open("wb", buffering=0) as file:
            for size in (2**20, 4096):
                with suppress(OSError):
                    while True:
                        if not file.write(bytes(size)):
                            break

    def free(self) -> None:
        """As before."""
        self.filler.unlink(missing_ok=True)

    def shut(self) -> bool:
        """No write any more; False where somebody kept writing all the while."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if _mount("-o", "remount,ro", str(self.folder)):
                return True
        return False

    def open(self) -> None:
        """As before."""
        assert _mount("-o", f"remount,rw,size={SIZE}m", str(self.folder))


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk of its own, mounted there. Raises `OSError` where this user may not."""
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(folder)):
        raise PermissionError("no disk can be mounted here: run it as root, or in `unshare -rm`")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
