"""Photographs on a base that draws cartoons: said before they are taught, with a base for them."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from personalization.bases import best_device
from personalization.bases.catalog import BaseSpec
from personalization.data.photos import Photo
from personalization.training.base_selection import for_photographs
from personalization.training.presets import Purpose

from . import html
from .loaded import ON_ZERO


def photograph_notes(spec: BaseSpec, photos: Sequence[Photo], purpose: Purpose) -> list[str]:
    """A sentence where half of the photos or more lie outside what the base draws; else nothing."""
    from personalization.training.photographs import outside

    count = len(outside(spec, photos))
    if not count or 2 * count < len(photos):
        return []
    what, them = ("This is a photograph", "it") if count == 1 else ("These are photographs", "them")
    return [
        f"{what}; the pocket draws cartoons and will make patches of {them}. {remedy(purpose)} "
        "You can teach it here all the same."
    ]


def remedy(purpose: Purpose) -> str:
    """Which base is for photographs, and how long it takes on this machine."""
    found = for_photographs(purpose, best_device(), shared=ON_ZERO)
    if found is None:
        return "Photographs want Stable Diffusion, which this machine has no memory for."
    takes = f"it would take {html.duration(found.seconds)}" if found.seconds else "it can be taught"
    smaller = f" with photos of {found.size} px" if found.size < found.spec.size else ""
    return f"Photographs want Stable Diffusion: here {takes} on {found.spec.title}{smaller}."


class PhotographNotice:
    """What is said under the photos, and a button for the other base; hidden until needed."""

    def __init__(self, purpose: Purpose):
        self.purpose = purpose
        self.note = gr.HTML(elem_id=f"{purpose}-photographs")
        self.go = gr.Button(
            "", size="sm", visible=False, elem_id=f"{purpose}-photographs-go", elem_classes="other"
        )
        self.parts = [self.note, self.go]

    def show(self, spec: BaseSpec, photos: Sequence[Photo]) -> dict:
        """The notice, where these photos are for another base."""
        notes = photograph_notes(spec, photos, self.purpose)
        other = for_photographs(self.purpose, best_device(), shared=ON_ZERO) if notes else None
        label = f"Use {other.spec.title}" if other else ""
        return {
            self.note: html.warnings(notes),
            self.go: gr.update(visible=other is not None, value=label),
        }

    def other(self) -> str:
        """The name of the base that the button leads to; "" where there is none."""
        found = for_photographs(self.purpose, best_device(), shared=ON_ZERO)
        return found.spec.name if found else ""
