"""“Your things”, at the foot of the page: all that a visitor has here, in their own hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.files import on_disk
from personalization.workspaces import archive
from personalization.workspaces.belongings import (
    KINDS,
    Deleted,
    Kind,
    arranged,
    belongings,
    delete,
)
from personalization.workspaces.trash import UNDO
from personalization.workspaces.workspace import Workspace

from . import html, things_html
from .entered import key_of, pressed
from .event_options import CLICK_WITH_KEY, LATEST, UNQUEUED
from .messages import collected, user_message
from .session import Values, page_workspace
from .uploads import served_path, shelf_of

ORDERS = [("newest first", "newest"), ("by name", "name"), ("largest first", "size")]


def remove(workspace: Workspace, kind: Kind, names: Sequence[str] | None = None) -> Deleted:
    """Delete these, or all of that kind; after the seconds of an undo they are gone for good."""
    deleted = delete(workspace, kind, names)
    shelf_of(workspace).withdraw()
    if deleted.count:
        timer = threading.Timer(UNDO + 0.5, workspace.trash.purge)
        timer.daemon = True
        timer.start()
    return deleted


def packed(workspace: Workspace) -> str:
    """Everything of the visitor's as a zip that Gradio serves."""
    with on_disk():
        return str(archive.write(workspace, served_path(workspace, "your-things.zip")))


def together(before: Sequence[Any], now: Sequence[Any]) -> list[Any]:
    """What a form held, as it is now where it is still there, and what has come since."""

    def name(each: Any) -> Any:
        return each[0] if isinstance(each, list) else each  # a row of the stack, or a photo's key

    there = {name(each): each for each in now}
    return [there.pop(name(each), each) for each in before] + list(there.values())


