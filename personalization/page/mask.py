"""Brush over a photo: what is brushed is the subject, and the rest is hardly learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from personalization.data.photos import Photo
from personalization.errors import PersonalizationError
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import UNQUEUED
from .pictures import brushed, canvas, painted
from .session import page_workspace

LARGEST = 512  # pixels of the longer side while it is brushed over


class MaskBrush:
    """One photo at a time, chosen from those that are there."""

    def __init__(self, prefix: str):
        with gr.Accordion("Masks", open=False, elem_id=f"{prefix}-masks") as self.fold:
            gr.HTML(html.MASKS)
            self.unfolded = gr.State(False)
            self.which = gr.Dropdown([], container=False, elem_id=f"{prefix}-mask-photo")
            self.editor = canvas("The subject", height=380, elem_id=f"{prefix}-mask")
            with gr.Row():
                self.take = gr.Button(
                    "This is the subject", size="sm", elem_id=f"{prefix}-mask-take"
                )
                self.drop = gr.Button("All of it is", size="sm", elem_id=f"{prefix}-mask-drop")

    def wire(self, visitor: gr.BrowserState) -> None:
        """A photo comes onto the canvas once the fold is open."""
        asked, unfolded = [visitor, self.which], self.unfolded
        self.fold.expand(
            lambda *a: (self.open(*a), True), asked, [self.editor, unfolded], **UNQUEUED
        )
        self.fold.collapse(lambda: False, None, unfolded, **UNQUEUED)
        self.which.change(self.follow, [*asked, unfolded], self.editor, **UNQUEUED)

    def show(self, photos: Sequence[tuple[str, Photo]], chosen: str = "") -> dict:
        """These photos to choose from, by their keys."""
        choices = [(f"{i}. {photo.name}", key) for i, (key, photo) in enumerate(photos, 1)]
        keys = [key for key, _ in photos]
        value = chosen if chosen in keys else next(iter(keys), None)
        return {self.which: gr.update(choices=choices, value=value)}

    def open(self, visitor: str, key: str | None) -> Any:
        """The chosen photo on the canvas, with the mask that it has."""
        if not key:
            return None
        try:
            (photo,) = page_workspace(visitor).photos([key])
        except PersonalizationError:  # it has just been taken out
            return None
        image, mask = photo.image.copy(), photo.mask
        image.thumbnail((LARGEST, LARGEST))
        return brushed(image, mask and mask.convert("L").resize(image.size))

    def follow(self, visitor: str, key: str | None, unfolded: bool) -> Any:
        """Another photo is chosen: onto the canvas, where anyone sees it.

        What is on a canvas lies among the files that Gradio serves; no photo does unasked.
        """
        return self.open(visitor, key) if unfolded else gr.skip()

    def masked(
        self, workspace: Workspace, keys: list[str], key: str, editor: dict[str, Any] | None
    ) -> tuple[list[str], str]:
        """The photo with what was brushed as its mask, in its place; without an editor, with none.

        Returns the keys with the new one among them, and the new one. Raises `WorkspaceError`.
        """
        (photo,) = workspace.photos([key])
        mask = painted(editor)
        if mask is not None and mask.getbbox():
            photo = replace(photo, mask=mask.resize(photo.image.size))
        else:
            photo = replace(photo, mask=None)
        (new,) = workspace.save_photos([photo])
        return list(dict.fromkeys(new if each == key else each for each in keys)), new
