"""The right of the stack tab: a prompt, pictures drawn with the list, sweeps, and their records."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from personalization.bases import schedulers
from personalization.bases.catalog import BaseSpec
from personalization.data.words import contains
from personalization.errors import PersonalizationError
from personalization.sampling.picture_record import PictureRecord, read_record
from personalization.sampling.settings import MAX_COUNT, Settings, Start
from personalization.stacking.stack import COMBINATIONS, MAX_SLOTS
from personalization.training.base_selection import POCKET
from personalization.workspaces.library import Entry
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_list import AdapterList
from .combining import Combining
from .event_options import LATEST, ON_GPU, UNQUEUED
from .guides import usable_guides
from .guides_panel import GuidesPanel
from .loaded import ON_ZERO, spec_of
from .loaded import base as loaded
from .long_work import LONG, LongWork, drawing_seconds, sentence, sheet_seconds
from .messages import collected, user_message
from .pictures import brushed, canvas, gallery, keep, painted
from .places_panel import PlacesPanel
from .records import rows_of, start_from, start_of
from .session import Values
from .stacks import FEWEST_TOKENS, cut_off, draw_with, sweep_with
from .uploads import publish_pictures

if TYPE_CHECKING:
    from personalization.sampling.sweep import Axis, Sweep

# As `data.words` finds a word: not by its letters in another one.
CALL_WORD = r"""(prompt, word) => {
    const letters = '[\\p{L}\\p{N}_]', plain = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const alone = new RegExp(`^${letters}|${letters}$`, 'u').test(word);
    const whole = alone ? `(?<!${letters})${plain}(?!${letters})` : plain;
    return new RegExp(whole, 'iu').test(prompt) ? prompt : `${prompt} ${word}`.trim();
}"""
SAY_DARK = "() => document.body.classList.contains('dark')"
TASK_NAMES = [("from text", "text"), ("from a picture", "image"), ("part of a picture", "inpaint")]
MAX_STEPS, MAX_GUIDANCE = 60, 15  # of the sliders
GUIDANCES = (0.25, 0.5, 1, 1.5, 2)  # of the base's own


class DrawPanel:
    """A prompt, how to draw, and what was drawn."""

    def __init__(
        self, adapter_list: AdapterList, combining: Combining, places: PlacesPanel
    ) -> None:
        self.adapter_list, self.combining, self.places = adapter_list, combining, places
        self.records = gr.State([])
        gr.HTML(html.section(2, "Picture"))
        self.build_asking()
        self.guides = GuidesPanel(self.adapter_list.base)
        self.build_drawing()
        self.build_settings()

    def build_asking(self) -> None:
        """The prompt, and what a picture starts from."""
        self.prompt = gr.Textbox(
            placeholder="What to draw",
            container=False,
            lines=2,
            submit_btn=False,
            elem_id="stack-prompt",
        )
        self.unread = gr.HTML(elem_id="stack-unread")
        with gr.Row(elem_classes="calls"):
            self.chips = [
                gr.Button("", size="sm", visible=False, min_width=20, scale=0, elem_classes="call")
                for _ in range(MAX_SLOTS)
            ]
        self.task = gr.Radio(
            TASK_NAMES,
            value="text",
            container=False,
            elem_id="stack-task",
        )
        self.image = gr.Image(
            type="pil", label="Start from", visible=False, height=280, elem_id="stack-image"
        )
        self.editor = canvas(
            "Brush over what is to be drawn anew",
            visible=False,
            height=420,
            elem_id="stack-editor",
        )
        self.strength = gr.Slider(
            0.05,
            1,
            value=0.6,
            step=0.05,
            label="Change",
            info="Little keeps the picture; 1 forgets it.",
            visible=False,
            elem_id="stack-strength",
        )

    def build_drawing(self) -> None:
        """The buttons, and what they draw."""
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary", scale=3, elem_id="draw-button")
            self.compare = gr.Button(
                "Side by side", scale=1, min_width=130, elem_id="compare-button"
            )
            self.sweep = gr.Button("Sweep", scale=1, min_width=90, elem_id="sweep-button")
        self.fast = gr.Checkbox(
            False,
            label="Draw fast",
            info="In four steps, by LCM-LoRA: coarser, and many times sooner.",
            visible=False,
            elem_id="stack-fast",
        )
        self.takes = gr.HTML(elem_id="stack-takes")
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

    def build_settings(self) -> None:
        """How to draw, in the field’s terms."""
        sampling = POCKET.sampling
        narrow: dict[str, Any] = {"min_width": 140}
        with gr.Accordion("Advanced", open=False, elem_id="stack-advanced"):
            self.negative = gr.Textbox(
                label="Negative prompt", info="What should not be there.", elem_id="stack-negative"
            )
            with gr.Row():
                self.count = gr.Slider(1, MAX_COUNT, value=4, step=1, label="Pictures", **narrow)
                self.steps = gr.Slider(
                    1, MAX_STEPS, value=sampling.steps, step=1, label="Steps", **narrow
                )
            with gr.Row():
                self.guidance = gr.Slider(
                    0, MAX_GUIDANCE, value=sampling.guidance, step=0.5, label="Guidance", **narrow
                )
                self.scheduler = gr.Dropdown(
                    scheduler_choices(POCKET),
                    value="",
                    label="Scheduler",
                    elem_id="stack-scheduler",
                    **narrow,
                )
            with gr.Row():
                self.seed = gr.Number(0, label="Seed", precision=0, elem_id="stack-seed", **narrow)
                self.vary = gr.Checkbox(
                    True, label="A new seed each time", elem_id="stack-vary", **narrow
                )
            with gr.Row():
                self.across = gr.Dropdown(
                    [], label="Sweep across", elem_id="sweep-across", **narrow
                )
                self.down = gr.Dropdown([], label="and down", elem_id="sweep-down", **narrow)
        gr.HTML(html.RESTORE_HINT)
        self.restored = gr.File(
            show_label=False, height=60, elem_id="stack-restore", elem_classes="drop"
        )

    @property
    def parts(self) -> list[Any]:
        """What `show` updates."""
        return [*self.chips, self.across, self.down]

    @property
    def prompts(self) -> list[Any]:
        """What any base is asked by."""
        return [self.prompt, self.negative]

    @property
    def kept(self) -> list[Any]:
        """What the browser remembers, the prompts first."""
        sampling = [self.steps, self.guidance, self.scheduler, self.fast]
        return [self.prompt, self.negative, self.seed, self.vary, self.count, *sampling]

    def wire(self, outputs: list[Any], then: Callable[[Any], None]) -> None:
        """`outputs` are the list's, which a picture's record restores too."""
        form = [*self.kept, self.task, self.strength]
        shown = [self.gallery, self.sheet, self.records, self.record, self.notes, self.seed]
        work: dict[str, Any] = {"api_visibility": "private", **ON_GPU}
        for chip in self.chips:
            chip.click(None, [self.prompt, chip], self.prompt, js=CALL_WORD)
        for label in self.adapter_list.labels:
            label.click(call_word, self.prompt, self.prompt, **UNQUEUED)
        starts = [self.image, self.editor, self.strength]
        typed = [self.adapter_list.base, self.prompt, *self.chips]
        self.prompt.input(say_unread, typed, self.unread, **LATEST)
        self.guides.wire()
        self.task.change(self.choose_task, self.task, starts, **UNQUEUED)
        values = {*form, self.image, self.editor, *self.guides.inputs, *self.combining.inputs}
        values |= self.places.inputs
        asked = [*shown, *self.long.parts, self.asked_of]
        on_sheet: set[Any] = {*values, self.dark}
        gr.on([self.draw.click, self.prompt.submit], self.paint_unless_long, values, asked, **work)
        self.long.go.click(self.paint_all_the_same, {*on_sheet, self.asked_of}, asked, **work)
        base = self.adapter_list.base
        sampling = [self.steps, self.guidance]
        self.fast.input(self.choose_fast, {base, self.fast}, sampling, **UNQUEUED)
        deciding: list[Any] = [self.steps, self.guidance, self.count, self.fast]
        gr.on(
            [part.change for part in deciding],
            self.say_takes,
            {*form, base},
            self.takes,
            **LATEST,
        )
        # The sheet's colours are those of the page at that moment.
        self.compare.click(None, None, self.dark, js=SAY_DARK).then(
            self.paint_each, on_sheet, asked, **work
        )
        self.sweep.click(None, None, self.dark, js=SAY_DARK).then(
            self.paint_sweep, {*on_sheet, self.across, self.down}, asked, **work
        )
        self.gallery.select(self.say_record, self.records, self.record, **UNQUEUED)
        dropped: set[Any] = {self.adapter_list.visitor, self.adapter_list.base, self.restored}
        start = [self.image, self.editor, self.notes, self.restored]
        back = [*outputs, *self.combining.how, *form, *self.guides.inputs, *start]
        then(self.restored.upload(self.take_record, dropped, list(dict.fromkeys(back)), **UNQUEUED))

    def show(self, entries: Sequence[Entry]) -> dict:
        """What there is to call and to sweep with these adapters on the list."""

        words = [entry.description.trigger if entry.description else "" for entry in entries]
        words += [""] * (MAX_SLOTS - len(words))
        weights = [(f"weight of {html.called(e)}", f"weight {i}") for i, e in enumerate(entries)]
        axes = [*weights, ("guidance", "guidance")]
        axes += [("way to combine", "combine")] if len(entries) > 1 else []
        first = axes[0][1]
        return {
            **{
                chip: gr.update(value=word, visible=bool(word))
                for chip, word in zip(self.chips, words, strict=True)
            },
            self.across: gr.update(choices=axes, value=first),
            self.down: gr.update(choices=[("nothing", ""), *axes], value=""),
        }

    # Pictures

    def choose_task(self, task: str) -> dict:
        """What a picture starts from, where it starts from one."""
        return {
            self.image: gr.update(visible=task == "image"),
            self.editor: gr.update(visible=task == "inpaint"),
            self.strength: gr.update(visible=task != "text"),
        }

    def settings(self, values: Values) -> Settings:
        """What the form says."""
        seed = int(values[self.seed] or 0)
        return Settings(
            values[self.prompt] or "",
            values[self.negative] or "",
            seed=secrets.randbelow(2**32 - MAX_COUNT) if values[self.vary] else seed,
            count=int(values[self.count]),
            steps=int(values[self.steps]),
            guidance=values[self.guidance],
            scheduler=values[self.scheduler] or None,
            task=values[self.task],
            strength=values[self.strength],
            fast=values[self.fast],
        )

    def start(self, values: Values) -> Start | None:
        """What the pictures start from, kept in the workspace. Raises `WorkspaceError`."""
        image: Image.Image | None = values[self.image]
        mask: Image.Image | None = None
        if values[self.task] == "inpaint":
            editor = values[self.editor]
            image, mask = (editor or {}).get("background"), painted(editor)
        if values[self.task] == "text" or image is None:
            return None
        visit = self.adapter_list.visit(values)
        return start_from(visit.workspace, visit.base, image, mask)

    def for_base(self, spec: BaseSpec) -> dict:
        """How the base draws when nobody says otherwise, and what it can do."""
        return {
            self.task: tasks_of(spec),
            self.steps: spec.sampling.steps,
            self.guidance: spec.sampling.guidance,
            self.scheduler: gr.update(choices=scheduler_choices(spec), value=""),
            self.fast: gr.update(visible=spec.fast is not None, value=False),
            **self.guides.for_base(spec),
            self.takes: takes(spec, Settings()),
            **self.long.hide(),
        }

    def choose_fast(self, values: Values) -> dict:
        """The steps and the guidance that suit it, or the base's own."""
        spec = spec_of(values[self.adapter_list.base])
        sampling = spec.fast.sampling if spec.fast and values[self.fast] else spec.sampling
        return {self.steps: sampling.steps, self.guidance: sampling.guidance}

    def say_takes(self, values: Values) -> str:
        """How long a picture takes, on a base that is slow here."""
        return takes(spec_of(values[self.adapter_list.base]), self.settings(values))

    def too_long(self, values: Values) -> dict | None:
        """What to ask before a drawing that takes long; None for one that does not."""
        spec, settings = spec_of(values[self.adapter_list.base]), self.settings(values)
        seconds = None if ON_ZERO else drawing_seconds(spec, settings)
        if seconds is None or seconds * settings.count <= LONG:
            return None
        others = [f"One alone takes {html.duration(seconds)}."] if settings.count > 1 else []
        if spec.fast and not settings.fast:
            quick = drawing_seconds(spec, replace(settings, fast=True, steps=None, guidance=None))
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
        asked = self.long.ask(sentence(f"Drawing {plan.count} pictures", seconds), {})
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
            settings, stack = self.settings(values), self.places.stack(values)
            # Before the drawing: where there is no room to keep it, no picture is drawn in vain.
            start = self.start(values)
            base = values[self.adapter_list.base]
            asked = self.guides.guides(values, self.adapter_list.visit(values).workspace)
            guides, missing = usable_guides(base, asked, settings.check())
            pictures = draw_with(base, stack, [settings], start, guides)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)]), **self.long.hide()}
        words = [slot.adapter.description.trigger for slot in stack.active]
        workspace = self.adapter_list.visit(values).workspace
        drawn = publish_pictures(workspace, pictures)
        return {
            self.gallery: gr.update(value=drawn, visible=True, selected_index=None),
            self.sheet: gr.update(visible=False),
            self.records: [picture.record for picture in pictures],
            self.record: html.record(pictures[0].record),
            self.notes: html.warnings(
                html.uncalled(stack.said(settings.prompt), words)
                + cut_off(base, stack, settings.prompt)
                + missing
                + keep(workspace, drawn)
            ),
            self.seed: settings.seed,
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
            settings = replace(self.settings(values), task="text")
            stack = self.places.stack(values)
            axis = _axis(across, base) if across else side_by_side(stack)
            other = _axis(down, base) if down else None
            asked = self.guides.guides(values, self.adapter_list.visit(values).workspace)
            guides, missing = usable_guides(base, asked, settings.check())
            plan = Sweep(stack, settings, axis, other, guides)
            if not told and (asking := self.too_long_a_sheet(values, plan, axes)):
                return asking
            grid = sweep_with(base, plan)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)]), **self.long.hide()}
        workspace = self.adapter_list.visit(values).workspace
        drawn = publish_pictures(workspace, [grid.sheet(dark=values[self.dark])])
        notes = cut_off(base, stack, settings.prompt)
        notes += missing + keep(workspace, drawn)
        return {
            self.gallery: gr.update(visible=False),
            self.sheet: gr.update(value=drawn[0][0], visible=True),
            self.records: [],
            self.record: html.record(grid.record),
            self.notes: html.warnings(notes),
            self.seed: settings.seed,
            **self.long.hide(),
        }

    # Records

    def say_record(self, records: list[PictureRecord], event: gr.SelectData) -> str:
        """How the chosen picture came to be."""
        return html.record(records[event.index]) if event.index < len(records) else ""

    def take_record(self, values: Values) -> dict:
        """The form as it was when this picture was drawn; the base stays the chosen one."""
        record = read_record(Path(values[self.restored]))
        if record is None:
            return {self.notes: html.problems([html.NO_RECORD]), self.restored: None}
        visit = self.adapter_list.visit(values)
        spec = spec_of(visit.base)
        photo, warnings = None, html.other_base(record.base, spec)
        if record.task != "text":
            with collected(warnings):
                photo = start_of(visit.workspace, record.start)
        board = self.adapter_list.show(visit, rows_of(record))
        board[self.combining.combine] |= {"value": record.combine}
        return {
            **board,
            **self.fill(record, spec),
            **self.guides.restore(record, visit.workspace, warnings),
            **self._canvas(board, record, visit.workspace, warnings),
            self.image: photo.image if photo and record.task == "image" else gr.skip(),
            self.editor: brushed(photo.image, photo.mask)
            if photo and record.task == "inpaint"
            else gr.skip(),
            self.notes: html.warnings(warnings),
            self.restored: None,
        }

    def _canvas(
        self, board: dict, record: PictureRecord, workspace: Workspace, warnings: list[str]
    ) -> dict:
        """The brushed places, shown where the record has any."""
        restored = self.places.restore(record, workspace, warnings)
        return {part: board[part] | update for part, update in restored.items()}

    def fill(self, record: PictureRecord, spec: BaseSpec) -> dict:
        """The fields as the record has them, within what the form can say."""
        steps, guidance = record.steps or spec.sampling.steps, record.guidance
        guidance = spec.sampling.guidance if guidance is None else guidance
        known = record.scheduler in schedulers.names(spec.module)
        return {
            self.combining.density: record.density,
            self.combining.rank: record.rank,
            self.prompt: record.prompt,
            self.negative: record.negative,
            self.seed: record.seed,
            self.vary: False,
            self.count: 1,
            self.steps: min(steps, MAX_STEPS),
            self.guidance: min(guidance, MAX_GUIDANCE),
            self.scheduler: record.scheduler if known else "",
            self.task: record.task,
            self.strength: record.strength,
            self.fast: record.fast and spec.fast is not None,
        }


