"""A reference picture and a structure map, beside the prompt of the stack tab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import REFERENCES, STRUCTURES
from personalization.data.maps import MAPS, map_of
from personalization.data.photos import Photo
from personalization.errors import PersonalizationError
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import UNQUEUED
from .messages import collected, user_message
from .session import Values

if TYPE_CHECKING:
    from personalization.sampling.guides import Guides
    from personalization.sampling.picture_record import PictureRecord

FACES = "A face is somebody’s: use it with their consent."
REACHES = [("all of it", "all"), ("its style", "style"), ("its layout", "layout")]


class GuidesPanel:
    """What guides a picture: folded away, and nothing by default."""

    def __init__(self) -> None:
        with gr.Accordion(
            "A reference picture, a structure map", open=False, elem_id="stack-guides"
        ) as self.accordion:
            gr.HTML(html.hint(f"Without any training: one picture that is looked at. {FACES}"))
            with gr.Row():
                self.reference = gr.Image(
                    type="pil", label="Reference picture", height=200, elem_id="stack-reference",
                    min_width=140, sources=["upload", "clipboard"],
                )  # fmt: skip
                with gr.Column(min_width=140):
                    self.weight = gr.Slider(
                        0, 1.5, value=1.0, step=0.05, label="Weight",
                        elem_id="stack-reference-weight",
                    )  # fmt: skip
                    self.reach = gr.Radio(REACHES, value="all", label="Taken from it")
            with gr.Row():
                self.structure = gr.Image(
                    type="pil", label="Edges of", height=200,
                    elem_id="stack-structure", min_width=140,
                )  # fmt: skip
                self.map = gr.Image(
                    label="Its map", height=200, interactive=False, min_width=140, visible=False,
                    buttons=["download"], elem_id="stack-map",
                )  # fmt: skip
                with gr.Column(min_width=140):
                    self.strength = gr.Slider(
                        0, 1.5, value=1.0, step=0.05, label="Strength",
                        elem_id="stack-structure-weight",
                    )  # fmt: skip
                    self.until = gr.Slider(
                        0.1, 1, value=1.0, step=0.05, label="Until",
                        info="Then it is free.",
                    )  # fmt: skip
                    self.is_map = gr.Checkbox(False, label="It is a map already")
            self.notes = gr.HTML()

    @property
    def inputs(self) -> list[Any]:
        """What `guides` reads."""
        return [
            *(self.reference, self.weight, self.reach),
            *(self.structure, self.strength, self.until, self.is_map),
        ]

    def wire(self) -> None:
        """Show the map as soon as there is a picture."""
        gr.on(
            [self.structure.change, self.is_map.change],
            self.show_map,
            {self.structure, self.is_map},
            [self.map, self.notes],
            **UNQUEUED,
        )

    def for_base(self, spec: BaseSpec) -> dict:
        """Whether the base has anything that reads them."""
        family = spec.family
        known = family in REFERENCES or any(of == family for of, _ in STRUCTURES)
        return {self.accordion: gr.update(visible=known)}

    def show_map(self, values: Values) -> dict:
        """The map of the picture that was chosen."""
        picture: Image.Image | None = values[self.structure]
        if picture is None or values[self.is_map]:
            return {self.map: gr.update(value=None, visible=False), self.notes: ""}
        try:
            made = map_of("edges", picture)
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {self.map: gr.update(value=made, visible=True), self.notes: ""}

    def guides(self, values: Values, workspace: Workspace) -> Guides | None:
        """What the form says; the pictures are kept in the workspace. Raises `WorkspaceError`."""
        from personalization.sampling.guides import Guides, Reference, Structure

        shown, drawn = values[self.reference], values[self.structure]
        reference = structure = None
        if shown is not None:
            keys = keep_pictures(workspace, [shown])
            reference = Reference((shown,), values[self.weight], values[self.reach], keys)
        if drawn is not None:
            (key,) = keep_pictures(workspace, [drawn])
            (kind, *_) = MAPS
            strength, until = values[self.strength], values[self.until]
            structure = Structure(drawn, kind, strength, until, values[self.is_map], key)
        return Guides(reference, structure) if reference or structure else None

    def restore(self, record: PictureRecord, workspace: Workspace, warnings: list[str]) -> dict:
        """The fields as the record has them; of a picture that is gone a warning."""
        reference, structure = record.reference, record.structure
        seen, drawn = (
            kept_picture(workspace, keys[0], warnings) if keys and keys[0] else None
            for keys in (reference.pictures, (structure.picture,))
        )
        return {
            self.reference: seen,
            self.weight: reference.weight,
            self.reach: reference.reach,
            self.structure: drawn,
            self.strength: structure.weight,
            self.until: structure.until,
            self.is_map: structure.is_map,
        }


def kept_picture(workspace: Workspace, key: str, warnings: list[str]) -> Image.Image | None:
    """What the workspace has under that key, or a warning more."""
    with collected(warnings):
        return workspace.photos([key])[0].image
    return None


def keep_pictures(workspace: Workspace, pictures: Sequence[Image.Image]) -> tuple[str, ...]:
    """By what the workspace finds them again. Raises `WorkspaceError`."""
    photos = [Photo("guide", picture.convert("RGB")) for picture in pictures]
    return tuple(workspace.save_photos(photos))
