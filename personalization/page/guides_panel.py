"""Reference pictures and a structure map, beside the prompt of the stack tab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image, ImageOps

from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import (
    LOOKS_ITSELF,
    READ_REFERENCES,
    REFERENCES,
    STRUCTURES,
    maps_for,
)
from personalization.data.maps import MAPS, MapKind
from personalization.sampling.guides import BESIDE_A_SUBJECT
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import LATEST, QUEUED
from .guides import keep_pictures, kept_picture
from .loaded import base as loaded
from .loaded import spec_of
from .messages import collected
from .session import Values

if TYPE_CHECKING:
    from personalization.sampling.guides import Guides, Structure
    from personalization.sampling.picture_record import PictureRecord

REACHES = [("all of it", "all"), ("its style", "style"), ("its layout", "layout")]
SOURCES = [("of a picture", "picture"), ("a map that I have", "map"), ("draw one", "draw")]
BESIDE = "Beside a subject that was taught, more takes from it."
FAINT = 5  # grey levels: what is no darker is paper


class GuidesPanel:
    """What guides a picture: folded away, and nothing by default."""

    def __init__(self, base: gr.BrowserState) -> None:
        self.base = base
        with gr.Accordion(
            "A reference picture, a structure map", open=False, elem_id="stack-guides"
        ) as self.accordion:
            with gr.Column() as self.reading:
                gr.HTML(html.hint(f"What it is to look like, without any training. {html.FACES}"))
                self.reference = gr.Gallery(
                    type="pil", label="Reference pictures, up to four", height=200, columns=4,
                    file_types=["image"], interactive=True, elem_id="stack-reference",
                    object_fit="contain", fit_columns=False,
                )  # fmt: skip
                with gr.Row() as self.how_read:
                    self.weight = weight("Weight", "stack-reference-weight")
                    self.reach = gr.Radio(REACHES, value="all", label="Taken from it")
                self.reader = gr.Dropdown(
                    [], label="Read by", visible=False, elem_id="stack-reference-by"
                )
            with gr.Column() as self.following:
                gr.HTML(
                    html.hint(
                        "Where things go: a map that the picture follows. Drawn by hand, dark is "
                        "an edge, or what is near."
                    )
                )
                with gr.Row():
                    self.kind = gr.Radio(
                        list(MAPS), value="edges", label="Map", elem_id="stack-structure-kind"
                    )
                    self.source = gr.Radio(
                        SOURCES, value="picture", label="From", elem_id="stack-structure-source"
                    )
                with gr.Row():
                    self.structure = gr.Image(
                        type="pil", label="Picture", height=220, elem_id="stack-structure",
                        min_width=140, sources=["upload", "clipboard"],
                    )  # fmt: skip
                    self.sketch = gr.Sketchpad(
                        type="pil", label="Your map", height=320, visible=False,
                        layers=False, transforms=(), canvas_size=(256, 256), min_width=280,
                        brush=gr.Brush(colors=["#000000", "#555555", "#aaaaaa"],
                                       color_mode="fixed", default_size=3),
                        elem_id="stack-sketch",
                    )  # fmt: skip
                    self.map = gr.Image(
                        label="Its map", height=220, interactive=False, min_width=140,
                        visible=False, buttons=["download"], elem_id="stack-map",
                    )  # fmt: skip
                self.by = gr.Dropdown([], label="Followed by", visible=False)
                with gr.Row():
                    self.strength = weight("Strength", "stack-structure-weight")
                    self.until = gr.Slider(
                        0.1, 1, value=1.0, step=0.05, label="Until",
                        info="Of the steps; then it is free.",
                    )  # fmt: skip
            self.notes = gr.HTML()

    @property
    def inputs(self) -> list[Any]:
        """What `guides` reads."""
        return [
            *(self.reference, self.weight, self.reach, self.reader),
            *(self.kind, self.source, self.structure, self.sketch, self.by),
            *(self.strength, self.until),
        ]

    @property
    def rebased(self) -> list[Any]:
        """What changes with the base."""
        parts = [self.accordion, self.reading, self.how_read, self.following]
        return [*parts, self.weight, self.reach, self.reader, self.kind, self.by]

    def wire(self) -> None:
        """Show the map as soon as there is a picture."""
        shown = [self.structure, self.sketch, self.map, self.by, self.notes]
        gr.on(
            [self.structure.change, self.source.change, self.kind.change],
            self.show_map,
            {self.base, self.structure, self.sketch, self.source, self.kind, self.by},
            shown,
            **QUEUED | {"show_progress": "minimal"},
        )

        self.sketch.change(self.show_drawn, [self.source, self.sketch], self.map, **LATEST)

    def weigh(self, values: Values, *, beside: bool) -> dict:
        """A new reference's weight, unless somebody has set it; little beside a taught subject."""
        known = values[self.weight] in (1.0, BESIDE_A_SUBJECT)
        if not known or spec_of(values[self.base]).family in LOOKS_ITSELF:
            return {self.weight: gr.skip()}
        weight, why = (BESIDE_A_SUBJECT, BESIDE) if beside else (1.0, None)
        return {self.weight: gr.update(value=weight, info=why)}

    def show_drawn(self, source: str, sketch: dict[str, Any] | None) -> dict:
        """The map of what has been drawn so far."""
        made = drawn(sketch) if source == "draw" else None
        return gr.update(value=made, visible=made is not None)

    def for_base(self, spec: BaseSpec) -> dict:
        """What the base can be guided by."""
        maps, reads = maps_for(spec.family), spec.family in READ_REFERENCES
        whole = spec.family in LOOKS_ITSELF
        return {
            self.accordion: gr.update(visible=bool(maps) or reads),
            self.reading: gr.update(visible=reads),
            self.how_read: gr.update(visible=not whole),
            **({self.weight: 1.0, self.reach: "all"} if whole else {}),
            self.reader: readers(spec),
            self.following: gr.update(visible=bool(maps)),
            self.kind: gr.update(choices=maps, value=maps[0]) if maps else gr.skip(),
            self.by: followers(spec, maps[0]) if maps else gr.update(visible=False),
        }

    def show_map(self, values: Values) -> dict:
        """The map of the picture that was chosen, and who can follow it."""
        from personalization.sampling.guides import Structure
        from personalization.sampling.guiding import map_of

        source, kind, picture = (values[p] for p in (self.source, self.kind, self.structure))
        spec, made = spec_of(values[self.base]), None
        problems: list[str] = []
        if picture is not None and source == "picture":
            side = spec.size
            with collected(problems):
                made = map_of(loaded(values[self.base]), Structure(picture, kind), (side, side))
        elif source == "draw":
            made = drawn(values[self.sketch])
        return {
            self.structure: gr.update(visible=source != "draw"),
            self.sketch: gr.update(visible=source == "draw"),
            self.map: gr.update(value=made, visible=made is not None),
            self.by: followers(spec, kind, values[self.by]),
            self.notes: html.problems(problems),
        }

    def guides(self, values: Values, workspace: Workspace) -> Guides | None:
        """What the form says; the pictures are kept in the workspace. Raises `WorkspaceError`."""
        from personalization.sampling.guides import Guides, Reference

        reference = None
        if shown := tuple(picture for picture, _ in values[self.reference] or ()):
            keys = keep_pictures(workspace, shown)
            how = values[self.weight], values[self.reach]
            reference = Reference(shown, *how, keys, values[self.reader] or "")
        structure = self.followed(values, workspace)
        return Guides(reference, structure) if reference or structure else None

    def followed(self, values: Values, workspace: Workspace) -> Structure | None:
        """The map of the form, if there is one."""
        from personalization.sampling.guides import Structure

        source = values[self.source]
        picture = drawn(values[self.sketch]) if source == "draw" else values[self.structure]
        if picture is None:
            return None
        (key,) = keep_pictures(workspace, [picture])
        return Structure(
            picture,
            values[self.kind],
            values[self.strength],
            values[self.until],
            is_map=source != "picture",
            key=key,
            by=values[self.by] or "",
        )

    def restore(
        self, record: PictureRecord, spec: BaseSpec, workspace: Workspace, warnings: list[str]
    ) -> dict:
        """The fields as the record has them; of a picture that is gone a warning.

        Who looked and who followed are those of another base, where `spec` is not the picture's.
        """
        reference, structure = record.reference, record.structure
        kind: Any = structure.kind or "edges"
        kept = [kept_picture(workspace, key, warnings) for key in reference.pictures if key]
        followed = structure.picture and kept_picture(workspace, structure.picture, warnings)
        return {
            self.reference: [picture for picture in kept if picture],
            self.weight: reference.weight,
            self.reach: reference.reach,
            self.reader: readers(spec, reference.by),
            self.kind: structure.kind or gr.skip(),
            self.source: "map" if structure.is_map else "picture",
            self.structure: followed or None,
            self.by: followers(spec, kind, structure.by),
            self.strength: structure.weight,
            self.until: structure.until,
        }