class Things:
    """What there is, how large it is, and what deletes, renames, keeps and downloads it."""

    def __init__(self, visitor: gr.BrowserState, forms: Sequence[gr.BrowserState]):
        """`forms` hold what is on a form, or on the stack: an undo puts it back there."""
        self.visitor, self.forms = visitor, list(forms)
        self.whole = gr.State([])  # kinds of which all are shown
        self.before = gr.State([])  # what the forms held before the last deletion
        self.editing = gr.State([])  # what is renamed or kept: its action and name
        with gr.Accordion("Your things", open=False, elem_id="things") as self.fold:
            self.meter = gr.HTML(elem_id="things-meter")
            with gr.Row(elem_classes="ask"):
                self.search = gr.Textbox(
                    placeholder="Search",
                    container=False,
                    max_lines=1,
                    scale=3,
                    min_width=150,
                    elem_id="things-search",
                )
                self.order = gr.Dropdown(
                    ORDERS,
                    value="newest",
                    container=False,
                    scale=1,
                    min_width=140,
                    elem_id="things-order",
                )
                self.pack = gr.Button("Download all", scale=1, min_width=130, elem_id="things-pack")
            self.zip = gr.File(show_label=False, visible=False, elem_id="things-zip")
            self.undo_bar = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id="things-undo")
            self.notes = gr.HTML(elem_id="things-notes")
            with gr.Row(visible=False, elem_classes="ask", elem_id="things-edit") as self.edit:
                self.title = gr.Textbox(label="Title", max_lines=1, min_width=150)
                self.word = gr.Textbox(
                    label="Word that calls it in a prompt", max_lines=1, min_width=150
                )
                self.save = gr.Button("Save", variant="primary", scale=0, min_width=90)
                self.leave = gr.Button("Cancel", scale=0, min_width=90)
            self.list = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id="things-list")
        self.shown: list[Any] = [self.meter, self.list]
        self.edited: list[Any] = [self.edit, self.title, self.word, self.editing]

    def wire(self, then: Callable[[Any], None], then_back: Callable[[Any], None]) -> None:
        """`then` follows what has changed what the visitor has, `then_back` an undo."""
        asked: set[Any] = {self.visitor, self.search, self.order, self.whole}
        self.fold.expand(self.show, asked, self.shown, **UNQUEUED)
        for changed in (self.search.input, self.order.input):
            changed(self.show, asked, self.shown, **LATEST)
        acted = [*self.shown, *self.edited, self.whole, self.undo_bar, self.before, self.notes]
        then(self.list.click(self.act, {*asked, *self.forms}, acted, **UNQUEUED))
        back = [*self.shown, self.undo_bar, self.notes, *self.forms]
        now: set[Any] = {*asked, *self.forms, self.before}
        then_back(self.undo_bar.click(self.undo, now, back, **UNQUEUED))
        fields: set[Any] = {*asked, self.editing, self.title, self.word}
        kept = [*self.shown, *self.edited, self.notes]
        then(gr.on([self.save.click, self.title.submit], self.keep, fields, kept, **UNQUEUED))
        self.leave.click(self.close, None, self.edited, **UNQUEUED)
        self.pack.click(
            self.download, self.visitor, [self.zip, self.notes], api_visibility="private"
        )

    def show(self, values: Values) -> dict:
        """The meter, and the pieces that the search leaves."""
        try:
            workspace = page_workspace(values[self.visitor])
            found = belongings(workspace)
            hits = arranged(found, (values[self.search] or "")[:200], values[self.order])
            used = workspace.size()
        except PersonalizationError as error:
            return {self.meter: html.problems([str(error)])}
        return {
            self.meter: things_html.meter(found, used, workspace.quota),
            self.list: things_html.listing(found, hits, values[self.whole], time.time()),
        }

    def act(self, values: Values, event: gr.EventData) -> dict:
        """One of the buttons in the list."""
        what, kind, *name = key_of(event, least=2)
        errors: list[str] = []
        reply: dict = {}
        with collected(errors):
            if what == "more":
                reply = {self.whole: [*values[self.whole], kind]}
            elif what in ("delete", "all") and kind in KINDS:
                reply = self.delete(values, kind, name if what == "delete" else None)
            elif what in ("rename", "keep") and name:
                reply = self.open(page_workspace(values[self.visitor]), what, *name)
        now = values | {part: reply[part] for part in (self.whole,) if part in reply}
        return {self.notes: html.problems(errors), **self.show(now), **reply}

    def delete(self, values: Values, kind: Kind, names: Sequence[str] | None) -> dict:
        """Into the trash, with the button that brings it back. Raises `WorkspaceError`."""
        deleted = remove(page_workspace(values[self.visitor]), kind, names)
        bar = things_html.undo(deleted.count, kind, deleted.ticket) if deleted.count else ""
        return {
            self.undo_bar: bar,
            self.before: [values[form] for form in self.forms],
            self.notes: html.problems(deleted.kept),
        }

    def undo(self, values: Values, event: gr.EventData) -> dict:
        """What was deleted, back in its place, and its photos on the forms again."""
        try:
            page_workspace(values[self.visitor]).trash.put_back(pressed(event))
        except PersonalizationError as error:
            return {self.undo_bar: "", self.notes: html.problems([str(error)])}
        forms = {
            form: together(before, values[form])
            for form, before in zip(self.forms, values[self.before], strict=False)
        }
        return {**self.show(values), self.undo_bar: "", self.notes: "", **forms}

    def open(self, workspace: Workspace, what: str, name: str) -> dict:
        """The fields for what is renamed, or kept as a preset. Raises what is wrong with it."""
        title, word, has_word = "", "", False
        if what == "rename":
            entry = workspace.library.entry(name)
            if about := entry.description:
                title, word = about.title, about.placeholder_token
                has_word = workspace.library.word_can_be_renamed(entry.name)
        else:
            run = workspace.run(name)
            title = f"{run.record.concept.placeholder_token} {run.recipe.steps} steps"
        return {
            self.edit: gr.update(visible=True),
            self.title: title,
            self.word: gr.update(value=word, visible=has_word),
            self.editing: [what, name],
        }

    def close(self) -> dict:
        """Without the fields."""
        return {self.edit: gr.update(visible=False), self.editing: []}

    def keep(self, values: Values) -> dict:
        """The new title and word, or the run's recipe as a preset."""
        try:
            workspace = page_workspace(values[self.visitor])
            match values[self.editing]:
                case ["rename", name]:
                    word = values[self.word].strip()
                    workspace.library.rename(name, values[self.title], word)
                    said = ""
                case ["keep", name]:
                    preset = workspace.presets.keep(values[self.title], workspace.run(name).recipe)
                    said = html.hint(f"Kept as “{preset}”: choose it under “Your presets”.")
                case _:
                    return self.close()
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}
        return {**self.show(values), **self.close(), self.notes: said}

    def download(self, visitor: str) -> dict:
        """Everything as a zip."""
        try:
            path = packed(page_workspace(visitor))
        except (PersonalizationError, OSError) as error:
            return {self.notes: html.problems([user_message(error)])}
        return {self.zip: gr.update(value=path, visible=True), self.notes: ""}
