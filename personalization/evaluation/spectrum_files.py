"""The whole spectrum in a run's folder: what its ways are called, and what a page shows of it."""

from __future__ import annotations

from pathlib import Path

TITLES = {
    "word": "a word",
    "lora": "LoRA",
    "lokr": "LoKr",
    "full": "full fine-tune",
    "unpreserved": "LoRA, no prior preservation",
}
PART = "spectrum-part.html"  # what a report shows of it, made by `report_html.render_spectrum`


def part_in(folder: Path) -> str:
    """The part of the report that shows it; empty where it was not asked for yet."""
    try:
        return (folder / PART).read_text()
    except FileNotFoundError:
        return ""
