"""The photos of a teaching tab: dropped or picked, shown as they are cropped, masked, captioned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from personalization.data.frames import Canvas
from personalization.data.photo_problems import problems as photo_problems
from personalization.data.photos import Photo, open_photos
from personalization.errors import BaseError, PhotoError, WorkspaceError
from personalization.recipe import Framing
from personalization.training.presets import Purpose
from personalization.workspaces.workspace import Workspace

from . import html
from .entered import pressed
from .event_options import CLICK_WITH_KEY, LATEST, UNQUEUED
from .examples import ExampleSet, example_sets
from .loaded import spec_of
from .mask import MaskBrush
from .messages import collected
from .photographs import PhotographNotice
from .session import Values, page_workspace
from .uploads import take_uploads

FRAMINGS = [
    ("their own shape", "shape"),
    ("a square", "crop"),
    ("the subject", "subject"),
]


@dataclass(frozen=True)
class Shown:
    """Whose photos, and what they are shown for."""

    visitor: str
    base: str
    framing: Framing
    resolution: int  # of the recipe; 0: the base's own

    def canvas(self) -> Canvas:
        """What they are framed for. Raises `BaseError`."""
        spec = spec_of(self.base)
        known = 64 <= self.resolution <= 2048  # while it is typed, it is any number
        return Canvas(self.resolution if known else spec.size, spec.granularity, self.framing)


def readable(workspace: Workspace, keys: Sequence[str]) -> list[tuple[str, Photo]]:
    """The photos under these keys, without those whose files are damaged."""
    photos = []
    for key in keys:
        with suppress(PhotoError):
            photos += [(key, photo) for photo in workspace.photos([key])]
    return photos


class PhotoForm:
    """Photos by their keys in the workspace, in their order."""

    def __init__(
        self,
        purpose: Purpose,
        visitor: gr.BrowserState,
        base: gr.BrowserState,
        keys: gr.BrowserState,
        others: Sequence[gr.BrowserState] = (),
    ):
        """`others` are the keys of other forms, which may have the same photo."""
        self.purpose, self.visitor, self.base, self.keys = purpose, visitor, base, keys
        self.others = others
        gr.HTML(html.section(1, "Photos", "Three to five of the same thing, in different places."))
        with gr.Row(visible=False) as self.framed:
            self.framing = gr.Radio(
                FRAMINGS,
                value="shape",
                label="What is learned of a photo",
                info="The subject is what lies around a mask; photos without one keep their shape.",
                elem_id=f"{purpose}-framing",
            )
        self.crops = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id=f"{purpose}-crops")
        self.drop = gr.File(
            show_label=False,
            file_count="multiple",
            height=84,
            elem_id=f"{purpose}-photos",
            elem_classes="drop",
        )
        gr.HTML(html.hint(html.FACES))
        self.notes = gr.HTML(elem_id=f"{purpose}-photo-notes")
        self.photographs = PhotographNotice(purpose)
        examples = html.example_sets(example_sets(purpose))
        self.examples = gr.HTML(examples, js_on_load=CLICK_WITH_KEY, elem_id=f"{purpose}-examples")
        with gr.Accordion("Captions", open=False, elem_id=f"{purpose}-captions-fold"):
            self.captions = gr.Textbox(
                label="Captions",
                info="A line for each photo, in their order: what else is in it, or of a style "
                "what it shows, so that it is not taken for a part of what is learned. An empty "
                "line leaves it to the app.",
                placeholder="on a wooden table\nin the snow",
                lines=4,
                elem_id=f"{purpose}-captions",
            )
            self.unread = gr.HTML(elem_id=f"{purpose}-captions-unread")
        self.mask = MaskBrush(purpose)
        self.shown = [  # by `show`
            *(visitor, keys, self.framed, self.crops, self.notes, self.mask.which),
            *self.photographs.parts,
        ]

    def wire(self, resolution: gr.Number) -> None:
        """What adds, takes out, frames and masks a photo; `resolution` is the recipe's."""
        self.resolution = resolution
        self.look: set[Any] = {self.visitor, self.base, self.framing, resolution}
        photos: set[Any] = {*self.look, self.keys, *self.others}
        changes = [self.framing.change, resolution.change]
        gr.on(changes, self.reframe, photos, [self.crops, self.notes], **LATEST)
        self.drop.upload(self.add, {*photos, self.drop}, [*self.shown, self.drop], **UNQUEUED)
        self.crops.click(
            self.remove, {*photos, self.captions}, [*self.shown, self.captions], **UNQUEUED
        )
        self.mask.wire(self.visitor)
        brushed: set[Any] = {*photos, self.mask.which, self.mask.editor}
        self.mask.take.click(self.brush, brushed, self.shown, **UNQUEUED)
        self.mask.drop.click(self.brush, {*photos, self.mask.which}, self.shown, **UNQUEUED)

    def showing(self, values: Values) -> Shown:
        """What the photos are shown for, as the page has it."""
        visitor, base, framing = (values[part] for part in (self.visitor, self.base, self.framing))
        return Shown(visitor, base, framing or "shape", int(values[self.resolution] or 0))

    def reframe(self, values: Values) -> dict:
        """The photos by another choice of frame or size."""
        shown = self.show(self.showing(values), values[self.keys])
        return {part: shown[part] for part in (self.crops, self.notes) if part in shown}

    def show(
        self, look: Shown, keys: Sequence[str], errors: Sequence[str] = (), chosen: str = ""
    ) -> dict:
        """The frames of these photos, and what is wrong with them; the `chosen` one to brush."""
        try:
            workspace, canvas = page_workspace(look.visitor), look.canvas()
            known = set(workspace.photo_keys())
            if not known.issuperset(keys):
                errors, keys = [*errors, html.PHOTOS_GONE], [key for key in keys if key in known]
            by_key = readable(workspace, keys)
        except (WorkspaceError, BaseError) as error:
            return {self.notes: html.problems([*errors, str(error)])}
        if len(by_key) < len(keys):
            errors = [*errors, html.PHOTO_DAMAGED]
        photos = [photo for _, photo in by_key]
        return {
            self.visitor: look.visitor,
            self.keys: [key for key, _ in by_key],
            self.framed: gr.update(visible=bool(photos)),
            self.crops: html.crops(by_key, canvas),
            self.notes: html.problems(errors) + html.warnings(photo_problems(photos, canvas)),
            **self.photographs.show(spec_of(look.base), photos),
            **self.mask.show(by_key, chosen),
        }

    def add(self, values: Values) -> dict:
        """Uploads become photos of the workspace; a broken one is named, the others are kept."""
        look, keys = self.showing(values), values[self.keys]
        photos, broken = take_uploads(values[self.drop])
        errors = [str(error) for error in broken]
        with collected(errors):
            workspace = page_workspace(look.visitor)
            look = replace(look, visitor=workspace.id)
            keys = [*keys, *workspace.save_photos(photos)]
        return {**self.show(look, list(dict.fromkeys(keys)), errors), self.drop: None}

    def let_go(self, values: Values, stays: Sequence[str]) -> None:
        """Delete what has left this form and is on no other."""
        used = {key for form in self.others for key in values[form]}
        workspace = page_workspace(values[self.visitor])
        gone = set(values[self.keys]) - {*stays, *used}
        workspace.delete_photos(sorted(gone.intersection(workspace.photo_keys())))

    def remove(self, values: Values, event: gr.EventData) -> dict:
        """Take one photo out, and its caption with it; its file goes where nothing else uses it."""
        keys, lines = values[self.keys], values[self.captions].split("\n")
        stays = [
            i for i in range(max(len(keys), len(lines))) if keys[i : i + 1] != [pressed(event)]
        ]
        keys = [keys[i] for i in stays if i < len(keys)]
        with collected([]):  # a workspace that has gone holds no file
            self.let_go(values, keys)
        return {
            **self.show(self.showing(values), keys),
            self.captions: "\n".join(lines[i] for i in stays if i < len(lines)),
        }

    def brush(self, values: Values) -> dict:
        """What was brushed over is the subject of the chosen photo; without an editor, all is."""
        visitor, keys, key = (values[each] for each in (self.visitor, self.keys, self.mask.which))
        errors: list[str] = []
        with collected(errors):
            if key:
                workspace = page_workspace(visitor)
                keys, key = self.mask.masked(workspace, keys, key, values.get(self.mask.editor))
                self.let_go(values, keys)
        return self.show(self.showing(values), keys, errors, key or "")

    def example(self, key: Any) -> ExampleSet:
        """The set of that key."""
        return next(each for each in example_sets(self.purpose) if each.key == key)

    def take(self, look: Shown, example: ExampleSet) -> dict:
        """An example set in place of the photos that are there."""
        errors: list[str] = []
        keys: list[str] = []
        with collected(errors):
            workspace = page_workspace(look.visitor)
            look = replace(look, visitor=workspace.id)
            keys = workspace.save_photos(open_photos(example.photos)[0])
        return {**self.show(look, keys, errors), self.captions: ""}
