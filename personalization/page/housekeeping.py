"""Housekeeping: what has expired, old class images and old copies go, and the owner is told.

Everything that lies on the disk has a bound: a visitor's folder its quota, what all share a number
of bytes here, of which the least recently used goes first.
"""

from __future__ import annotations

import logging
import tempfile
import time
from itertools import count
from pathlib import Path

from gradio.utils import get_upload_folder

from personalization.cache import ON_DISK, trim
from personalization.files import SCRATCH, clear_parts, size_words
from personalization.workspaces.clock import Clock
from personalization.workspaces.served import clear_gone
from personalization.workspaces.workspace import Workspaces

from .runs import run_queue
from .session import workspaces
from .uploads import forget_files

SERVED = 4 * 2**30  # bytes of uploads, and of copies that were handed out
AGE = 24 * 3600.0  # seconds after which a copy is old
PAUSE = 600.0  # seconds
TOLD = 6  # of so many rounds one is told of


def keep_tidy() -> None:
    """Tidy for ever. What goes wrong in one round is said, and the next one comes all the same."""
    clock: Clock | None = None
    for number in count():
        try:
            clock = clock or Clock(workspaces().root)
            said = tidy(workspaces(), now=clock.now())
            if number % TOLD == 0:
                logging.getLogger("app").info(said)
        except Exception as error:
            logging.getLogger("app").error(
                "Tidying up failed (%s), and will be tried again.", type(error).__name__
            )
        time.sleep(PAUSE)


def tidy(store: Workspaces, served: Path | None = None, *, now: float | None = None) -> str:
    """One round; returns what lies on the disk then, for the owner."""
    now = time.time() if now is None else now
    expired = store.expire(now)
    class_images, _ = trim(store.cache, ON_DISK)
    served = Path(get_upload_folder()) if served is None else served
    clear_gone(served, store)
    clear_parts(Path(tempfile.gettempdir()), SCRATCH)
    copies, _ = trim(served, SERVED, oldest=now - AGE)
    visitors, bytes_used = store.usage()
    return (
        f"On the disk: {visitors} visitors with {size_words(bytes_used)}, class images "
        f"{size_words(class_images)} of {size_words(ON_DISK)}, copies for browsers "
        f"{size_words(copies)} of {size_words(SERVED)}; {expired} expired."
    )


def forget_all(visitor: str) -> None:
    """Delete a visitor's workspace, end what runs for it, hand out nothing of it any more.

    Raises `WorkspaceError` for what is no workspace's id.
    """
    run_queue().forget(visitor)
    workspaces().forget(visitor)
    forget_files(visitor)
