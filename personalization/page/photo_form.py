"""The photos of a teaching tab: dropped or picked, shown as they are cropped, masked, captioned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from personalization.data.photos import Photo, open_photos
from personalization.data.photos import problems as photo_problems
from personalization.errors import BaseError, PhotoError, WorkspaceError
from personalization.training.presets import Purpose
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import CLICK_WITH_KEY, UNQUEUED
from .examples import ExampleSet, example_sets
from .loaded import spec_of
from .mask import MaskBrush
from .messages import collected
from .photographs import PhotographNotice
from .session import Values, page_workspace
from .uploads import take_uploads


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
        self.crops = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id=f"{purpose}-crops")
        self.drop = gr.File(
            show_label=False,
            file_count="multiple",
            height=84,
            elem_id=f"{purpose}-photos",
            elem_classes="drop",
        )
        self.notes = gr.HTML(elem_id=f"{purpose}-photo-notes")
        self.photographs = PhotographNotice(purpose)
        examples = html.example_sets(example_sets(purpose))
        self.examples = gr.HTML(examples, js_on_load=CLICK_WITH_KEY, elem_id=f"{purpose}-examples")
        with gr.Accordion("Captions", open=False, elem_id=f"{purpose}-captions-fold"):
            self.captions = gr.Textbox(
                label="Captions",
                info="A line for each photo, in their order: what else is in it, so that it is "
                "not taken for a part of the subject. An empty line leaves it to the app.",
                placeholder="on a wooden table\nin the snow",
                lines=4,
                elem_id=f"{purpose}-captions",
            )
            self.unread = gr.HTML(elem_id=f"{purpose}-captions-unread")
        self.mask = MaskBrush(purpose)
        self.shown = [  # by `show`
            *(visitor, keys, self.crops, self.notes, self.mask.which),
            *self.photographs.parts,
        ]

    def wire(self) -> None:
        """What adds, takes out and masks a photo."""
        photos: set[Any] = {self.visitor, self.base, self.keys, *self.others}
        self.drop.upload(self.add, {*photos, self.drop}, [*self.shown, self.drop], **UNQUEUED)
        self.crops.click(
            self.remove, {*photos, self.captions}, [*self.shown, self.captions], **UNQUEUED
        )
        self.mask.wire(self.visitor)
        brushed: set[Any] = {*photos, self.mask.which, self.mask.editor}
        self.mask.take.click(self.brush, brushed, self.shown, **UNQUEUED)
        self.mask.drop.click(self.brush, {*photos, self.mask.which}, self.shown, **UNQUEUED)

    def show(
        self,
        visitor: str,
        base: str,
        keys: Sequence[str],
        errors: Sequence[str] = (),
        chosen: str = "",
    ) -> dict:
        """The crops of these photos, and what is wrong with them; the `chosen` one to brush."""
        try:
            workspace, spec = page_workspace(visitor), spec_of(base)
            size = spec.size
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
            self.visitor: visitor,
            self.keys: [key for key, _ in by_key],
            self.crops: html.crops(by_key, size),
            self.notes: html.problems(errors) + html.warnings(photo_problems(photos, size)),
            **self.photographs.show(spec, photos),
            **self.mask.show(by_key, chosen),
        }

    def add(self, values: Values) -> dict:
        """Uploads become photos of the workspace; a broken one is named, the others are kept."""
        visitor, keys = values[self.visitor], values[self.keys]
        photos, broken = take_uploads(values[self.drop])
        errors = [str(error) for error in broken]
        with collected(errors):
            workspace = page_workspace(visitor)
            visitor, keys = workspace.id, [*keys, *workspace.save_photos(photos)]
        keys = list(dict.fromkeys(keys))
        return {**self.show(visitor, values[self.base], keys, errors), self.drop: None}

    def let_go(self, values: Values, stays: Sequence[str]) -> None:
        """Delete what has left this form and is on no other."""
        used = {key for form in self.others for key in values[form]}
        workspace = page_workspace(values[self.visitor])
        gone = set(values[self.keys]) - {*stays, *used}
        workspace.delete_photos(sorted(gone.intersection(workspace.photo_keys())))

    def remove(self, values: Values, event: gr.EventData) -> dict:
        """Take one photo out, and its caption with it; its file goes where nothing else uses it."""
        keys, lines = values[self.keys], values[self.captions].split("\n")
        stays = [i for i in range(max(len(keys), len(lines))) if keys[i : i + 1] != [event.key]]
        keys = [keys[i] for i in stays if i < len(keys)]
        with collected([]):  # a workspace that has gone holds no file
            self.let_go(values, keys)
        return {
            **self.show(values[self.visitor], values[self.base], keys),
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
        return self.show(visitor, values[self.base], keys, errors, key or "")

    def example(self, key: Any) -> ExampleSet:
        """The set of that key."""
        return next(each for each in example_sets(self.purpose) if each.key == key)

    def take(self, visitor: str, base: str, example: ExampleSet) -> dict:
        """An example set in place of the photos that are there."""
        errors: list[str] = []
        keys: list[str] = []
        with collected(errors):
            workspace = page_workspace(visitor)
            visitor, keys = workspace.id, workspace.save_photos(open_photos(example.photos)[0])
        return {**self.show(visitor, base, keys, errors), self.captions: ""}
