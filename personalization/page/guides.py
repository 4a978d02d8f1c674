"""What guides a picture, between page, programs and GPU: read, kept, or left out with a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import READ_REFERENCES, REFERENCES, STRUCTURES, maps_for
from personalization.data.photos import Photo, open_photo
from personalization.sampling.guides import MAX_REFERENCES, MAX_WEIGHT
from personalization.workspaces.workspace import Workspace

from .loaded import base as loaded
from .messages import collected
from .requests import Name, Number, Request, at_most
from .uploads import Upload

if TYPE_CHECKING:
    from personalization.sampling.guides import Guides
    from personalization.sampling.settings import Settings

WEIGHT = f"a number from 0 to {MAX_WEIGHT:g}"


class ReferenceRequest(Request):
    """Pictures to look at, without any training."""

    pictures: Annotated[list[Upload], at_most(MAX_REFERENCES)]
    weight: Number = Field(1.0, description=WEIGHT)
    reach: Literal["all", "style", "layout"] = "all"
    by: Name = Field("", description="a reader that list_bases names; empty for the first")


class StructureRequest(Request):
    """A picture whose map is followed, or the map itself."""

    picture: Upload
    kind: Literal["edges", "depth", "lineart", "pose"] = "edges"
    weight: Number = Field(1.0, description=WEIGHT)
    until: Number = Field(1.0, description="a number from 0 to 1, the share of the steps")
    is_map: bool = False
    by: Name = Field("", description="a repository that list_bases names; empty for the first")


def guides_of(spec: BaseSpec) -> dict[str, Any]:
    """What guides a base: how many references it looks at, who reads them, who follows which
    maps."""
    family = spec.family
    maps = {
        kind: ["" if Path(by.weights.source).is_dir() else by.weights.source for by in known]
        for kind in maps_for(family)
        if (known := STRUCTURES[family, kind])
    }
    return {
        "references": MAX_REFERENCES * (family in READ_REFERENCES),
        "maps": maps,
        "readers": [by.name for by in REFERENCES.get(family, ())],
    }


def asked_for(
    reference: ReferenceRequest | None, structure: StructureRequest | None, owner: Workspace | None
) -> Guides:
    """What a program asks for; the pictures are kept where there is a session to keep them in.

    Raises `PhotoError` for what is no picture.
    """
    from personalization.sampling.guides import Guides, Reference, Structure

    seen = followed = None
    if reference:
        pictures = [open_photo(Path(path)).image for path in reference.pictures]
        keys = keep_pictures(owner, pictures)
        seen = Reference(tuple(pictures), reference.weight, reference.reach, keys, reference.by)
    if structure:
        picture = open_photo(Path(structure.picture)).image
        (key,) = keep_pictures(owner, [picture])
        values = structure.model_dump(exclude={"picture"})
        followed = Structure(picture, key=key, **values)
    return Guides(seen, followed)


def usable_guides(
    base_name: str, guides: Guides | None, settings: Settings
) -> tuple[Guides, list[str]]:
    """What of it that base can be drawn with, and a sentence for each that it cannot."""
    from personalization.sampling.guides import NO_GUIDES
    from personalization.sampling.guiding import usable

    if guides in (None, NO_GUIDES):
        return NO_GUIDES, []
    base = loaded(base_name)
    return usable(base, guides or NO_GUIDES, settings.size(base.spec.size))


def kept_picture(workspace: Workspace, key: str, warnings: list[str]) -> Image.Image | None:
    """What the workspace has under that key, or a warning more."""
    with collected(warnings):
        return workspace.photos([key])[0].image
    return None


def keep_pictures(workspace: Workspace | None, pictures: Sequence[Image.Image]) -> tuple[str, ...]:
    """By what the workspace finds them again; empty texts without one. Raises `WorkspaceError`."""
    if workspace is None:
        return ("",) * len(pictures)
    photos = [Photo("guide", picture.convert("RGB")) for picture in pictures]
    return tuple(workspace.save_photos(photos))