def weight(label: str, elem_id: str) -> gr.Slider:
    """How much a guide counts."""
    return gr.Slider(0, 1.5, value=1.0, step=0.05, label=label, elem_id=elem_id, min_width=140)


def readers(spec: BaseSpec, chosen: str = "") -> dict[str, Any]:
    """Who can look at a reference on that base, to choose from where there are several."""
    known = REFERENCES.get(spec.family, ())
    choices = [(by.title, by.name) for by in known]
    value = chosen if chosen in [by.name for by in known] else ""
    return gr.update(choices=choices, value=value if known else None, visible=len(known) > 1)


def followers(spec: BaseSpec, kind: MapKind, chosen: str | None = "") -> dict[str, Any]:
    """Who can follow such a map on that base, to choose from where there are several."""
    known = STRUCTURES.get((spec.family, kind), ())
    choices = [(by.title, by.weights.source if i else "") for i, by in enumerate(known)]
    value = chosen if chosen in [source for _, source in choices] else ""
    return gr.update(choices=choices, value=value if known else None, visible=len(known) > 1)


def drawn(sketch: dict[str, Any] | None) -> Image.Image | None:
    """What was drawn dark on a white sheet as a map, white on black; None of an empty one."""
    composite: Image.Image | None = (sketch or {}).get("composite")
    if composite is None:
        return None
    sheet = Image.new("RGBA", composite.size, "white")
    sheet.alpha_composite(composite.convert("RGBA"))
    ink = ImageOps.invert(sheet.convert("L"))
    return ink if ink.point(lambda grey: 255 * (grey > FAINT)).getbbox() else None
