"""How the adapters of the list go together: their overlap, the combination, the weights inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.stacking.advice import advice
from personalization.stacking.stack import COMBINATIONS, Stack
from personalization.training.base_selection import POCKET
from personalization.workspaces.library import Entry

from . import html
from .adapter_list import AdapterList
from .adapter_rows import Row, as_json, listed, stacked
from .event_options import LATEST, UNQUEUED
from .interference import interference, suggested
from .loaded import spec_of
from .session import Values, page_workspace

TITLES = {
    "sum": "Sum",
    "svd": "SVD",
    "ties": "TIES",
    "dare": "DARE",
    "orthogonal": "Orthogonal",
    "switch": "Switch",
    "composite": "Composite",
}


class Combining:
    """What is said and set of all adapters together."""

    def __init__(self, adapter_list: AdapterList) -> None:
        self.adapter_list = adapter_list
        self.met = gr.State([])  # whose overlap is shown
        self.meeting = gr.HTML(elem_id="stack-meeting")
        self.suggest = gr.Button(
            "Suggest weights",
            size="sm",
            scale=0,
            min_width=150,
            visible=False,
            elem_id="stack-suggest",
        )
        self.suggestion = gr.HTML(elem_id="stack-suggested")
        self.combine = gr.Radio(
            [(title, name) for name, title in TITLES.items()],
            value="sum",
            label="Combine by",
            visible=False,
            elem_id="stack-combine",
        )
        self.hint = gr.HTML(
            html.hint(COMBINATIONS["sum"]), visible=False, elem_id="stack-combine-hint"
        )
        self.advice = gr.HTML(elem_id="stack-combine-advice")
        with gr.Accordion("Advanced", open=False, elem_id="stack-fine"):
            self.build_fine()
        self.how = [self.combine, self.density, self.rank]
        self.inputs: set[Any] = {*adapter_list.inputs, *self.how}
        # What `show` updates.
        said = [self.suggestion, self.hint, self.advice]
        self.parts = [self.suggest, *said, self.combine, self.fine_for]

    def build_fine(self) -> None:
        """Weights inside an adapter, and what TIES, DARE and SVD keep."""
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

    def wire(self) -> None:
        """Have each part follow what it depends on."""
        listed = self.adapter_list
        weights = [listed.stored, self.suggestion, *listed.weights]
        self.suggest.click(self.suggest_weights, listed.inputs, weights, **UNQUEUED)
        self.combine.change(
            lambda name: html.hint(COMBINATIONS[name]), self.combine, self.hint, **UNQUEUED
        )
        fine = [self.text, *self.blocks]
        chosen: set[Any] = {listed.base, listed.stored, self.fine_for}
        self.fine_for.change(self.show_fine, chosen, fine, **UNQUEUED)
        entered = {*chosen, *fine, *listed.weights}
        for number in fine:
            number.input(self.keep_fine, entered, listed.stored, **LATEST)

    def then_meet(self, event: Any) -> None:
        """After `event`, which may have changed the list: how its adapters meet."""
        listed = self.adapter_list
        inputs: set[Any] = {listed.visitor, listed.stored, self.met}
        event.then(self.meet, inputs, [self.met, self.meeting], **UNQUEUED)

    def stack(self, values: Values) -> Stack:
        """The stack as the page shows it. Raises what is wrong with it."""
        return self.listed(values).check(spec_of(values[self.adapter_list.base]))

    def listed(self, values: Values) -> Stack:
        """The same, not yet checked. Raises what is wrong with its files."""
        library = self.adapter_list.visit(values).workspace.library
        return listed(
            library,
            self.adapter_list.rows_in(values),
            combine=values[self.combine],
            density=values[self.density] or 0.5,
            rank=int(values[self.rank] or 0),
        )

    def show(self, entries: Sequence[Entry]) -> dict:
        """What there is to set with these adapters on the list."""
        several = len(entries) > 1
        known = [entry.description for entry in entries if entry.description]
        return {
            self.suggest: gr.update(visible=several),
            self.suggestion: "",
            self.combine: gr.update(visible=several),
            self.hint: gr.update(visible=several),
            self.advice: html.hint(said) if (said := advice(known)) else "",
            self.fine_for: gr.update(
                choices=[(html.called(entry), entry.name) for entry in entries],
                value=entries[0].name if entries else None,
            ),
        }

    def rebase(self, base: str) -> dict:
        """For another base: what its parts are called."""
        titles = list(spec_of(base).blocks)
        titles += [""] * (len(self.blocks) - len(titles))
        return {
            block: gr.update(label=title, visible=bool(title))
            for block, title in zip(self.blocks, titles, strict=True)
        }

    def meet(self, values: Values) -> dict:
        """How far the adapters overlap; at their weights or at others it is the same."""
        from personalization.stacking.interference import overlaps

        names = [row[0] for row in values[self.adapter_list.stored]]
        if names == values[self.met]:
            return {self.met: names}
        reply = {self.met: names, self.meeting: ""}
        try:
            library = page_workspace(values[self.adapter_list.visitor]).library
            adapters = [library.get(name) for name in names]
            pairs = overlaps(adapters)
        except PersonalizationError:
            return reply  # what is wrong with it is said where it is used
        words = [each.description.trigger or each.description.title for each in adapters]
        return reply | {self.meeting: interference(words, pairs)}

    def suggest_weights(self, values: Values) -> dict:
        """Weights that keep the sum in bounds, onto the sliders."""
        from personalization.stacking.interference import suggest

        listed, rows = self.adapter_list, self.adapter_list.rows_in(values)
        try:
            visit = listed.visit(values)
            bounded = suggest(stacked(visit.base, visit.workspace.library, rows))
        except PersonalizationError as error:
            return {self.suggestion: html.problems([str(error)])}
        # A slider's step towards zero: rounding up would leave the bounds.
        weights = [math.trunc(20 * weight + 1e-6) / 20 for weight in bounded]
        changed = [row._replace(weight=w) for row, w in zip(rows, weights, strict=True)]
        return {
            listed.stored: as_json(changed),
            self.suggestion: html.hint(suggested([row.weight for row in rows], weights)),
            **dict(zip(listed.weights, weights, strict=False)),
        }

    def show_fine(self, values: Values) -> dict:
        """The weights inside the chosen adapter."""
        rows = [Row(*row) for row in values[self.adapter_list.stored]]
        row = next((row for row in rows if row.name == values[self.fine_for]), Row("", 1.0))
        keys = spec_of(values[self.adapter_list.base]).blocks.values()
        factors = [(row.blocks or {}).get(key, 1.0) for key in keys]
        factors += [1.0] * (len(self.blocks) - len(factors))
        return {self.text: row.text, **dict(zip(self.blocks, factors, strict=True))}

    def keep_fine(self, values: Values) -> list[list[Any]]:
        """The list with what was entered; an emptied block counts whole."""
        keys = spec_of(values[self.adapter_list.base]).blocks.values()
        factors = zip(keys, (values[block] for block in self.blocks), strict=False)
        blocks = {key: factor for key, factor in factors if factor is not None and factor != 1}
        return as_json(
            row._replace(text=values[self.text], blocks=blocks)
            if row.name == values[self.fine_for]
            else row
            for row in self.adapter_list.rows_in(values)
        )
