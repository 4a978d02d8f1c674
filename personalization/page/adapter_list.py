"""The left of the stack tab: the adapters, each with its weight; and what adds others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.stacking.stack import MAX_SLOTS, MAX_WEIGHT
from personalization.workspaces.belongings import pictures_of, thumbnail
from personalization.workspaces.library import Entry

from . import html
from .adapter_rows import Row, as_json, check_for, receive, slider
from .event_options import CLICK_WITH_KEY, UNQUEUED
from .loaded import spec_of
from .messages import collected
from .session import Values, Visit


class AdapterList:
    """A row for each adapter: what it is, a slider, and a button that takes it out.

    `follow` is told of the entries on the list and their rows whenever they change, and answers
    with updates of other components.
    """

    def __init__(
        self, visitor: gr.BrowserState, base: gr.BrowserState, stored: gr.BrowserState
    ) -> None:
        self.follow: Callable[[Sequence[Entry], Sequence[Row]], dict] = lambda _entries, _rows: {}
        self.visitor, self.base = visitor, base
        self.stored = stored  # a Row of each adapter
        gr.HTML(html.section(1, "Adapters", "0 is none of it, 1 is as it was trained."))
        self.empty = gr.HTML(html.EMPTY_LIST)
        self.rows: list[gr.Row] = []
        self.labels: list[gr.HTML] = []
        self.weights: list[gr.Slider] = []
        self.takes: list[gr.Button] = []
        for number in range(MAX_SLOTS):
            self.build_row(number)
        with gr.Row(elem_classes="add"):
            self.add = gr.Dropdown(
                [],
                container=False,
                interactive=True,
                min_width=190,
                scale=3,
                elem_id="stack-add",
            )
            self.upload = gr.UploadButton(
                "Add a file", scale=1, min_width=110, size="md", elem_id="stack-upload"
            )
        self.notes = gr.HTML(elem_id="stack-list-notes")
        self.inputs: set[Any] = {visitor, base, stored, *self.weights}
        self.parts = [  # what `show` updates
            *(stored, self.empty, self.add, self.notes),
            *(*self.rows, *self.labels, *self.weights),
        ]

    def build_row(self, number: int) -> None:
        """A slot for an adapter, hidden until there is one."""
        with gr.Row(visible=False, elem_classes="slot", elem_id=f"slot-{number}") as row:
            self.labels.append(gr.HTML(min_width=170, js_on_load=CLICK_WITH_KEY))
            self.weights.append(
                gr.Slider(
                    -MAX_WEIGHT,
                    MAX_WEIGHT,
                    value=1.0,
                    step=0.05,
                    show_label=False,
                    container=False,
                    min_width=150,
                    elem_id=f"slot-{number}-weight",
                )
            )
            self.takes.append(
                gr.Button("×", size="sm", min_width=30, scale=0, elem_classes="take-out")
            )
        self.rows.append(row)

    def wire(self, outputs: list[Any], then: Callable[[Any], None]) -> None:
        """`outputs` are all that `show` and `follow` update; `then` follows every such event."""
        # Fires twice at times: the second choice, gone from the list by then, must not be refused.
        chosen = {*self.inputs, self.add}
        then(self.add.input(self.put, chosen, outputs, preprocess=False, **UNQUEUED))
        file = {*self.inputs, self.upload}
        then(self.upload.upload(self.take_file, file, outputs, **UNQUEUED))
        for number, take in enumerate(self.takes):
            then(take.click(self.taker(number), self.inputs, outputs, **UNQUEUED))
        for weight in self.weights:
            sliders: set[Any] = {self.stored, *self.weights}
            weight.release(self.keep_weights, sliders, self.stored, **UNQUEUED)

    def rows_in(self, values: Values) -> list[Row]:
        """The rows, with the sliders as they are now."""
        return [
            Row(*row)._replace(weight=values[slider])
            for row, slider in zip(values[self.stored], self.weights, strict=False)
        ]

    def visit(self, values: Values) -> Visit:
        """Whose list it is, and on which base. Raises `WorkspaceError`."""
        return Visit.open(values[self.visitor], values[self.base])

    def show(self, visit: Visit, rows: Sequence[Row], errors: Sequence[str] = ()) -> dict:
        """The rows, and what else the library has."""
        entries = {entry.name: entry for entry in visit.workspace.library.list()}
        there = [row for row in rows if row.name in entries]
        gone = [
            f"“{row.name}” is no longer in the library, and was taken out."
            for row in rows
            if row.name not in entries
        ]
        on = [entries[row.name] for row in there]
        free = [entry for entry in entries.values() if entry not in on]
        hint = "Add from the library" if free else "Nothing else to add yet"
        choices = [(hint, "")] + [(html.choice(entry), entry.name) for entry in free]
        reply: dict = {
            self.stored: as_json(there),
            self.empty: gr.update(visible=not there),
            self.add: gr.update(choices=choices, value=""),
            self.notes: html.problems([*errors, *gone]),
        }
        reply |= self.labelled(visit, on)
        for number in range(MAX_SLOTS):
            entry = on[number] if number < len(on) else None
            reply |= {
                self.rows[number]: gr.update(visible=entry is not None),
                self.weights[number]: slider(entry, there[number].weight) if entry else 1.0,
            }
        return reply | self.follow(on, there)

    def labelled(self, visit: Visit, on: Sequence[Entry]) -> dict:
        """What each row says, of these entries on the visit's base."""
        pictures = pictures_of(visit.runs if any(entry.own for entry in on) else ())
        family = spec_of(visit.base).family
        said = [html.adapter_row(entry, thumbnail(entry, pictures), family) for entry in on]
        said += [""] * (MAX_SLOTS - len(said))
        return dict(zip(self.labels, said, strict=False))

    def relabelled(self, visit: Visit, rows: Sequence[Row]) -> dict:
        """The same for rows that are there, on another base."""
        entries = {entry.name: entry for entry in visit.workspace.library.list()}
        return self.labelled(visit, [entries[row.name] for row in rows if row.name in entries])

    def with_row(self, visit: Visit, rows: Sequence[Row], name: str) -> dict:
        """One more row, at its recommended strength. Raises what is wrong with it."""
        entry = visit.workspace.library.entry(name)
        errors = [entry.error] if entry.error else []
        if entry.description:
            check_for(visit.base, entry)
            if name not in [row.name for row in rows]:
                rows = [*rows, Row(name, entry.description.strength)]
        if len(rows) > MAX_SLOTS:
            errors.append(f"The list holds {MAX_SLOTS} adapters. Take one out first.")
        return self.show(visit, rows[:MAX_SLOTS], errors)

    def put(self, values: Values) -> dict:
        """An adapter of the library, onto the list."""
        if not values[self.add]:  # the line that says what the list is for
            return {self.notes: ""}
        try:
            return self.with_row(self.visit(values), self.rows_in(values), values[self.add])
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}

    def take_file(self, values: Values) -> dict:
        """A file from anyone, into the library and onto the list."""
        path = Path(values[self.upload])
        try:
            visit = self.visit(values)
            entry = receive(visit.base, visit.workspace.library, path, path.stem)
            return self.with_row(visit, self.rows_in(values), entry.name)
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}

    def taker(self, number: int) -> Callable[[Values], dict]:
        """What takes out the row of that number."""

        def take_out(values: Values) -> dict:
            rows = self.rows_in(values)
            return self.show(self.visit(values), rows[:number] + rows[number + 1 :])

        return take_out

    def keep_weights(self, values: Values) -> list[list[Any]]:
        """The list with its sliders as they are now."""
        return as_json(self.rows_in(values))

    def misfits(self, visit: Visit, rows: Sequence[Row]) -> list[str]:
        """A sentence for each adapter on the list that is for other bases: it stays there."""
        errors: list[str] = []
        weights = {row.name: row.weight for row in rows}
        for entry in visit.workspace.library.list():
            if entry.name in weights:
                with collected(errors):
                    check_for(visit.base, entry, weights[entry.name])
        return errors
