"""Captions: what a person says of each photo, and how the concept's words come into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personalization.data import words
from personalization.data.photos import Photo
from personalization.errors import ConceptError


def captioned(photos: Sequence[Photo], text: str) -> list[Photo]:
    """The photos with the lines of `text` for captions, in their order.

    An empty line leaves a photo the caption that it has. Raises `ConceptError` where there are more
    lines than photos.
    """
    lines = [line.strip() for line in words.visible(text).rstrip().splitlines()]
    if len(lines) > len(photos):
        raise ConceptError(
            f"There are {len(lines)} captions for {len(photos)} photos. Take "
            f"{len(lines) - len(photos)} out: one line for each photo, in their order.",
            field="captions",
        )
    lines += [""] * (len(photos) - len(lines))
    return [
        replace(photo, caption=line or photo.caption)
        for photo, line in zip(photos, lines, strict=True)
    ]


def in_style(contents: str, name: str) -> str:
    """The caption of a picture that shows that in the style of that name, as it is asked for."""
    return f"{contents}, {name} style"


def naming(
    caption: str,
    name: str,
    placeholder_token: str,
    *,
    of_style: bool = False,
    folds_case: bool = True,
) -> str:
    """The caption with the concept in it: as it is where it has the token, else `name` first.

    of_style: what it shows is in the style of that name, which comes last.
    """
    if words.contains(caption, placeholder_token, folds_case=folds_case):
        return caption
    return in_style(caption, name) if of_style else f"{name}, {caption}"
