"""The left of the stack tab: adapters with their weights, how they combine, and how they meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from personalization.adapters.adapter import Adapter, embedded_description
from personalization.errors import PersonalizationError
from personalization.files import read_header
from personalization.stacking.stack import (
    COMBINATIONS,
    MAX_SLOTS,
    MAX_WEIGHT,
    Slot,
    Stack,
    check_count,
)
from personalization.training.base_selection import POCKET
from personalization.workspaces.library import Entry, Library
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import UNQUEUED
from .interference import interference, suggested
from .loaded import spec_of
from .messages import collected
from .session import workspaces
from .stacks import stack_of

TITLES = {
    "sum": "Sum",
    "svd": "SVD",
    "ties": "TIES",
    "dare": "DARE",
    "orthogonal": "Orthogonal",
    "switch": "Switch",
    "composite": "Composite",
}


class Row(NamedTuple):
    """An adapter on the rack, as the browser keeps it."""

    name: str  # in the library
    weight: float
    text: float | None = None  # of its text-encoder part, where that differs
    blocks: dict[str, float] | None = None  # see `Slot`


def remember(adapter_list: list, *weights: float) -> list[Row]:
    """The rack with its sliders as they are now."""
    return [Row(*r)._replace(weight=w) for r, w in zip(adapter_list, weights, strict=False)]


def kept(rows: Sequence[Row]) -> list[list[Any]]:
    """The rows as JSON has them."""
    return [list(row) for row in rows]


def stacked(base: str, library: Library, rows: Sequence[Row], **how: Any) -> Stack:
    """The rack as a stack, read and checked. Raises `AdapterError` or `StackError`."""
    check_count(len(rows))
    slots = (Slot(library.get(r.name), r.weight, r.text, r.blocks or {}, r.name) for r in rows)
    return Stack(tuple(slots), **how).check(spec_of(base))


def receive(base: str, library: Library, path: Path, title: str) -> Entry:
    """A stranger's file or folder into the library, read whole before anything is kept."""
    from personalization.adapters import formats

    stack_of(base, [(title, Adapter(formats.describe(path), {}), 1.0)])
    return library.add(formats.read(path), title)


