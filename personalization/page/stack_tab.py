"""The stack tab: a rack of adapters on the left, an easel on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from personalization.workspaces.library import Entry

from . import html
from .adapter_list import AdapterList, Row, remember
from .draw_panel import DrawPanel, scheduler_choices
from .event_options import UNQUEUED
from .exchange import FromHub, TakeAway
from .loaded import spec_of
from .session import Values, Visit, keep, recalled, workspaces

__all__ = ["StackTab", "remember"]


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
                self.adapter_list.build_together()
                self.take = TakeAway(self.adapter_list)
            with gr.Column(scale=6, min_width=320, elem_classes="panel-column"):
                self.draw_panel = DrawPanel(self.adapter_list)
        self.adapter_list.said = self.said
        # Everything that changes with what is on the rack.
        self.board = [*self.adapter_list.parts, *self.draw_panel.parts, self.take.which]
        # And with the base.
        sampling = [self.draw_panel.steps, self.draw_panel.guidance, self.draw_panel.scheduler]
        self.rebased = [*self.adapter_list.blocks, self.adapter_list.notes, *sampling]
        self.restored = [*self.board, *self.rebased, *self.kept]
        self.adapter_list.wire(self.board, self.then_meet)
        self.hub.wire(self.board, self.then_meet)
        self.take.wire()
        self.draw_panel.wire(self.board, self.then_meet)
        keep(drawing, [base, *self.kept])

    @property
    def weights(self) -> list[gr.Slider]:
        return self.adapter_list.weights

    @property
    def kept(self) -> list[Any]:
        """What the browser remembers beside the rack, the prompts first."""
        adapter_list = self.adapter_list
        return [
            *self.draw_panel.kept,
            adapter_list.combine,
            adapter_list.density,
            adapter_list.rank,
        ]

    @property
    def prompt(self) -> gr.Textbox:
        return self.draw_panel.prompt

    def said(self, entries: Sequence[Entry]) -> dict:
        """What follows from these adapters being on the rack."""
        return self.draw_panel.show(entries) | self.take.show(entries)

    def then_meet(self, event: Any) -> None:
        """After `event`, which may have changed the rack: how its adapters meet."""
        adapter_list = self.adapter_list
        given = [adapter_list.visitor, adapter_list.adapter_list, adapter_list.met]
        event.then(adapter_list.meet, given, [adapter_list.met, adapter_list.meeting], **UNQUEUED)

    def rebase(self, visit: Visit, values: Values) -> dict:
        """The tab for another base: how it draws, its parts, and what is not for it."""
        return self.for_base(visit, values[self.adapter_list.adapter_list])

    def for_base(self, visit: Visit, rows: Sequence[Any]) -> dict:
        """What the visit's base decides, with these rows on the list."""
        spec = spec_of(visit.base)
        return {
            **self.adapter_list.rebase(visit.workspace, visit.base, rows),
            self.draw_panel.steps: spec.sampling.steps,
            self.draw_panel.guidance: spec.sampling.guidance,
            self.draw_panel.scheduler: gr.update(choices=scheduler_choices(spec), value=""),
        }

    def refresh(self, visitor: str, adapter_list: list, *weights: float) -> dict:
        """The same rows before a library that has grown."""
        return self.adapter_list.show(workspaces().open(visitor), remember(adapter_list, *weights))

    def restore(self, visit: Visit, values: Values) -> dict:
        """The adapters and the form as they were left."""
        rows = values[self.adapter_list.adapter_list]
        base_then, *drawing = values[self.drawing] or [None]
        misfits = self.adapter_list.misfits(visit.workspace, visit.base, rows)
        shown = self.adapter_list.show(visit.workspace, rows, misfits)
        fields = recalled(self.kept, drawing)
        if base_then != visit.base:  # steps and the like were another base's
            fields = {part: fields[part] for part in self.draw_panel.prompts if part in fields}
        if combine := fields.pop(self.adapter_list.combine, None):
            shown[self.adapter_list.combine] |= {"value": combine}
        return {**self.for_base(visit, rows), **shown, **fields}

    def welcome(self, visit: Visit) -> dict:
        """For a new visitor: two of the ready adapters, and a prompt that calls them."""
        family = spec_of(visit.base).family
        ready = [
            (entry.name, entry.description)
            for entry in visit.workspace.library.list()
            if not entry.own and entry.description and entry.description.family == family
        ][:2]
        looks = [f", {about.trigger} style" for _, about in ready if about.kind == "style"]
        things = [about.trigger for _, about in ready if about.kind != "style"]
        # Beside a look, half of a subject shows as much of it as all of it does alone.
        share = 0.55 if looks else 1.0
        weights = [about.strength * (1 if about.kind == "style" else share) for _, about in ready]
        rows = [Row(name, round(20 * w) / 20) for (name, _), w in zip(ready, weights, strict=True)]
        prompt = f"{' and '.join(things) or 'a dog'}{''.join(looks) or ' on the beach'}"
        shown = self.adapter_list.show(visit.workspace, rows)
        return {**self.for_base(visit, rows), **shown, self.prompt: prompt}
