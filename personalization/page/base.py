"""The head of the page: which base draws on what, and the choice of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from personalization import bases
from personalization.bases import BaseSpec
from personalization.errors import BaseError
from personalization.training.base_selection import POCKET, VARIABLE, options

from . import html
from .event_options import QUEUED
from .loaded import GETTING_READY, base, default_base, device, spec_of
from .session import Values, remembered

Choose = Callable[[Values], Iterator[dict]]


class BaseChoice:
    """A visitor's base, by its name, which their browser keeps; "" is the process's own."""

    def __init__(self) -> None:
        self.name = remembered("base", "")
        self.head = gr.HTML(html.header(POCKET.title, GETTING_READY), elem_id="head")
        with gr.Accordion("Choose the base", open=False, elem_id="base"):
            self.offer = gr.Radio(
                [(html.terms(POCKET), POCKET.name)],
                value=POCKET.name,
                show_label=False,
                container=False,
                elem_id="base-offer",
            )
            self.cannot = gr.HTML(elem_id="base-cannot")
            with gr.Row(visible=False, elem_classes="ask") as self.any_base:
                self.own = gr.Textbox(
                    placeholder="Your own on the Hub: someone/their-model",
                    container=False,
                    max_lines=1,
                    scale=5,
                    min_width=180,
                    elem_id="base-own",
                )
                self.load = gr.Button("Load", scale=1, min_width=90, elem_id="base-load")
        self.notes = gr.HTML(elem_id="base-notes")
        self.parts = [self.name, self.head, self.offer, self.cannot, self.any_base, self.notes]

    def wire(self, choose: Choose, values: set[Any], others: list[Any]) -> None:
        """`choose` gets `values` and what was asked for; it may change `others` too."""
        shown = [*self.parts, *others]
        event: dict[str, Any] = {**QUEUED, "concurrency_id": "base", "concurrency_limit": 1}
        self.offer.input(choose, {*values, self.offer}, shown, **event)
        gr.on([self.load.click, self.own.submit], choose, {*values, self.own}, shown, **event)

    def restore(self, name: str) -> tuple[dict, str]:
        """What a visitor finds: their base, or the process's own where that is gone."""
        own, why_not = default_base()
        try:
            spec, notes = spec_of(name), html.warnings([why_not] if why_not else [])
        except BaseError as error:
            spec, notes = own, html.warnings([str(error)])
        return {**self.show(spec), self.notes: notes}, spec.name

    def wait(self) -> dict:
        """What is said while weights are read, which may be gigabytes over the network."""
        return {self.notes: '<p class="hint">Loading the base…</p>'}

    def take(self, values: Values) -> tuple[dict, str]:
        """Load the base that was asked for. Raises `BaseError`, and nothing has changed."""
        name = values[self.own] if self.own in values else values[self.offer]
        if not name.strip():
            raise BaseError("Name a repository on the Hub first, such as someone/their-model.")
        spec = spec_of(name)
        base(spec.name)
        return {**self.show(spec), self.notes: ""}, spec.name

    def refuse(self, current: str, sentence: str) -> dict:
        """Say why not; the base stays what it was."""
        return {self.offer: spec_of(current).name, self.notes: html.problems([sentence])}

    def show(self, spec: BaseSpec) -> dict:
        """The list, with `spec` as the chosen one."""
        listed = options(default_base()[0], bases.best_device())
        can = [option.spec for option in listed if not option.why_not or option.spec == spec]
        if spec.name not in [each.name for each in can]:
            can.append(spec)
        return {
            self.name: spec.name,
            self.offer: gr.update(choices=self.choices(can), value=spec.name),
            self.cannot: html.bases(listed, VARIABLE),
            self.any_base: gr.update(visible=True),
        }

    def choices(self, specs: Sequence[BaseSpec]) -> list[tuple[str, str]]:
        """The list of these, each with what it is allowed for."""
        return [(html.terms(spec, seconds_a_picture(spec)), spec.name) for spec in specs]


def seconds_a_picture(spec: BaseSpec) -> float | None:
    """The soonest, where that is worth saying: on a CPU."""
    if device() != "cpu" or spec.small:
        return None
    from personalization.sampling.pace import picture

    sampling = spec.fast.sampling if spec.fast else spec.sampling
    return picture(spec, bases.best_device(), sampling)
