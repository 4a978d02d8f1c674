"""A place for each adapter: where it counts in the picture, and what is drawn there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from personalization.stacking.regions import HALVES, Region, named
from personalization.stacking.stack import MAX_SLOTS, Stack
from personalization.workspaces.library import Entry
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_rows import Row, as_json
from .combining import Combining
from .event_options import LATEST
from .guides import keep_pictures, kept_picture
from .places_html import COLOURS, places
from .session import Values

if TYPE_CHECKING:
    from personalization.sampling.picture_record import PictureRecord

BRUSHED = "brushed"
CHOICES = [
    ("everywhere", ""),
    *((f"{half} half", half) for half in HALVES),
    (BRUSHED, BRUSHED),
]
SIDE = 384  # pixels of the canvas
HINT = (
    "Two subjects that would blend into one, each in its own part of the picture. The prompt says "
    "the scene, “on the beach”; each place says what is there. A box can be typed, too: left, top, "
    "right, bottom, from 0 to 1."
)


class PlacesPanel:
    """A choice and a prompt for each adapter, and a canvas for those that are brushed."""

    def __init__(self, combining: Combining) -> None:
        self.combining, self.adapter_list = combining, combining.adapter_list
        with gr.Accordion(
            "A place for each adapter", open=False, visible=False, elem_id="stack-places"
        ) as self.fold:
            gr.HTML(html.hint(HINT))
            self.rows: list[gr.Row] = []
            self.where: list[gr.Dropdown] = []
            self.prompts: list[gr.Textbox] = []
            for number in range(MAX_SLOTS):
                self.build_row(number)
            self.canvas = gr.ImageEditor(
                value=blank(),  # type: ignore[arg-type]  # the editor takes such a dict
                type="pil",
                label="Places",
                visible=False,
                height=SIDE + 60,
                canvas_size=(SIDE, SIDE),
                layers=False,
                transforms=(),
                sources=(),
                brush=gr.Brush(colors=list(COLOURS), color_mode="fixed", default_size=60),
                elem_id="stack-places-canvas",
            )
            self.shown = gr.HTML(elem_id="stack-places-shown")
        self.inputs: set[Any] = {self.canvas}
        self.parts = [self.fold, self.shown, self.canvas, *self.rows, *self.where, *self.prompts]

    def build_row(self, number: int) -> None:
        """One adapter's, hidden until there is one."""
        with gr.Row(visible=False, elem_id=f"place-{number}") as row:
            self.where.append(
                gr.Dropdown(
                    CHOICES,
                    value="",
                    allow_custom_value=True,
                    min_width=130,
                    scale=2,
                    elem_id=f"place-{number}-where",
                )
            )
            self.prompts.append(
                gr.Textbox(
                    label="What is there", min_width=160, scale=3, elem_id=f"place-{number}-prompt"
                )
            )
        self.rows.append(row)

    def wire(self) -> None:
        """Keep what is chosen with the list, and show it."""
        listed = self.adapter_list
        fields: list[gr.Dropdown | gr.Textbox] = [*self.where, *self.prompts]
        inputs: set[Any] = {listed.stored, *listed.weights, *fields}
        kept_in = [listed.stored, self.shown, self.canvas]
        events = [field.input for field in fields]
        gr.on(events, self.keep, inputs, kept_in, **LATEST)

    def show(self, entries: Sequence[Entry], rows: Sequence[Row]) -> dict:
        """The places of these adapters."""
        reply: dict = {
            self.fold: gr.update(visible=bool(entries)),
            self.shown: places(rows),
            self.canvas: gr.update(visible=any(brushed(row) for row in rows)),
        }
        for number in range(MAX_SLOTS):
            row = rows[number] if number < len(rows) else None
            label = html.called(entries[number]) if row else ""
            region = (row.region or {}) if row else {}
            about = entries[number].description if row else None
            said = region.get("prompt") or (f"a photo of {about.trigger}" if about else "")
            reply |= {
                self.rows[number]: gr.update(visible=row is not None),
                self.where[number]: gr.update(label=label, value=region.get("place", "")),
                self.prompts[number]: said,
            }
        return reply

    def keep(self, values: Values) -> dict:
        """The list with the places as they are chosen now."""
        rows = [
            row._replace(region=kept(values[where], values[prompt]))
            for row, where, prompt in zip(
                self.adapter_list.rows_in(values), self.where, self.prompts, strict=False
            )
        ]
        return {
            self.adapter_list.stored: as_json(rows),
            self.shown: places(rows),
            self.canvas: gr.update(visible=any(brushed(row) for row in rows)),
        }

    def stack(self, values: Values) -> Stack:
        """The list's stack with its places, the brushed ones kept in the workspace; not checked.

        Raises what is wrong with its files, or what says a place.
        """
        stack = self.combining.listed(values)
        rows = self.adapter_list.rows_in(values)
        if not any(row.region for row in rows):
            return stack
        workspace = self.adapter_list.visit(values).workspace
        slots = tuple(
            replace(slot, region=self.region(row, number, values, workspace))
            for number, (slot, row) in enumerate(zip(stack.slots, rows, strict=True))
        )
        return replace(stack, slots=slots)

    def region(self, row: Row, number: int, values: Values, workspace: Workspace) -> Region | None:
        """Where the adapter of that number counts."""
        if not row.region:
            return None
        place, prompt = row.region["place"], row.region.get("prompt", "")
        if place != BRUSHED:
            return Region(named(place), prompt)
        mask = painted_in(values[self.canvas], COLOURS[number])
        return Region(prompt=prompt, mask=mask, key=keep_pictures(workspace, [mask])[0])

    def restore(self, record: PictureRecord, workspace: Workspace, warnings: list[str]) -> dict:
        """The canvas as the record has it; of a mask that is gone a warning."""
        layer = Image.new("RGBA", (SIDE, SIDE))
        for number, adapter in enumerate(record.adapters):
            key = adapter.region.mask if adapter.region else ""
            mask = kept_picture(workspace, key, warnings) if key else None
            if mask is not None:
                ink = Image.new("RGBA", layer.size, COLOURS[number])
                layer.paste(ink, mask=mask.convert("L").resize(layer.size))
        return {self.canvas: gr.update(value={**blank(), "layers": [layer]})}


def kept(place: str, prompt: str) -> dict[str, str] | None:
    """A place as the browser keeps it."""
    return {"place": place, "prompt": prompt or ""} if place else None


def brushed(row: Row) -> bool:
    """Whether its place is on the canvas."""
    return bool(row.region) and (row.region or {}).get("place") == BRUSHED


def blank() -> dict[str, Any]:
    """A canvas with nothing on it."""
    return {"background": Image.new("RGB", (SIDE, SIDE), "white"), "layers": [], "composite": None}


def painted_in(editor: dict[str, Any] | None, colour: str) -> Image.Image:
    """What was brushed in that colour, white on black; the nearest of `COLOURS` counts."""
    layers = (editor or {}).get("layers")
    if not layers:
        return Image.new("L", (SIDE, SIDE))
    pixels = np.asarray(layers[0].convert("RGBA"), np.int32)
    inks = np.array([tuple(bytes.fromhex(each[1:])) for each in COLOURS])
    nearest = np.abs(pixels[..., None, :3] - inks).sum(-1).argmin(-1)
    there = (nearest == COLOURS.index(colour)) & (pixels[..., 3] > 64)
    return Image.fromarray((there * 255).astype(np.uint8))