class AdapterList:
    """Rows with sliders, and what is set of all of them together.

    `said` is told of the entries on the rack whenever they change, and answers with updates of
    other components.
    """

    def __init__(
        self, visitor: gr.BrowserState, base: gr.BrowserState, adapter_list: gr.BrowserState
    ):
        self.said: Callable[[Sequence[Entry]], dict] = lambda entries: {}
        self.visitor, self.base = visitor, base
        self.adapter_list = adapter_list  # a Row of each adapter
        self.met = gr.State([])  # whose overlap is shown
        self.build_rows()
        self.build_adding()
        self.notes = gr.HTML(elem_id="stack-rack-notes")

    def build_rows(self) -> None:

        gr.HTML(html.section(1, "Adapters", "0 is none of it, 1 is as it was trained."))
        self.empty = gr.HTML(html.EMPTY_RACK)
        self.rows: list[gr.Row] = []
        self.labels: list[gr.HTML] = []
        self.weights: list[gr.Slider] = []
        self.takes: list[gr.Button] = []
        for i in range(MAX_SLOTS):
            with gr.Row(visible=False, elem_classes="slot", elem_id=f"slot-{i}") as row:
                label = gr.HTML(min_width=170)
                weight = gr.Slider(
                    -MAX_WEIGHT,
                    MAX_WEIGHT,
                    value=1.0,
                    step=0.05,
                    show_label=False,
                    container=False,
                    min_width=150,
                    elem_id=f"slot-{i}-weight",
                )
                take = gr.Button("×", size="sm", min_width=30, scale=0, elem_classes="take-out")
            self.rows.append(row)
            self.labels.append(label)
            self.weights.append(weight)
            self.takes.append(take)

    def build_adding(self) -> None:
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

    def build_together(self) -> None:
        """What is said and set of all of them."""

        self.meeting = gr.HTML(elem_id="stack-meeting")
        self.suggest = gr.Button(
            "Suggest weights",
            size="sm",
            scale=0,
            min_width=150,
            visible=False,
            elem_id="stack-suggest",
        )
        self.said_of_weights = gr.HTML(elem_id="stack-suggested")
        self.combine = gr.Radio(
            [(title, name) for name, title in TITLES.items()],
            value="sum",
            label="Combine by",
            visible=False,
            elem_id="stack-combine",
        )
        self.combine_hint = gr.HTML(
            html.hint(COMBINATIONS["sum"]), visible=False, elem_id="stack-combine-hint"
        )
        with gr.Accordion("Advanced", open=False, elem_id="stack-fine"):
            self.fine_for = gr.Dropdown(
                [],
                label="Weights inside of",
                info="The slider’s weight times these; the text encoder has its own, or, empty, "
                "the slider’s.",
            )
            with gr.Row():
                self.text = gr.Number(None, label="Text", step=0.1, min_width=60)
                # As many as any base has parts; `rebase` says what they are called.
                self.blocks = [
                    gr.Number(1.0, label=title, step=0.1, min_width=60) for title in POCKET.blocks
                ]
            with gr.Row():
                self.density = gr.Number(
                    0.5, label="Density", info="TIES and DARE keep it.", step=0.05, min_width=120
                )
                self.rank = gr.Number(
                    0, label="Rank", info="Of SVD; 0: the adapters’.", precision=0, min_width=120
                )

    @property
    def given(self) -> list[Any]:
        """What tells the stack: `taken` reads it."""
        who = [self.visitor, self.base, self.adapter_list]
        return [*who, self.combine, self.density, self.rank, *self.weights]

    @property
    def parts(self) -> list[Any]:
        """What `show` updates."""
        return [
            *(
                self.adapter_list,
                self.empty,
                self.add,
                self.notes,
                self.suggest,
                self.said_of_weights,
            ),
            *(self.fine_for, self.combine, self.combine_hint),
            *(*self.rows, *self.labels, *self.weights),
        ]

    def wire(self, outputs: list[Any], then: Callable[[Any], None]) -> None:
        """`outputs` are all that `show` and `said` update; `then` follows every such event."""

        adapter_list = [self.visitor, self.base, self.adapter_list]
        # Fires twice at times: the second choice, gone from the list by then, must not be refused.
        chosen = [*adapter_list, self.add, *self.weights]
        then(self.add.input(self.put, chosen, outputs, preprocess=False, **UNQUEUED))
        file = [*adapter_list, self.upload, *self.weights]
        then(self.upload.upload(self.take_file, file, outputs, **UNQUEUED))
        for i, (weight, take) in enumerate(zip(self.weights, self.takes, strict=True)):
            weight.release(
                self.keep_weights, [self.adapter_list, *self.weights], self.adapter_list, **UNQUEUED
            )
            out = [*adapter_list, gr.State(i), *self.weights]
            then(take.click(self.take_out, out, outputs, **UNQUEUED))
        found = [self.adapter_list, self.said_of_weights, *self.weights]
        self.suggest.click(self.suggest_weights, [*adapter_list, *self.weights], found, **UNQUEUED)
        self.combine.change(
            lambda name: html.hint(COMBINATIONS[name]),
            self.combine,
            self.combine_hint,
            **UNQUEUED,
        )
        fine = [self.text, *self.blocks]
        chosen = [self.base, self.adapter_list, self.fine_for]
        self.fine_for.change(self.show_fine, chosen, fine, **UNQUEUED)
        inside = [self.base, self.adapter_list, self.fine_for, *fine, *self.weights]
        for number in fine:
            number.input(
                self.keep_fine, inside, self.adapter_list, trigger_mode="always_last", **UNQUEUED
            )

    def taken(
        self,
        visitor: str,
        base: str,
        adapter_list: list,
        combine: str,
        density: float,
        rank: float,
        *weights: float,
    ) -> tuple[Workspace, str, list[Row], Stack]:
        """The stack as the page shows it. Raises what is wrong with it."""
        workspace, rows = workspaces().open(visitor), remember(adapter_list, *weights)
        how = {"combine": combine, "density": density or 0.5, "rank": int(rank or 0)}
        return workspace, base, rows, stacked(base, workspace.library, rows, **how)

    # What is on it

    def show(
        self, workspace: Workspace, adapter_list: Sequence[Any], errors: Sequence[str] = ()
    ) -> dict:
        """The rows, and what else the library has."""

        entries = {entry.name: entry for entry in workspace.library.list()}
        every = [Row(*row) for row in adapter_list]
        rows = [row for row in every if row.name in entries]
        gone = [
            f"“{row.name}” is no longer in the library, and was taken out."
            for row in every
            if row.name not in entries
        ]
        on = [entries[row.name] for row in rows]
        free = [entry for name, entry in entries.items() if entry not in on]
        hint = "Add from the library" if free else "Nothing else in the library yet"
        choices = [(hint, "")] + [(html.choice(entry), entry.name) for entry in free]
        several = len(rows) > 1
        reply: dict = {
            self.adapter_list: kept(rows),
            self.empty: gr.update(visible=not rows),
            self.add: gr.update(choices=choices, value=""),
            self.notes: html.problems([*errors, *gone]),
            self.suggest: gr.update(visible=several),
            self.said_of_weights: "",
            self.combine: gr.update(visible=several),
            self.combine_hint: gr.update(visible=several),
            self.fine_for: gr.update(
                choices=[(html.called(entry), entry.name) for entry in on],
                value=on[0].name if on else None,
            ),
        }
        for i in range(MAX_SLOTS):
            entry = on[i] if i < len(on) else None
            picture = thumbnail(workspace, entry) if entry else None
            reply |= {
                self.rows[i]: gr.update(visible=entry is not None),
                self.labels[i]: html.adapter_row(entry, picture) if entry else "",
                self.weights[i]: slider(entry, rows[i].weight) if entry else 1.0,
            }
        return reply | self.said(on)

    def with_row(
        self, workspace: Workspace, base: str, adapter_list: Sequence[Row], name: str
    ) -> dict:
        """One more row, at its recommended strength. Raises what is wrong with it."""

        entry = workspace.library.entry(name)
        errors = [entry.error] if entry.error else []
        if entry.description:
            stack_of(base, [(name, Adapter(entry.description, {}), 1.0)])
            if name not in [row.name for row in adapter_list]:
                adapter_list = [*adapter_list, Row(name, entry.description.strength)]
        if len(adapter_list) > MAX_SLOTS:
            errors.append(f"The rack holds {MAX_SLOTS} adapters. Take one out first.")
        return self.show(workspace, adapter_list[:MAX_SLOTS], errors)

    def put(self, visitor: str, base: str, adapter_list: list, name: str, *weights: float) -> dict:
        """An adapter of the library, onto the rack."""
        if not name:  # the line that says what the list is for
            return {self.notes: ""}
        try:
            return self.with_row(
                workspaces().open(visitor), base, remember(adapter_list, *weights), name
            )
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}

    def take_file(
        self, visitor: str, base: str, adapter_list: list, file: str, *weights: float
    ) -> dict:
        """A file from anyone, into the library and onto the rack."""
        path = Path(file)
        try:
            workspace = workspaces().open(visitor)
            entry = receive(base, workspace.library, path, path.stem)
            return self.with_row(workspace, base, remember(adapter_list, *weights), entry.name)
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}
        finally:
            path.unlink(missing_ok=True)

    def take_out(
        self, visitor: str, base: str, adapter_list: list, number: int, *weights: float
    ) -> dict:
        """One row less."""
        rows = remember(adapter_list, *weights)
        return self.show(workspaces().open(visitor), rows[:number] + rows[number + 1 :])

    def rebase(self, workspace: Workspace, base: str, adapter_list: Sequence[Any]) -> dict:
        """For another base: what its parts are called, and what on the rack is not for it."""
        titles = list(spec_of(base).blocks)
        titles += [""] * (len(self.blocks) - len(titles))
        return {
            **{
                block: gr.update(label=title, visible=bool(title))
                for block, title in zip(self.blocks, titles, strict=True)
            },
            self.notes: html.problems(self.misfits(workspace, base, adapter_list)),
        }

    def misfits(self, workspace: Workspace, base: str, adapter_list: Sequence[Any]) -> list[str]:
        """A sentence for each adapter on the rack that is for other bases: it stays there."""
        errors: list[str] = []
        on = {row[0]: row[1] for row in adapter_list}
        for entry in workspace.library.list():
            if entry.name in on and entry.description:
                with collected(errors):
                    adapter = Adapter(entry.description, {})
                    stack_of(base, [(entry.name, adapter, on[entry.name])])
        return errors

    # How they go together

    def meet(self, visitor: str, adapter_list: list, met: list[str]) -> dict:
        """How far the adapters overlap; at their weights or at others it is the same."""
        from personalization.stacking.interference import overlaps

        names = [row[0] for row in adapter_list]
        if names == met:
            return {self.met: met}
        reply = {self.met: names, self.meeting: ""}
        try:
            library = workspaces().open(visitor).library
            on = [library.get(name) for name in names]
            pairs = overlaps(on)
        except PersonalizationError:
            return reply  # what is wrong with it is said where it is used
        called = [adapter.description.trigger or adapter.description.title for adapter in on]
        return reply | {self.meeting: interference(called, pairs)}

    def suggest_weights(self, visitor: str, base: str, adapter_list: list, *weights: float) -> dict:
        """Weights that keep the sum in bounds, onto the sliders."""
        from personalization.stacking.interference import suggest

        rows = remember(adapter_list, *weights)
        try:
            weights = suggest(stacked(base, workspaces().open(visitor).library, rows))
        except PersonalizationError as error:
            return {self.said_of_weights: html.problems([str(error)])}
        # A slider's step towards zero: rounding up would leave the bounds.
        found = [math.trunc(20 * weight + 1e-6) / 20 for weight in weights]
        changed = [r._replace(weight=w) for r, w in zip(rows, found, strict=True)]
        return {
            self.adapter_list: kept(changed),
            self.said_of_weights: html.hint(suggested([row.weight for row in rows], found)),
            **dict(zip(self.weights, found, strict=False)),
        }

    def keep_weights(self, adapter_list: list, *weights: float) -> list[list[Any]]:
        """The rack with its sliders as they are now."""
        return kept(remember(adapter_list, *weights))

    def show_fine(self, base: str, adapter_list: list, name: str | None) -> list[float | None]:
        """The weights inside the chosen adapter."""
        row = next((Row(*r) for r in adapter_list if r[0] == name), Row("", 1.0))
        values = [(row.blocks or {}).get(key, 1.0) for key in spec_of(base).blocks.values()]
        return [row.text, *values, *[1.0] * (len(self.blocks) - len(values))]

    def keep_fine(
        self, base: str, adapter_list: list, name: str | None, *given: Any
    ) -> list[list[Any]]:
        """The rack with what was entered; an emptied block counts whole."""
        text, values = given[0], given[1 : 1 + len(self.blocks)]
        weights = given[1 + len(self.blocks) :]
        blocks = {
            key: value
            for key, value in zip(spec_of(base).blocks.values(), values, strict=False)
            if value is not None and value != 1
        }
        return kept(
            [
                row._replace(text=text, blocks=blocks) if row.name == name else row
                for row in remember(adapter_list, *weights)
            ]
        )


def slider(entry: Entry, weight: float) -> dict[str, Any]:
    """A learned word is there or not; of anything else there can be more, less, or its opposite."""

    if entry.description and entry.description.method == "textual_inversion":
        return gr.update(minimum=0, maximum=1, step=1, value=float(bool(weight)))
    return gr.update(minimum=-MAX_WEIGHT, maximum=MAX_WEIGHT, step=0.05, value=weight)


def thumbnail(workspace: Workspace, entry: Entry) -> Path | None:
    """A picture of what the adapter does: the ready ones bring it, others have their run's."""
    picture = entry.path.with_suffix("") / "0.png"
    if not entry.own:
        return picture if picture.is_file() else None
    made = entry.description.created if entry.description else ""
    for run in workspace.runs() if made else ():
        drawn = run.folder / "pictures" / "0.png"
        if run.adapter_path.is_file() and drawn.is_file():
            told = embedded_description(read_header(run.adapter_path))
            if told and told.created == made:
                return drawn
    return None
