"""The whole spectrum in a run's folder: what its ways are called, and what a page shows of it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

TITLES = {
    "word": "a word",
    "lora": "LoRA",
    "lokr": "LoKr",
    "full": "full fine-tune",
    "unpreserved": "LoRA, no prior preservation",
}
SHEET = "the sheet"  # the stage after the ways
PAGE = "spectrum.html"
TABLE = "spectrum.json"
PICTURE = "spectrum.png"
PART = "spectrum-part.html"  # what a report shows of it, made by `report_html.render_spectrum`
# What is said of the ways that lose, by where the table names them.
LOSING = {
    "behind": "Surely behind in both, so not worth taking here",
    "forgetting": "Draws the subject where only its class is asked for, so the class is lost",
}


@dataclass(frozen=True)
class Kept:
    """The whole spectrum as a run's folder keeps it."""

    table: dict[str, Any]  # verdict, rows, behind, forgetting, missing
    page: bytes = field(repr=False)
    sheet: Image.Image = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> Kept | None:
        """None where it was not asked for, or is not whole."""
        try:
            table = json.loads((folder / TABLE).read_text())
            with Image.open(io.BytesIO((folder / PICTURE).read_bytes())) as sheet:
                return cls(table, (folder / PAGE).read_bytes(), sheet.convert("RGB"))
        except (OSError, ValueError):
            return None


def part_in(folder: Path) -> str:
    """The part of the report that shows it; empty where it was not asked for yet."""
    try:
        return (folder / PART).read_text()
    except FileNotFoundError:
        return ""


def page_in(folder: Path) -> Path | None:
    """The one file with all of it, to be handed on."""
    path = folder / PAGE
    return path if path.exists() else None
