"""A picture's record back into the form, and what the picture started from."""

from __future__ import annotations

from PIL import Image

from personalization.data.photos import Photo
from personalization.errors import WorkspaceError
from personalization.sampling.picture_record import PictureRecord, RegionRecord
from personalization.sampling.settings import Start
from personalization.stacking.regions import HALVES
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_rows import Row
from .loaded import spec_of


def rows_of(record: PictureRecord) -> list[Row]:
    """The adapters; the list says of one that it does not know."""
    return [
        Row(a.name, a.weight, a.text_weight, dict(a.blocks), _place(a.region))
        for a in record.adapters
    ]


def _place(region: RegionRecord | None) -> dict[str, str] | None:
    """As the row keeps it."""
    if region is None:
        return None
    halves = {box: name for name, box in HALVES.items()}
    box = ", ".join(f"{side:g}" for side in region.box)
    place = "brushed" if region.mask else halves.get(region.box, box)
    return {"place": place, "prompt": region.prompt}


def start_from(
    workspace: Workspace | None, base: str, image: Image.Image, mask: Image.Image | None
) -> Start:
    """What a picture starts from, kept in the visitor's workspace, where there is one.

    The record says where; the file itself would take a photo along to wherever the picture goes.
    """
    if workspace is None:
        return Start(image, mask)
    size = (spec_of(base).size,) * 2
    seen = Photo("start", image.convert("RGB").resize(size), mask and mask.resize(size))
    return Start(image, mask, workspace.save_photos([seen])[0])


def start_of(workspace: Workspace, key: str) -> Photo:
    """What a picture started from. Raises `WorkspaceError`."""
    try:
        return workspace.photos([key])[0]
    except WorkspaceError as error:
        raise WorkspaceError(html.NO_START) from error
