"""What a picture's record says."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from personalization.sampling.picture_record import PictureRecord, RegionRecord

if TYPE_CHECKING:  # take seconds to import
    from personalization.sampling.picture_record import PictureRecord
from .words import _short


def _where(region: RegionRecord | None) -> str:
    """In which part of the picture, as it follows the adapter's name."""
    if region is None:
        return ""
    box = " ".join(f"{side:g}" for side in region.box)
    place = "where brushed" if region.mask else f"in {box}"
    return f" ({place}: “{region.prompt}”)" if region.prompt else f" ({place})"


def record(picture: PictureRecord) -> str:
    """How a picture came to be."""
    adapters = ", ".join(
        f"{a.title or a.name} × {a.weight:g}{_where(a.region)}" for a in picture.adapters
    )
    shown = [
        ("prompt", picture.prompt),
        ("negative", picture.negative),
        ("adapters", adapters or "none"),
        ("combined by", picture.combine if len(picture.adapters) > 1 else ""),
        ("seed", picture.seed),
        ("steps", picture.steps),
        ("guidance", picture.guidance),
        ("scheduler", picture.scheduler),
        ("base", picture.base),
    ]
    if picture.task != "text":
        shown.append(("from", f"{picture.task}, strength {picture.strength:g}"))
    if picture.reference.pictures:
        reference = picture.reference
        count = len(reference.pictures)
        shown.append(("reference", f"{reference.reach} of {count}, weight {reference.weight:g}"))
    if picture.structure.kind:
        structure = picture.structure
        until = f", until {structure.until:g}" if structure.until < 1 else ""
        shown.append(("structure", f"{structure.kind}, strength {structure.weight:g}{until}"))
    cells = "".join(
        f"<dt>{name}</dt><dd>{escape(_short(value))}</dd>"
        for name, value in shown
        if value not in (None, "")
    )
    return f'<dl class="record">{cells}</dl>'