def call_word(prompt: str, event: gr.EventData) -> str:
    """The prompt with the trigger word that was clicked, unless it calls it already."""
    word = str(event.key)
    joined = f"{prompt.rstrip(' ,')}, {word}" if prompt.strip() else word
    return prompt if contains(prompt, word) else joined


def takes(spec: BaseSpec, settings: Settings) -> str:
    """How long a picture takes, on a base that is not small."""
    seconds = None if spec.small or ON_ZERO else drawing_seconds(spec, settings)
    said = html.duration(seconds) if seconds else ""
    return html.hint(f"{said[0].upper()}{said[1:]} a picture here.") if said else ""


def say_unread(base: str, prompt: str, *words: str) -> str:
    """What the base will not read of the prompt, as it is typed; `words` are the list's.

    A learned word counts as one token here, which it is at least.
    """
    if len((prompt or "").encode()) < FEWEST_TOKENS:
        return ""
    from personalization.bases.context import unread_words

    errors: list[str] = []
    with collected(errors):
        single = {word: 1 for word in words if word and " " not in word}
        return html.warnings(unread_words(loaded(base).contexts, prompt, single))
    return html.problems(errors)


def tasks_of(spec: BaseSpec) -> dict[str, Any]:
    """What a base can draw from; the choice stays where it can."""
    known = [(name, task) for name, task in TASK_NAMES if task in spec.tasks]
    if len(known) > 1:
        return gr.update(choices=known)
    return gr.update(choices=known, value=known[0][1])


def scheduler_choices(spec: BaseSpec) -> list[tuple[str, str]]:
    """What the base can be drawn with."""
    return [("the base’s own", ""), *((name, name) for name in schedulers.names(spec.module))]


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
