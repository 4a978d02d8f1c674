"""The stack tab: a rack of adapters on the left, an easel on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from personalization.workspaces.library import Entry
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_list import Rack, Row, remember
from .common import QUIET, WORKSPACES, keep, recalled, spec_of
from .draw_panel import Easel, scheduler_choices
from .exchange import FromHub, TakeAway

__all__ = ["StackTab", "remember"]


class StackTab:
    """Adapters, each with its weight; a prompt; pictures."""

    def __init__(
        self,
        visitor: gr.BrowserState,
        base: gr.BrowserState,
        rack: gr.BrowserState,
        drawing: gr.BrowserState,
    ):
        self.stored = [rack, drawing]
        gr.HTML(html.STACK_PROMISE)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.rack = Rack(visitor, base, rack)
                self.hub = FromHub(self.rack)
                self.rack.build_together()
                self.take = TakeAway(self.rack)
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.easel = Easel(self.rack)
        self.rack.said = self.said
        # Everything that changes with what is on the rack.
        self.board = [*self.rack.parts, *self.easel.parts, self.take.which]
        # And with the base.
        sampling = [self.easel.steps, self.easel.guidance, self.easel.scheduler]
        self.rebased = [*self.rack.blocks, self.rack.notes, *sampling]
        self.rack.wire(self.board, self.then_meet)
        self.hub.wire(self.board, self.then_meet)
        self.take.wire()
        self.easel.wire(self.board, self.then_meet)
        keep(drawing, [base, *self.asked])

    @property
    def weights(self) -> list[gr.Slider]:
        return self.rack.weights

    @property
    def asked(self) -> list[Any]:
        """What the browser remembers beside the rack, the prompts first."""
        rack = self.rack
        return [*self.easel.kept, rack.combine, rack.density, rack.rank]

    @property
    def prompt(self) -> gr.Textbox:
        return self.easel.prompt

    def said(self, entries: Sequence[Entry]) -> dict:
        """What follows from these adapters being on the rack."""
        return self.easel.show(entries) | self.take.show(entries)

    def then_meet(self, event: Any) -> None:
        """After `event`, which may have changed the rack: how its adapters meet."""
        rack = self.rack
        given = [rack.visitor, rack.rack, rack.met]
        event.then(rack.meet, given, [rack.met, rack.meeting], **QUIET)

    def rebase(self, workspace: Workspace, base: str, rack: Sequence[Any]) -> dict:
        """The tab for another base: how it draws, its parts, and what is not for it."""
        sampling = spec_of(base).sampling
        return {
            **self.rack.rebase(workspace, base, rack),
            self.easel.steps: sampling.steps,
            self.easel.guidance: sampling.guidance,
            self.easel.scheduler: gr.update(choices=scheduler_choices(spec_of(base)), value=""),
        }

    def refresh(self, visitor: str, rack: list, *weights: float) -> dict:
        """The same rack before a library that has grown."""
        return self.rack.show(WORKSPACES.open(visitor), remember(rack, *weights))

    def restore(
        self, workspace: Workspace, base: str, rack: list, drawing: list[Any], *, fresh: bool
    ) -> dict:
        """The rack and the form as they were left; for a new visitor, two ready adapters."""
        if not fresh:
            misfits = self.rack.misfits(workspace, base, rack)
            shown = self.rack.show(workspace, rack, misfits)
            asked = recalled(self.asked, drawing[1:])
            if drawing[:1] != [base]:  # steps and the like were another base's
                asked = {part: asked[part] for part in self.asked[:2] if part in asked}
            if combine := asked.pop(self.rack.combine, None):
                shown[self.rack.combine] |= {"value": combine}
            return {**self.rebase(workspace, base, rack), **shown, **asked}
        family = spec_of(base).family
        ready = [
            (e.name, e.description)
            for e in workspace.library.list()
            if not e.own and e.description and e.description.family == family
        ][:2]
        looks = [f", {about.trigger} style" for _, about in ready if about.kind == "style"]
        things = [about.trigger for _, about in ready if about.kind != "style"]
        # Beside a look, half of a subject shows as much of it as all of it does alone.
        share = 0.55 if looks else 1.0
        weights = [about.strength * (1 if about.kind == "style" else share) for _, about in ready]
        rows = [Row(name, round(20 * w) / 20) for (name, _), w in zip(ready, weights, strict=True)]
        prompt = f"{' and '.join(things) or 'a dog'}{''.join(looks) or ' on the beach'}"
        shown = self.rack.show(workspace, rows)
        return {**self.rebase(workspace, base, rows), **shown, self.prompt: prompt}
