"""Housekeeping: what has expired, old class images and old copies go, and the owner is told.

Everything that lies on the disk has a bound: a visitor's folder its quota, what all share a number
of bytes here, of which the least recently used goes first.
"""

from __future__ import annotations

import logging
import time
from itertools import count
from pathlib import Path

from gradio.utils import get_upload_folder

from personalization.cache import ON_DISK, trim
from personalization.files import size_words
from personalization.workspaces.workspace import Workspaces

from .session import workspaces

SERVED = 4 * 2**30  # bytes of uploads, and of copies that were handed out
AGE = 24 * 3600.0  # seconds after which a copy is old
PAUSE = 600.0  # seconds
TOLD = 6  # of so many rounds one is told of


def keep_tidy() -> None:
    """Tidy for ever. What goes wrong in one round is said, and the next one comes all the same."""
    for number in count():
        try:
            said = tidy(workspaces())
            if number % TOLD == 0:
                logging.getLogger("app").info(said)
        except Exception:
            logging.getLogger("app").exception("Tidying up failed, and will be tried again.")
        time.sleep(PAUSE)


def tidy(store: Workspaces, served: Path | None = None) -> str:
    """One round; returns what lies on the disk then, for the owner."""
    expired = store.expire()
    class_images, _ = trim(store.cache, ON_DISK)
    served = Path(get_upload_folder()) if served is None else served
    copies, _ = trim(served, SERVED, oldest=time.time() - AGE)
    visitors, bytes_used = store.usage()
    return (
        f"On the disk: {visitors} visitors with {size_words(bytes_used)}, class images "
        f"{size_words(class_images)} of {size_words(ON_DISK)}, copies for browsers "
        f"{size_words(copies)} of {size_words(SERVED)}; {expired} expired."
    )
