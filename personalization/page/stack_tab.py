"""The stack tab: the list of adapters on the left, the draw panel on the right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gradio as gr

from personalization.adapters.adapter import Description
from personalization.errors import PersonalizationError
from personalization.workspaces.library import Entry

from . import html
from .adapter_list import AdapterList
from .adapter_rows import Row
from .address import Address
from .combining import Combining
from .draw_panel import DrawPanel
from .exchange import FromHub, TakeAway
from .loaded import spec_of
from .places_panel import PlacesPanel
from .publishing import Publishing
from .restoring import Restoring
from .runs import showcase
from .session import Values, Visit, keep, recalled
from .stack_sharing import StackSharing
from .versions import Versions


def first_prompt(adapters: Iterable[Description]) -> str:
    """A prompt that calls these adapters, for whoever has none yet."""
    adapters = list(adapters)
    looks = [f", {about.trigger} style" for about in adapters if about.kind == "style"]
    things = [about.trigger for about in adapters if about.kind != "style" and about.trigger]
    return f"{' and '.join(things) or 'a dog'}{''.join(looks) or ' on the beach'}"


class StackTab:
    """Adapters, each with its weight; a prompt; pictures."""

    def __init__(
        self,
        visitor: gr.BrowserState,
        base: gr.BrowserState,
        adapter_list: gr.BrowserState,
        drawing: gr.BrowserState,
    ):
        self.drawing = drawing
        gr.HTML(html.STACK_PROMISE)
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="form-column"):
                self.adapter_list = AdapterList(visitor, base, adapter_list)
                self.hub = FromHub(self.adapter_list)
                self.combining = Combining(self.adapter_list)
                self.places = PlacesPanel(self.combining)
                self.take = TakeAway(self.combining)
                self.publishing = Publishing(self.take)
                self.versions = Versions(self.take)
            with gr.Column(scale=6, min_width=320, elem_classes="panel-column"):
                self.draw_panel = DrawPanel(self.adapter_list, self.combining, self.places)
                self.restoring = Restoring(self.draw_panel)
                self.sharing = StackSharing(self.draw_panel)
        self.adapter_list.follow = self.follow
        # Everything that changes with what is on the list.
        self.board = [
            *(*self.adapter_list.parts, *self.combining.parts, *self.draw_panel.parts),
            *self.places.parts,
            self.take.which,
        ]
        # And with the base.
        self.rebased = [
            *(*self.combining.blocks, self.adapter_list.notes, *self.adapter_list.labels),
            *self.draw_panel.rebased,
            *self.publishing.rebased,
            self.hub.ready,
        ]
        # What the browser remembers beside the list, the prompts first.
        self.kept = [*self.draw_panel.form.kept, *self.combining.how]
        self.restored = [*self.board, *self.rebased, *self.kept]
        self.adapter_list.wire(self.board, self.then_meet)
        self.hub.wire(self.board, self.then_meet)
        self.combining.wire()
        self.places.wire()
        self.take.wire()
        self.publishing.wire()
        self.versions.wire(self.board, self.then_meet)
        self.draw_panel.wire()
        self.restoring.wire(self.board, self.then_meet)
        self.sharing.wire()
        keep(drawing, [base, *self.kept])

    @property
    def prompt(self) -> gr.Textbox:
        """What to draw."""
        return self.draw_panel.form.prompt

    @property
    def then_meet(self) -> Callable[[Any], None]:
        """Wires what follows an event that may have changed the list."""
        return self.combining.then_meet

    def follow(self, entries: Sequence[Entry], rows: Sequence[Row]) -> dict:
        """What follows from these adapters being on the list."""
        return {
            **self.combining.show(entries),
            **self.places.show(entries, rows),
            **self.draw_panel.show(entries),
            **self.take.show(entries),
        }

    def rebase(self, visit: Visit, values: Values) -> dict:
        """The tab for another base: how it draws, its parts, and what is not for it."""
        return self.for_base(visit, self.rows_stored(values))

    def for_base(self, visit: Visit, rows: Sequence[Row]) -> dict:
        """What the visit's base decides, with these rows on the list."""
        spec = spec_of(visit.base)
        return {
            **self.combining.rebase(visit.base),
            self.adapter_list.notes: html.problems(self.adapter_list.misfits(visit, rows)),
            **self.adapter_list.relabelled(visit, rows),
            **self.draw_panel.for_base(spec),
            **self.publishing.for_base(spec),
            **self.hub.for_base(spec),
        }

    def rows_stored(self, values: Values) -> list[Row]:
        """The rows as the browser keeps them."""
        return [Row(*row) for row in values[self.adapter_list.stored]]

    def refresh(self, values: Values) -> dict:
        """The same rows before a library that has grown."""
        return self.adapter_list.show(
            self.adapter_list.visit(values), self.adapter_list.rows_in(values)
        )

    def bring_back(self, values: Values) -> dict:
        """The rows as the browser keeps them, of which some were gone from the page."""
        listed = self.adapter_list
        return listed.show(listed.visit(values), self.rows_stored(values))

    def take_run(self, values: Values, name: str, publish: bool = False) -> dict:
        """What the run of that name has learned, onto the list; and a prompt for it.

        publish: open what publishes it too.
        """
        visit, rows = self.adapter_list.visit(values), self.adapter_list.rows_in(values)
        run, library = visit.workspace.run(name), visit.workspace.library
        copies = library.copies(run.adapter_path)
        entry = copies[0] if copies else library.add(run.adapter_path, run.concept.name)
        try:
            board = self.adapter_list.with_row(visit, rows, entry.name)
        except PersonalizationError as error:  # learned on another base than the one in use
            board = self.adapter_list.show(visit, rows, [str(error)])
        board[self.take.which] |= {"value": entry.name}
        fold = {self.publishing.fold: gr.update(open=True)} if publish else {}
        return {**board, **fold, self.prompt: showcase(run)[0]}

    def restore(self, visit: Visit, values: Values) -> dict:
        """The adapters and the form as they were left."""
        rows = self.rows_stored(values)
        base_then, *drawing = values[self.drawing] or [None]
        fields = recalled(self.kept, drawing)
        if base_then != visit.base:  # steps and the like were another base's
            fields = {part: fields[part] for part in self.draw_panel.form.prompts if part in fields}
        shown = self.adapter_list.show(visit, rows, self.adapter_list.misfits(visit, rows))
        if combine := fields.pop(self.combining.combine, None):
            shown[self.combining.combine] |= {"value": combine}
        if not fields.get(self.prompt):
            entries = {entry.name: entry for entry in visit.workspace.library.list()}
            listed = [entries[row.name].description for row in rows if row.name in entries]
            fields[self.prompt] = first_prompt(about for about in listed if about)
        return {**self.for_base(visit, rows), **shown, **fields}

    def open_link(self, visit: Visit, asked: Address) -> dict:
        """What somebody sends, in place of what was there; or why it cannot be followed."""
        if asked.stack is None:
            return {self.adapter_list.notes: html.problems([asked.error])}
        return {**self.for_base(visit, ()), **self.sharing.open(visit, asked.stack)}

    def welcome(self, visit: Visit) -> dict:
        """For a new visitor: two of the ready adapters, and a prompt that calls them."""
        family = spec_of(visit.base).family
        ready = [
            (entry.name, entry.description)
            for entry in visit.workspace.library.list()
            if not entry.own and entry.description and entry.description.family == family
        ][:2]
        looks = any(about.kind == "style" for _, about in ready)
        # Beside a look, half of a subject shows as much of it as all of it does alone.
        share = 0.55 if looks else 1.0
        weights = [about.strength * (1 if about.kind == "style" else share) for _, about in ready]
        rows = [Row(name, round(20 * w) / 20) for (name, _), w in zip(ready, weights, strict=True)]
        prompt = first_prompt(about for _, about in ready)
        shown = self.adapter_list.show(visit, rows)
        return {**self.for_base(visit, rows), **shown, self.prompt: prompt}
