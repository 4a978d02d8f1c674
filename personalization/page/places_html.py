"""The places of a stack's adapters, drawn small, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from personalization.errors import StackError
from personalization.stacking.regions import Region, cover_all, named

from .adapter_rows import Row
from .html import hint, problems

# Of the adapters, one after the other; a brush has them, too.
COLOURS = (
    "#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#db2777",
)  # fmt: skip


def places(rows: Sequence[Row]) -> str:
    """Boxes in their colours, and how often the denoiser is asked at each step; empty for none."""
    placed = [(number, row) for number, row in enumerate(rows) if row.region]
    if not placed:
        return ""
    boxes, legend, regions, brushed = [], [], [], False
    for number, row in placed:
        colour, place = COLOURS[number], (row.region or {}).get("place", "")
        legend.append(
            f'<span><i style="background:{colour}"></i>{escape(row.name)}: '
            f"{escape((row.region or {}).get('prompt', ''))}</span>"
        )
        if place == "brushed":
            brushed = True
            continue
        try:
            region = Region(named(place))
            region.check(row.name)
        except StackError as error:
            return problems([str(error)])
        regions.append(region)
        left, top, right, bottom = (100 * side for side in region.box)
        boxes.append(
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" '
            f'fill="{colour}" fill-opacity=".3" stroke="{colour}" stroke-width="1.5"/>'
        )
    count = len(placed) + (brushed or not cover_all(regions))
    drawing = (
        '<svg viewBox="0 0 100 100" width="96" height="96" role="img" aria-label="The places">'
        '<rect width="100" height="100" fill="none" stroke="currentColor" stroke-opacity=".3"/>'
        f"{''.join(boxes)}</svg>"
    )
    cost = f"Each step asks the model {count} times at most, once for each place."
    return f'<div class="places">{drawing}<div>{"".join(legend)}{hint(cost)}</div></div>'
