"""The stack tab: a rack of adapters on the left, an easel on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from personalization.workspaces.library import Entry
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_list import AdapterList, Row, remember
from .draw_panel import DrawPanel, scheduler_choices
from .event_options import UNQUEUED
from .exchange import FromHub, TakeAway
from .loaded import spec_of
from .session import keep, recalled, workspaces

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
        self.stored = [adapter_list, drawing]
        gr.HTML(html.STACK_PROMISE)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.adapter_list = AdapterList(visitor, base, adapter_list)
                self.hub = FromHub(self.adapter_list)
                self.adapter_list.build_together()
                self.take = TakeAway(self.adapter_list)
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.draw_panel = DrawPanel(self.adapter_list)
        self.adapter_list.said = self.said
        # Everything that changes with what is on the rack.
        self.board = [*self.adapter_list.parts, *self.draw_panel.parts, self.take.which]
        # And with the base.
        sampling = [self.draw_panel.steps, self.draw_panel.guidance, self.draw_panel.scheduler]
        self.rebased = [*self.adapter_list.blocks, self.adapter_list.notes, *sampling]
        self.adapter_list.wire(self.board, self.then_meet)
        self.hub.wire(self.board, self.then_meet)
        self.take.wire()
        self.draw_panel.wire(self.board, self.then_meet)
        keep(drawing, [base, *self.asked])

    @property
    def weights(self) -> list[gr.Slider]:
        return self.adapter_list.weights

    @property
    def asked(self) -> list[Any]:
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

    def rebase(self, workspace: Workspace, base: str, adapter_list: Sequence[Any]) -> dict:
        """The tab for another base: how it draws, its parts, and what is not for it."""
        sampling = spec_of(base).sampling
        return {
            **self.adapter_list.rebase(workspace, base, adapter_list),
            self.draw_panel.steps: sampling.steps,
            self.draw_panel.guidance: sampling.guidance,
            self.draw_panel.scheduler: gr.update(
                choices=scheduler_choices(spec_of(base)), value=""
            ),
        }

    def refresh(self, visitor: str, adapter_list: list, *weights: float) -> dict:
        """The same rack before a library that has grown."""
        return self.adapter_list.show(workspaces().open(visitor), remember(adapter_list, *weights))

    def restore(
        self,
        workspace: Workspace,
        base: str,
        adapter_list: list,
        drawing: list[Any],
        *,
        fresh: bool,
    ) -> dict:
        """The rack and the form as they were left; for a new visitor, two ready adapters."""
        if not fresh:
            misfits = self.adapter_list.misfits(workspace, base, adapter_list)
            shown = self.adapter_list.show(workspace, adapter_list, misfits)
            asked = recalled(self.asked, drawing[1:])
            if drawing[:1] != [base]:  # steps and the like were another base's
                asked = {part: asked[part] for part in self.asked[:2] if part in asked}
            if combine := asked.pop(self.adapter_list.combine, None):
                shown[self.adapter_list.combine] |= {"value": combine}
            return {**self.rebase(workspace, base, adapter_list), **shown, **asked}
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
        shown = self.adapter_list.show(workspace, rows)
        return {**self.rebase(workspace, base, rows), **shown, self.prompt: prompt}
