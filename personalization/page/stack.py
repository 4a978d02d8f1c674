"""The stack tab: a rack of adapters, each with its weight; a prompt; pictures."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from personalization.adapter import Adapter
from personalization.choice import POCKET
from personalization.errors import PersonalizationError
from personalization.generate import MAX_COUNT, Settings, read_record
from personalization.stack import MAX_SLOTS, MAX_WEIGHT
from personalization.workspace import Workspace

from . import html
from .common import (
    ON_GPU,
    QUIET,
    WORKSPACES,
    collected,
    gallery,
    handed_out_pictures,
    in_words,
    spec_of,
)
from .gpu import draw_stack, gpu_sweep, stack_of

CALL_WORD = "(prompt, word) => prompt.includes(word) ? prompt : `${prompt} ${word}`.trim()"


class StackTab:
    """A rack of adapters, each with its weight; a prompt; pictures."""

    def __init__(self, visitor: gr.BrowserState, base: gr.BrowserState, rack: gr.BrowserState):
        self.visitor = visitor
        self.base = base  # its name
        self.rack = rack  # [name in the library, weight] of each row
        self.records = gr.State([])
        gr.HTML(html.STACK_PROMISE)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_rack()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.build_easel()
        self.wire()

    def build_rack(self) -> None:
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
        self.rack_notes = gr.HTML(elem_id="stack-rack-notes")

    def build_easel(self) -> None:
        sampling = POCKET.sampling
        narrow: dict[str, Any] = {"min_width": 140}
        gr.HTML(html.section(2, "Picture"))
        self.prompt = gr.Textbox(
            placeholder="What to draw",
            container=False,
            lines=2,
            submit_btn=False,
            elem_id="stack-prompt",
        )
        with gr.Row(elem_classes="calls"):
            self.chips = [
                gr.Button("", size="sm", visible=False, min_width=20, scale=0, elem_classes="call")
                for _ in range(MAX_SLOTS)
            ]
        self.task = gr.Radio(
            [("from text", "text"), ("from a picture", "image"), ("part of a picture", "inpaint")],
            value="text",
            container=False,
            elem_id="stack-task",
        )
        self.image = gr.Image(
            type="pil", label="Start from", visible=False, height=280, elem_id="stack-image"
        )
        self.editor = gr.ImageEditor(
            type="pil",
            label="Brush over what is to be drawn anew",
            visible=False,
            height=420,
            layers=False,
            transforms=(),
            brush=gr.Brush(colors=["#6366f1cc"], color_mode="fixed", default_size=40),
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
        with gr.Row():
            self.draw = gr.Button("Draw", variant="primary", scale=3, elem_id="draw-button")
            self.sweep = gr.Button("Sweep", scale=1, min_width=100, elem_id="sweep-button")
        self.notes = gr.HTML(elem_id="stack-notes")
        self.gallery = gallery("stack-gallery", visible=False)
        self.sheet = gr.Image(
            container=False,
            interactive=False,
            visible=False,
            buttons=[],
            elem_id="stack-sweep",
        )
        self.record = gr.HTML(elem_id="stack-record")
        with gr.Accordion("Advanced", open=False, elem_id="stack-advanced"):
            self.negative = gr.Textbox(
                label="Negative prompt", info="What should not be there.", elem_id="stack-negative"
            )
            with gr.Row():
                self.count = gr.Slider(1, MAX_COUNT, value=4, step=1, label="Pictures", **narrow)
                self.steps = gr.Slider(1, 60, value=sampling.steps, step=1, label="Steps", **narrow)
            with gr.Row():
                self.guidance = gr.Slider(
                    0, 15, value=sampling.guidance, step=0.5, label="Guidance", **narrow
                )
                self.seed = gr.Number(0, label="Seed", precision=0, elem_id="stack-seed", **narrow)
            self.vary = gr.Checkbox(True, label="A new seed each time", elem_id="stack-vary")
        gr.HTML(html.RESTORE_HINT)
        self.restored = gr.File(
            show_label=False, height=60, elem_id="stack-restore", elem_classes="drop"
        )

    def wire(self) -> None:
        rack = [self.visitor, self.base, self.rack, *self.weights]
        self.board = [
            *(self.rack, self.empty, self.add, self.rack_notes),
            *(*self.rows, *self.labels, *self.weights, *self.chips),
        ]
        self.form = [
            *(self.prompt, self.negative, self.seed, self.vary, self.count, self.steps),
            *(self.guidance, self.task, self.strength),
        ]
        shown = [self.gallery, self.sheet, self.records, self.record, self.notes, self.seed]
        easel = [self.image, self.editor, self.strength]
        work: dict[str, Any] = {"api_visibility": "private", **ON_GPU}
        # Fires twice at times: the second choice, gone from the list by then, must not be refused.
        self.rebased = [self.steps, self.guidance, self.rack_notes]
        chosen = [*rack[:3], self.add, *self.weights]
        self.add.input(self.put, chosen, self.board, preprocess=False, **QUIET)
        self.upload.upload(
            self.take_file, [*rack[:3], self.upload, *self.weights], self.board, **QUIET
        )
        for i, (weight, take, chip) in enumerate(
            zip(self.weights, self.takes, self.chips, strict=True)
        ):
            weight.release(remember, [self.rack, *self.weights], self.rack, **QUIET)
            take.click(
                self.take_out,
                [self.visitor, self.rack, gr.State(i), *self.weights],
                self.board,
                **QUIET,
            )
            chip.click(None, [self.prompt, chip], self.prompt, js=CALL_WORD)
        self.task.change(self.choose_task, self.task, easel, **QUIET)
        given = [*rack[:3], *self.form, self.image, self.editor, *self.weights]
        gr.on([self.draw.click, self.prompt.submit], self.paint, given, shown, **work)
        self.sweep.click(self.paint_sweep, given, shown, **work)
        self.gallery.select(self.say_record, self.records, self.record, **QUIET)
        self.restored.upload(
            self.take_record,
            [self.visitor, self.base, self.restored],
            [*self.board, *self.form, self.notes, self.restored],
            **QUIET,
        )

    # The rack

    def show_rack(self, workspace: Workspace, rack: list, errors: Sequence[str] = ()) -> dict:
        """The rows for these [name, weight], and what else the library has."""
        entries = {entry.name: entry for entry in workspace.library.list()}
        gone = [
            f"“{name}” is no longer in the library, and was taken out."
            for name, _ in rack
            if name not in entries
        ]
        rack = [[name, weight] for name, weight in rack if name in entries]
        free = [entry for name, entry in entries.items() if name not in dict(rack)]
        hint = "Add from the library" if free else "Nothing else in the library yet"
        choices = [(hint, "")] + [(html.choice(entry), entry.name) for entry in free]
        reply: dict = {
            self.rack: rack,
            self.empty: gr.update(visible=not rack),
            self.add: gr.update(choices=choices, value=""),
            self.rack_notes: html.problems([*errors, *gone]),
        }
        for i in range(MAX_SLOTS):
            on = i < len(rack)
            entry = entries[rack[i][0]] if on else None
            word = entry.description.trigger if entry and entry.description else ""
            reply |= {
                self.rows[i]: gr.update(visible=on),
                self.labels[i]: html.adapter_row(entry) if entry else "",
                self.weights[i]: rack[i][1] if on else 1.0,
                self.chips[i]: gr.update(value=word, visible=bool(word)),
            }
        return reply

    def with_row(self, workspace: Workspace, base: str, rack: list, name: str) -> dict:
        """One more row, at its recommended strength. Raises what is wrong with it."""
        entry = workspace.library.entry(name)
        errors = [entry.error] if entry.error else []
        if entry.description:
            stack_of(base, [(name, Adapter(entry.description, {}), 1.0)])
            if name not in dict(rack):
                rack = [*rack, [name, entry.description.strength]]
        if len(rack) > MAX_SLOTS:
            errors.append(f"The rack holds {MAX_SLOTS} adapters. Take one out first.")
        return self.show_rack(workspace, rack[:MAX_SLOTS], errors)

    def put(self, visitor: str, base: str, rack: list, name: str, *weights: float) -> dict:
        """An adapter of the library, onto the rack."""
        if not name:  # the line that says what the list is for
            return {self.rack_notes: ""}
        try:
            return self.with_row(WORKSPACES.open(visitor), base, remember(rack, *weights), name)
        except PersonalizationError as error:
            return {self.rack_notes: html.problems([str(error)])}

    def take_file(self, visitor: str, base: str, rack: list, file: str, *weights: float) -> dict:
        """A file from anyone, checked by its header, into the library and onto the rack."""
        from personalization.formats import describe

        try:
            workspace, path = WORKSPACES.open(visitor), Path(file)
            stack_of(base, [(path.stem, Adapter(describe(path), {}), 1.0)])
            entry = workspace.library.add(path, path.stem)
            return self.with_row(workspace, base, remember(rack, *weights), entry.name)
        except PersonalizationError as error:
            return {self.rack_notes: html.problems([str(error)])}

    def take_out(self, visitor: str, rack: list, number: int, *weights: float) -> dict:
        """One row less."""
        rack = remember(rack, *weights)
        return self.show_rack(WORKSPACES.open(visitor), rack[:number] + rack[number + 1 :])

    def refresh(self, visitor: str, rack: list, *weights: float) -> dict:
        """The same rack before a library that has grown."""
        return self.show_rack(WORKSPACES.open(visitor), remember(rack, *weights))

    # Pictures

    def choose_task(self, task: str) -> dict:
        return {
            self.image: gr.update(visible=task == "image"),
            self.editor: gr.update(visible=task == "inpaint"),
            self.strength: gr.update(visible=task != "text"),
        }

    def asked(self, rack: list, *given: Any) -> tuple[list[tuple[str, float]], Settings, Any, Any]:
        """What the form says: names and weights, settings, the picture and its mask."""
        prompt, negative, seed, vary, count, steps, guidance, task, strength = given[:9]
        image, editor, *weights = given[9:]
        settings = Settings(
            prompt or "",
            negative or "",
            seed=secrets.randbelow(2**32 - MAX_COUNT) if vary else int(seed or 0),
            count=int(count),
            steps=int(steps),
            guidance=guidance,
            task=task,
            strength=strength,
        )
        mask = None
        if task == "inpaint":
            image, mask = (editor or {}).get("background"), painted(editor)
        return [(name, weight) for name, weight in remember(rack, *weights)], settings, image, mask

    def paint(self, visitor: str, base: str, rack: list, *given: Any) -> dict:
        """Draw with the rack as it stands."""
        try:
            library = WORKSPACES.open(visitor).library
            rows, settings, image, mask = self.asked(rack, *given)
            adapters = [(name, library.get(name), weight) for name, weight in rows]
            pictures = draw_stack(base, adapters, [settings], image, mask)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([in_words(error)])}
        words = [adapter.description.trigger for _, adapter, weight in adapters if weight]
        drawn = handed_out_pictures(pictures)
        return {
            self.gallery: gr.update(value=drawn, visible=True, selected_index=None),
            self.sheet: gr.update(visible=False),
            self.records: [picture.record for picture in pictures],
            self.record: html.record(pictures[0].record),
            self.notes: html.warnings(html.uncalled(settings.prompt, words)),
            self.seed: settings.seed,
        }

    def paint_sweep(self, visitor: str, base: str, rack: list, *given: Any) -> dict:
        """The same picture at five strengths of the first adapter, side by side."""
        try:
            library = WORKSPACES.open(visitor).library
            rows, settings, _, _ = self.asked(rack, *given)
            stack = stack_of(base, [(name, library.get(name), weight) for name, weight in rows])
            sheet = gpu_sweep(base, stack, replace(settings, task="text").check())
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([in_words(error)])}
        return {
            self.gallery: gr.update(visible=False),
            self.sheet: gr.update(value=sheet, visible=True),
            self.records: [],
            self.record: "",
            self.notes: "",
            self.seed: settings.seed,
        }

    def say_record(self, records: list[dict[str, Any]], event: gr.SelectData) -> str:
        """How the chosen picture came to be."""
        return html.record(records[event.index]) if event.index < len(records) else ""

    def take_record(self, visitor: str, base: str, file: str) -> dict:
        """The form as it was when this picture was drawn; the base stays the chosen one."""
        record = read_record(Path(file))
        Path(file).unlink(missing_ok=True)
        if record is None:
            return {self.notes: html.problems([html.NO_RECORD]), self.restored: None}
        rack = [[a.get("name", "?"), a.get("weight", 1.0)] for a in record.get("adapters", [])]
        return {
            **self.show_rack(WORKSPACES.open(visitor), rack[:MAX_SLOTS]),
            self.prompt: record.get("prompt", ""),
            self.negative: record.get("negative", ""),
            self.seed: record.get("seed", 0),
            self.vary: False,
            self.count: 1,
            self.steps: record.get("steps", POCKET.sampling.steps),
            self.guidance: record.get("guidance", POCKET.sampling.guidance),
            self.task: record.get("task", "text"),
            self.strength: record.get("strength", 0.6),
            self.notes: html.warnings(html.other_base(record.get("base"), spec_of(base))),
            self.restored: None,
        }

    def rebase(self, workspace: Workspace, base: str, rack: list) -> dict:
        """The form for another base: how it draws, and what on the rack is not for it."""
        spec = spec_of(base)
        return {
            self.steps: spec.sampling.steps,
            self.guidance: spec.sampling.guidance,
            self.rack_notes: html.problems(self.misfits(workspace, base, rack)),
        }

    def misfits(self, workspace: Workspace, base: str, rack: list) -> list[str]:
        """A sentence for each adapter on the rack that is for other bases: it stays there."""
        errors: list[str] = []
        on = dict(rack)
        for entry in workspace.library.list():
            if entry.name in on and entry.description:
                with collected(errors):
                    adapter = Adapter(entry.description, {})
                    stack_of(base, [(entry.name, adapter, on[entry.name])])
        return errors

    def restore(self, workspace: Workspace, base: str, rack: list, *, fresh: bool) -> dict:
        """The rack as it was left; a new visitor finds two ready adapters on it."""
        if not fresh:
            errors = self.misfits(workspace, base, rack)
            shown = self.show_rack(workspace, rack, errors)
            return {**self.rebase(workspace, base, rack), **shown}
        family = spec_of(base).family
        entries = [e for e in workspace.library.list() if not e.own]
        ready = {
            e.name: e.description
            for e in entries
            if e.description and e.description.family == family
        }
        rows = [[name, about.strength] for name, about in list(ready.items())[:2]]
        words = [about.trigger for about in list(ready.values())[:2]]
        prompt = f"a photo of {' '.join(words)}" if words else "a photo of a dog on the beach"
        return {
            **self.rebase(workspace, base, rows),
            **self.show_rack(workspace, rows),
            self.prompt: prompt,
        }


def remember(rack: list, *weights: float) -> list:
    """The rack with its sliders as they are now."""
    return [[name, weight] for (name, _), weight in zip(rack, weights, strict=False)]


def painted(editor: dict[str, Any] | None) -> Image.Image | None:
    """What was brushed over, white on black."""
    layers = (editor or {}).get("layers")
    return (
        layers[0].getchannel("A").point(lambda alpha: 255 if alpha > 16 else 0) if layers else None
    )
