"""What is to be drawn and how: the prompt, what a picture starts from, the sampling."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import gradio as gr
from PIL import Image

from personalization.bases import schedulers
from personalization.bases.catalog import BaseSpec
from personalization.sampling.picture_record import PictureRecord
from personalization.sampling.settings import MAX_COUNT, Settings, Start
from personalization.training.base_selection import POCKET
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import LATEST, UNQUEUED
from .loaded import ON_ZERO, spec_of
from .loaded import base as loaded
from .long_work import drawing_seconds
from .messages import collected
from .pictures import brushed, canvas, painted
from .records import start_from, start_of
from .session import Values
from .stacks import FEWEST_TOKENS
from .trigger_words import TriggerWords

TASK_NAMES = [("from text", "text"), ("from a picture", "image"), ("part of a picture", "inpaint")]
MAX_STEPS, MAX_GUIDANCE = 60, 15  # of the sliders


class PictureForm:
    """The fields of a picture; built in three parts, between which its owner puts what draws."""

    def __init__(self, base: gr.BrowserState) -> None:
        self.base = base

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
        self.words = TriggerWords()
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

    def build_fast(self) -> None:
        """Fewer steps, where the base has a way; and how long a picture takes."""
        self.fast = gr.Checkbox(
            False,
            label="Draw fast",
            info="In four steps, by LCM-LoRA: coarser, and many times sooner.",
            visible=False,
            elem_id="stack-fast",
        )
        self.takes = gr.HTML(elem_id="stack-takes")

    def build_settings(self) -> None:
        """How to draw, in the field’s terms."""
        sampling = POCKET.sampling
        narrow: dict[str, Any] = {"min_width": 140}
        with gr.Accordion("Advanced", open=False, elem_id="stack-advanced") as self.advanced:
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

    @property
    def prompts(self) -> list[Any]:
        """What any base is asked by."""
        return [self.prompt, self.negative]

    @property
    def kept(self) -> list[Any]:
        """What the browser remembers, the prompts first."""
        sampling = [self.steps, self.guidance, self.scheduler, self.fast]
        return [self.prompt, self.negative, self.seed, self.vary, self.count, *sampling]

    @property
    def fields(self) -> list[Any]:
        """What says how to draw."""
        return [*self.kept, self.task, self.strength]

    @property
    def inputs(self) -> list[Any]:
        """What a drawing reads."""
        return [*self.fields, self.image, self.editor]

    @property
    def rebased(self) -> list[Any]:
        """What `for_base` updates."""
        return [self.task, self.steps, self.guidance, self.scheduler, self.fast, self.takes]

    def wire(self, labels: Iterable[gr.HTML]) -> None:
        """What the fields do to each other. labels: of the rows on the list, with their words."""
        self.words.wire(self.prompt, labels)
        self.task.change(
            self.choose_task, self.task, [self.image, self.editor, self.strength], **UNQUEUED
        )
        self.prompt.input(
            say_unread, [self.base, self.prompt, *self.words.chips], self.unread, **LATEST
        )
        sampling = [self.steps, self.guidance]
        self.fast.input(self.choose_fast, {self.base, self.fast}, sampling, **UNQUEUED)
        deciding: list[Any] = [*sampling, self.count, self.fast]
        gr.on(
            [part.change for part in deciding],
            self.say_takes,
            {*self.fields, self.base},
            self.takes,
            **LATEST,
        )

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

    def start(self, values: Values, workspace: Workspace) -> Start | None:
        """What the pictures start from, kept in the workspace. Raises `WorkspaceError`."""
        image: Image.Image | None = values[self.image]
        mask: Image.Image | None = None
        if values[self.task] == "inpaint":
            editor = values[self.editor]
            image, mask = (editor or {}).get("background"), painted(editor)
        if values[self.task] == "text" or image is None:
            return None
        return start_from(workspace, values[self.base], image, mask)

    def for_base(self, spec: BaseSpec) -> dict:
        """How the base draws when nobody says otherwise, and what it can do."""
        return {
            self.task: tasks_of(spec),
            self.steps: spec.sampling.steps,
            self.guidance: spec.sampling.guidance,
            self.scheduler: gr.update(choices=scheduler_choices(spec), value=""),
            self.fast: gr.update(visible=spec.fast is not None, value=False),
            self.takes: takes(spec, Settings()),
        }

    def choose_fast(self, values: Values) -> dict:
        """The steps and the guidance that suit it, or the base's own."""
        spec = spec_of(values[self.base])
        sampling = spec.fast.sampling if spec.fast and values[self.fast] else spec.sampling
        return {self.steps: sampling.steps, self.guidance: sampling.guidance}

    def say_takes(self, values: Values) -> str:
        """How long a picture takes, on a base that is slow here."""
        return takes(spec_of(values[self.base]), self.settings(values))

    def fill(self, record: PictureRecord, spec: BaseSpec) -> dict:
        """The fields as the record has them, within what the form can say."""
        steps, guidance = record.steps or spec.sampling.steps, record.guidance
        guidance = spec.sampling.guidance if guidance is None else guidance
        known = record.scheduler in schedulers.names(spec.module)
        return {
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

    def fill_start(self, record: PictureRecord, workspace: Workspace, warnings: list[str]) -> dict:
        """What the picture started from, where it is still there; `warnings` grows otherwise."""
        photo = None
        if record.task != "text":
            with collected(warnings):
                photo = start_of(workspace, record.start)
        return {
            self.image: photo.image if photo and record.task == "image" else gr.skip(),
            self.editor: brushed(photo.image, photo.mask)
            if photo and record.task == "inpaint"
            else gr.skip(),
        }


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
