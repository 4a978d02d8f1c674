"""What guides a picture, between page, programs and GPU: read, kept, or left out with a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from personalization.bases.catalog import BaseSpec, Task
from personalization.bases.guides import READ_REFERENCES, REFERENCES, STRUCTURES, maps_for
from personalization.data.photos import Photo, open_mask, open_photo
from personalization.errors import PhotoError
from personalization.sampling.guides import MAX_REFERENCES, MAX_WEIGHT
from personalization.sampling.settings import STRENGTH, Start
from personalization.workspaces.workspace import Workspace

from .loaded import base as loaded
from .messages import collected
from .records import start_from
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


class StartRequest(Request):
    """A picture to begin from, whole or where a mask is white."""

    picture: Upload
    mask: Upload | None = Field(None, description="a picture that is white where it is drawn anew")
    strength: Number = Field(
        0.6, description=f"a number from {STRENGTH[0]:g} to {STRENGTH[1]:g}, how much it changes"
    )

    @property
    def task(self) -> Task:
        """What is asked for by it."""
        return "inpaint" if self.mask else "image"


def start_in(asked: StartRequest | None, base: str, owner: Workspace | None) -> Start | None:
    """What a picture starts from, kept where there is a session to keep it in.

    Raises `PhotoError` for what is no picture, or a mask of another shape.
    """
    if asked is None:
        return None
    image = open_photo(Path(asked.picture)).image
    mask = open_mask(Path(asked.mask)) if asked.mask else None
    if mask is not None and mask.size != image.size:
        sizes = [f"{width} x {height}" for width, height in (mask.size, image.size)]
        raise PhotoError(
            f"The mask is {sizes[0]} pixels, the picture {sizes[1]}. Draw the mask on this "
            "picture.",
            field="start",
        )
    return start_from(owner, base, image, mask)


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
