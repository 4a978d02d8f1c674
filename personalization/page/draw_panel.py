"""The right of the stack tab: pictures drawn with the list, side by side, and along a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.sampling.picture_record import PictureRecord
from personalization.stacking.stack import COMBINATIONS, Stack
from personalization.workspaces.library import Entry

from . import html
from .adapter_list import AdapterList
from .combining import Combining
from .event_options import ON_GPU, UNQUEUED
from .guides import usable_guides
from .guides_panel import GuidesPanel
from .loaded import ON_ZERO, spec_of
from .long_work import LONG, LongWork, drawing_seconds, passes, sentence, sheet_seconds
from .messages import collected, user_message
from .picture_form import PictureForm
from .pictures import gallery, keep
from .places_panel import PlacesPanel
from .session import Values
from .stacks import cut_off, draw_with, sweep_with
from .uploads import publish_pictures

if TYPE_CHECKING:
    from personalization.bases.catalog import BaseSpec
    from personalization.sampling.sweep import Axis, Sweep

SAY_DARK = "() => document.body.classList.contains('dark')"
GUIDANCES = (0.25, 0.5, 1, 1.5, 2)  # of the base's own


class DrawPanel:
    """What is asked of the list as it stands, and what was drawn."""

    def __init__(
        self, adapter_list: AdapterList, combining: Combining, places: PlacesPanel
    ) -> None:
        self.adapter_list, self.combining, self.places = adapter_list, combining, places
        self.records = gr.State([])
        gr.HTML(html.section(2, "Picture"))
        self.form = PictureForm(adapter_list.base)
        self.form.build_asking()
        self.guides = GuidesPanel(adapter_list.base)
        self.build_drawing()
        self.form.build_settings()
        narrow: dict[str, Any] = {"min_width": 140}
        with self.form.advanced, gr.Row():
            self.across = gr.Dropdown([], label="Sweep across", elem_id="sweep-across", **narrow)
            self.down = gr.Dropdown([], label="and down", elem_id="sweep-down", **narrow)

    def build_drawing(self) -> None:
        """The buttons, and what they draw."""
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary", scale=3, elem_id="draw-button")
            self.compare = gr.Button(
                "Side by side", scale=1, min_width=130, elem_id="compare-button"
            )
            self.sweep = gr.Button("Sweep", scale=1, min_width=90, elem_id="sweep-button")
        self.form.build_fast()
        self.long = LongWork("stack", "Draw all the same", sizes=())
        self.asked_of = gr.State(None)  # the axes of the sheet that was asked about; None: pictures
        self.notes = gr.HTML(elem_id="stack-notes")
        self.gallery = gallery("stack-gallery", visible=False)
        self.sheet = gr.Image(
            container=False,
            interactive=False,
            visible=False,
            buttons=["download", "fullscreen"],
            elem_id="stack-sweep",
        )
        self.record = gr.HTML(elem_id="stack-record")
        self.dark = gr.Checkbox(visible=False)  # whether the page is: a script says so

    @property
    def parts(self) -> list[Any]:
        """What `show` updates."""
        return [*self.form.words.chips, self.across, self.down]

    @property
    def rebased(self) -> list[Any]:
        """What `for_base` updates."""
        return [*self.form.rebased, *self.guides.rebased, *self.long.parts]

    @property
    def inputs(self) -> set[Any]:
        """What a drawing reads."""
        parts = {*self.form.inputs, *self.guides.inputs, *self.combining.inputs}
        return parts | self.places.inputs

    def wire(self) -> None:
        """Each button draws unless it takes long, and asks first where it does."""
        self.form.wire(self.adapter_list.labels)
        self.guides.wire()
        listed: set[Any] = {*self.adapter_list.inputs, self.guides.weight}
        self.guides.reference.upload(self.weigh_reference, listed, self.guides.weight, **UNQUEUED)
        shown = [self.gallery, self.sheet, self.records, self.record, self.notes, self.form.seed]
        asked = [*shown, *self.long.parts, self.asked_of]
        on_sheet: set[Any] = {*self.inputs, self.dark}
        # The place in the queue, and the seconds, once: in the pictures' place there may be none.
        work: dict[str, Any] = {"api_visibility": "private", **ON_GPU}
        work |= {"show_progress_on": self.notes}
        pressed = [self.draw.click, self.form.prompt.submit]
        gr.on(pressed, self.paint_unless_long, self.inputs, asked, **work)
        self.long.go.click(self.paint_all_the_same, {*on_sheet, self.asked_of}, asked, **work)
        # The sheet's colours are those of the page at that moment.
        self.compare.click(None, None, self.dark, js=SAY_DARK).then(
            self.paint_each, on_sheet, asked, **work
        )
        self.sweep.click(None, None, self.dark, js=SAY_DARK).then(
            self.paint_sweep, {*on_sheet, self.across, self.down}, asked, **work
        )
        self.gallery.select(self.say_record, self.records, self.record, **UNQUEUED)

    def show(self, entries: Sequence[Entry]) -> dict:
        """What there is to call and to sweep with these adapters on the list."""
        weights = [(f"weight of {html.called(e)}", f"weight {i}") for i, e in enumerate(entries)]
        axes = [*weights, ("guidance", "guidance")]
        axes += [("way to combine", "combine")] if len(entries) > 1 else []
        first = axes[0][1]
        return {
            **self.form.words.show(entries),
            self.across: gr.update(choices=axes, value=first),
            self.down: gr.update(choices=[("nothing", ""), *axes], value=""),
        }

    def for_base(self, spec: BaseSpec) -> dict:
        """How the base draws when nobody says otherwise, and what it can do."""
        return {**self.form.for_base(spec), **self.guides.for_base(spec), **self.long.hide()}

    def weigh_reference(self, values: Values) -> dict:
        """A reference has just come: beside a subject that was taught, its weight is small."""
        rows = {row.name for row in self.adapter_list.rows_in(values) if row.weight}
        spec = spec_of(values[self.adapter_list.base])
        taught = [
            entry.description
            for entry in self.adapter_list.visit(values).workspace.library.list()
            if entry.name in rows and entry.description
        ]
        beside = any(about.kind != "style" and about.family == spec.family for about in taught)
        return self.guides.weigh(values, beside=beside)

    def too_long(self, values: Values) -> dict | None:
        """What to ask before a drawing that takes long; None for one that does not."""
        spec, settings = spec_of(values[self.adapter_list.base]), self.form.settings(values)
        stack = Stack(())
        with collected([]):  # what is wrong with it is said when it is drawn
            stack, _ = self.places.stack(values).fitting(spec)
        seconds = None if ON_ZERO else drawing_seconds(spec, settings, stack)
        if seconds is None or seconds * settings.count <= LONG:
            return None
        others = passes(stack)
        others += [f"One alone takes {html.duration(seconds)}."] if settings.count > 1 else []
        if spec.fast and not settings.fast:
            fast = replace(settings, fast=True, steps=None, guidance=None)
            quick = drawing_seconds(spec, fast, stack)
            others.append(f"“Draw fast” takes {html.duration(quick or 0.0)} a picture.")
        what = "This" if settings.count == 1 else f"Drawing {settings.count} pictures"
        asked = self.long.ask(sentence(what, seconds * settings.count, others), {})
        return {**asked, self.asked_of: None}

    def too_long_a_sheet(self, values: Values, plan: Sweep, axes: tuple[str, str]) -> dict | None:
        """The same before a sheet of pictures along these axes."""
        spec = spec_of(values[self.adapter_list.base])
        seconds = None if ON_ZERO else sheet_seconds(spec, plan)
        if seconds is None or seconds <= LONG:
            return None
        asked = self.long.ask(
            sentence(f"Drawing {plan.count} pictures", seconds, passes(plan.stack)), {}
        )
        return {**asked, self.asked_of: axes}

    def paint_unless_long(self, values: Values) -> dict:
        """Draw, or ask first."""
        return self.too_long(values) or self.paint(values)

    def paint_all_the_same(self, values: Values) -> dict:
        """The visitor has been told that it takes long."""
        axes = values[self.asked_of]
        return self.paint_grid(values, tuple(axes), told=True) if axes else self.paint(values)

    def paint(self, values: Values) -> dict:
        """Draw with the list as it stands."""
        try:
            base = values[self.adapter_list.base]
            settings = self.form.settings(values)
            stack, left_out = self.places.stack(values).fitting(spec_of(base))
            # Before the drawing: where there is no room to keep it, no picture is drawn in vain.
            workspace = self.adapter_list.visit(values).workspace
            start = self.form.start(values, workspace)
            asked = self.guides.guides(values, workspace)
            guides, missing = usable_guides(base, asked, settings.check())
            pictures = draw_with(base, stack, [settings], start, guides)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)]), **self.long.hide()}
        words = [slot.adapter.description.trigger for slot in stack.active]
        drawn = publish_pictures(workspace, pictures)
        return {
            self.gallery: gr.update(value=drawn, visible=True, selected_index=None),
            self.sheet: gr.update(visible=False),
            self.records: [picture.record for picture in pictures],
            self.record: html.record(pictures[0].record),
            self.notes: html.warnings(
                html.uncalled(stack.said(settings.prompt), words)
                + cut_off(base, stack, settings.prompt)
                + left_out
                + missing
                + keep(workspace, drawn)
            ),
            self.form.seed: settings.seed,
            **self.long.hide(),
        }

    def paint_sweep(self, values: Values) -> dict:
        """The same picture along one or two settings."""
        across, down = values[self.across], values[self.down]
        return self.paint_grid(values, (across, down if down != across else ""))

    def paint_each(self, values: Values) -> dict:
        """The same picture by the base, by each adapter alone, and by all of them."""
        return self.paint_grid(values, ("", ""))

    def paint_grid(self, values: Values, axes: tuple[str, str], *, told: bool = False) -> dict:
        """A labelled sheet, across and down; without these the adapters side by side.

        told: that it takes long, which is asked first otherwise.
        """
        across, down = axes
        from personalization.sampling.sweep import Sweep, side_by_side

        base = values[self.adapter_list.base]
        try:
            settings = replace(self.form.settings(values), task="text")
            whole, spec = self.places.stack(values), spec_of(base)
            stack, left_out = whole.fitting(spec)
            axis = _axis(across, base).fitting(whole, spec) if across else side_by_side(stack)
            other = _axis(down, base).fitting(whole, spec) if down else None
            workspace = self.adapter_list.visit(values).workspace
            asked = self.guides.guides(values, workspace)
            guides, missing = usable_guides(base, asked, settings.check())
            plan = Sweep(stack, settings, axis, other, guides)
            if not told and (asking := self.too_long_a_sheet(values, plan, axes)):
                return asking
            grid = sweep_with(base, plan)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)]), **self.long.hide()}
        drawn = publish_pictures(workspace, [grid.sheet(dark=values[self.dark])])
        notes = cut_off(base, stack, settings.prompt)
        notes += left_out + missing + keep(workspace, drawn)
        return {
            self.gallery: gr.update(visible=False),
            self.sheet: gr.update(value=drawn[0][0], visible=True),
            self.records: [],
            self.record: html.record(grid.record),
            self.notes: html.warnings(notes),
            self.form.seed: settings.seed,
            **self.long.hide(),
        }

    def say_record(self, records: list[PictureRecord], event: gr.SelectData) -> str:
        """How the chosen picture came to be."""
        return html.record(records[index]) if (index := event.index) in range(len(records)) else ""


def _axis(choice: str, base: str) -> Axis:
    """What a choice of the sweep's lists stands for: "weight 1", "guidance", "combine"."""
    from personalization.sampling.sweep import STRENGTHS, Axis

    what, _, slot = choice.partition(" ")
    if what == "weight":
        return Axis("weight", STRENGTHS, slot=int(slot))
    if what == "combine":
        return Axis("combine", tuple(COMBINATIONS))
    own = spec_of(base).sampling.guidance
    return Axis("guidance", tuple(round(own * part, 1) for part in GUIDANCES))
