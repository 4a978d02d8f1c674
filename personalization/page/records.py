"""A picture's record back into the form, and what the picture started from."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from PIL import Image

from personalization.data.photos import Photo
from personalization.errors import WorkspaceError
from personalization.stacking.stack import MAX_SLOTS, MAX_WEIGHT
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_list import Row
from .loaded import spec_of

TASKS = ("text", "image", "inpaint")


class Said:
    """What a picture's record says, which anyone may have written: nothing else than it should."""

    def __init__(self, record: dict[str, Any]):
        self.record = record

    def text(self, key: str) -> str:
        value = self.record.get(key)
        return value[:2000] if isinstance(value, str) else ""

    def number(self, key: str, default: float, low: float, high: float) -> float:
        return self._number(self.record.get(key), default, low, high)

    def one_of(self, key: str, known: Container[str], default: str) -> str:
        value = self.text(key)
        return value if value in known else default

    def rows(self) -> list[Row]:
        """The adapters; the rack says of one that it does not know."""
        adapters = self.record.get("adapters")
        told = [a for a in adapters if isinstance(a, dict)] if isinstance(adapters, list) else []
        return [self._row(a) for a in told[:MAX_SLOTS]]

    def _row(self, told: dict[str, Any]) -> Row:
        text, blocks = told.get("text_weight"), told.get("blocks")
        factors = {
            str(block): self._number(factor, 1.0, -MAX_WEIGHT, MAX_WEIGHT)
            for block, factor in (blocks.items() if isinstance(blocks, dict) else ())
        }
        return Row(
            str(told.get("name", "?")),
            self._number(told.get("weight"), 1.0, -MAX_WEIGHT, MAX_WEIGHT),
            None if text is None else self._number(text, 1.0, -MAX_WEIGHT, MAX_WEIGHT),
            factors,
        )

    @staticmethod
    def _number(value: Any, default: float, low: float, high: float) -> float:
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return min(max(value, low), high) if is_number else default


def kept_start(
    workspace: Workspace, base: str, image: Image.Image, mask: Image.Image | None
) -> dict[str, str]:
    """For the record: where the visitor's workspace keeps what a picture started from.

    The file itself would take a photo along to wherever the drawn picture goes.
    """
    size = (spec_of(base).size,) * 2
    seen = Photo("start", image.convert("RGB").resize(size), mask and mask.resize(size))
    return {"start": workspace.save_photos([seen])[0]}


def start_of(workspace: Workspace, key: str) -> Photo:
    """What a picture started from. Raises `WorkspaceError`."""
    try:
        return workspace.photos([key])[0]
    except WorkspaceError as error:
        raise WorkspaceError(html.NO_START) from error
