"""How to teach: two questions, the method that they lead to, and every setting behind it.

What a visitor has changed by hand stays when an answer changes the rest; only rates go along with
the method, because what suits one ruins another.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from personalization.bases.catalog import BaseSpec
from personalization.errors import PersonalizationError, RecipeError
from personalization.recipe import Recipe
from personalization.training import presets
from personalization.training.base_selection import POCKET
from personalization.training.presets import Intent, Purpose
from personalization.workspaces.presets import MAX_FILE
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import LATEST, UNQUEUED
from .loaded import ON_ZERO, spec_of
from .recipe_fields import (
    BOXES,
    EXACT,
    NUMBERS,
    PRIORS,
    TEXTS,
    WAYS,
    WHERE,
    merged,
    recipe_of,
    settings,
    shown,
)
from .session import Values, page_workspace, recalled, workspaces

DECIDING = ("method", "learned", "text", "prior")  # which fields mean something: see `shown`

SAVE_FILE = """(text) => {
    if (!text) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    link.download = 'recipe.json';
    link.click();
    URL.revokeObjectURL(link.href);
}"""


@cache
def room_for_full(spec: BaseSpec = POCKET) -> bool:
    """Whether a full fine-tune of the base fits this machine, and a visitor's folder."""
    if spec.small:  # small enough for any
        return True
    import torch

    from personalization.training.estimate import estimate

    cost = estimate(spec, spec.recipes["full"])
    disk = 16 * cost.trained  # the file twice in half precision, and the checkpoint's three floats
    memory = cost.memory
    if torch.cuda.is_available() and not ON_ZERO:
        memory = torch.cuda.get_device_properties(0).total_memory
    return disk <= workspaces().quota and cost.memory <= memory


class RecipeForm:
    """The questions, the method, and the advanced settings."""

    def __init__(
        self,
        purpose: Purpose,
        visitor: gr.BrowserState,
        base: gr.BrowserState,
        kind: gr.Radio,
        framing: gr.Radio,
    ):
        self.purpose, self.visitor, self.base, self.kind = purpose, visitor, base, kind
        first = presets.recommend(POCKET, purpose, Intent(), full=True)
        self.first = settings(first.recipe)
        self.parts: dict[str, Any] = {}  # the fields by name
        self.framing = framing  # beside the photos
        self.preset = gr.State({**self.first, "picked": False})
        subject = purpose == "subject"
        self.where = gr.Radio(
            WHERE,
            value="here",
            label="Where will you use it?",
            visible=subject,
            elem_id=f"{purpose}-where",
        )
        self.exact = gr.Radio(EXACT, value="close", label="How exact?", elem_id=f"{purpose}-exact")
        if subject:
            self.parts["method"] = gr.Radio(
                WAYS, value=first.recipe.method_name, label="Method", elem_id=f"{purpose}-method"
            )
        self.own = gr.Dropdown(
            [],
            label="Your presets",
            info="Settings that you kept of a run, under “Your things”.",
            visible=False,
            elem_id=f"{purpose}-own",
        )
        self.why = gr.HTML(html.reason(first.why), elem_id=f"{purpose}-why")
        with gr.Accordion("Advanced", open=False, elem_id=f"{purpose}-advanced"):
            self.build_settings()
        self.notes = gr.HTML(elem_id=f"{purpose}-recipe-notes")
        self.inputs = list(self.parts.values())
        self.filled = [*self.inputs, self.preset, self.why]
        self.rebased = [*self.filled, self.where, self.exact, self.own, self.scripts]
        self.kept = [self.where, self.exact, *self.inputs]  # by the browser

    def build_settings(self) -> None:
        """Every choice of a recipe, in the field's terms, with a line of help each."""
        with gr.Row(elem_classes="settings"):
            self.add("steps", "rate", "batch", "rank", "alpha", "vectors")
        if self.purpose == "subject":
            self.add("learned")
            with gr.Row(elem_classes="settings wide"):
                self.add("word_rate", "initial")
            self.add("text")
            with gr.Row(elem_classes="settings wide"):
                self.add("text_rate", "targets")
            self.parts["prior"] = gr.Radio(
                PRIORS,
                value=self.first["prior"],
                label="Prior preservation",
                info="What keeps the class: its own pictures, or the base itself as the teacher.",
                elem_id="subject-prior",
            )
            with gr.Row(elem_classes="settings"):
                self.add("prior_weight", "images")
        with gr.Row(elem_classes="settings"):
            self.add("warmup", "weight_decay", "clip", "background", "every", "save_every", "seed")
        self.add("decay", "early", "flip")
        # The last: a browser keeps the fields in their order.
        self.add("resolution")
        self.parts["framing"] = self.framing
        self.add("annotate")
        with gr.Row(elem_classes="settings wide"):
            self.scripts = gr.Button(
                "As diffusers’ example scripts",
                size="sm",
                visible=False,
                elem_id=f"{self.purpose}-scripts",
            )
            self.save = gr.Button("Save these settings", size="sm", elem_id=f"{self.purpose}-save")
            self.load = gr.UploadButton(
                "Load settings", size="sm", file_types=[".json"], elem_id=f"{self.purpose}-load"
            )
        self.saved = gr.Textbox(visible=False)

    def add(self, *names: str) -> None:
        """A field for each of these settings that the tab has."""
        visible = shown(*(self.first[name] for name in DECIDING))
        for name in names:
            if self.purpose == "subject" or name in visible:
                self.parts[name] = self.field(name, visible=name in visible)

    def field(self, name: str, *, visible: bool) -> Any:
        """The component for a setting: a number, a text or a box."""
        options: dict[str, Any] = {
            "value": self.first[name],
            "visible": visible,
            "elem_id": f"{self.purpose}-{name}",
        }
        if name in NUMBERS:
            label, info, digits = NUMBERS[name]
            return gr.Number(label=label, info=info, precision=digits, min_width=110, **options)
        if name in TEXTS:
            label, info = TEXTS[name]
            return gr.Textbox(label=label, info=info, max_lines=1, min_width=110, **options)
        label, info = BOXES[name]
        return gr.Checkbox(label=label, info=info, **options)

    def wire(self) -> None:
        """The answers fill the fields; files hold them."""
        answers = {self.base, self.kind, self.where, self.exact, self.preset, *self.inputs}
        changes = [self.kind.change, self.where.input, self.exact.input]
        gr.on(changes, self.advise, answers, self.filled, **LATEST)
        if self.purpose == "subject":
            self.parts["method"].input(self.pick, answers, self.filled, **LATEST)
            deciding = [self.parts[name] for name in DECIDING]
            gr.on([p.change for p in deciding], self.fit, set(deciding), self.inputs, **LATEST)
        self.load.upload(
            self.read_file,
            {self.base, self.load, self.preset},
            [*self.filled, self.notes],
            **UNQUEUED,
        )
        self.own.input(
            self.read_preset,
            {self.visitor, self.base, self.own, self.preset},
            [*self.filled, self.notes],
            **UNQUEUED,
        )
        self.scripts.click(
            self.read_scripts, {self.base, self.preset}, [*self.filled, self.notes], **UNQUEUED
        )
        self.save.click(
            self.write_file, {self.base, *self.inputs}, [self.saved, self.notes], **UNQUEUED
        ).then(None, self.saved, None, js=SAVE_FILE)

    # What the fields say

    def now(self, values: Values) -> dict[str, Any]:
        """The fields by name."""
        return {name: values[part] for name, part in self.parts.items()}

    def recipe(self, base: str, values: Values) -> Recipe:
        """The recipe that the form says. Raises `RecipeError`.

        A field that was emptied says what it would begin with.
        """
        now, spec = self.now(values), spec_of(base)
        way = now.get("method", "textual_inversion")
        first = settings(presets.recipe_of(spec, way, Intent()), spec)
        return recipe_of(first | {name: value for name, value in now.items() if value is not None})

    def fill(self, new: dict[str, Any]) -> dict:
        """The fields with these settings."""
        return {part: new[name] for name, part in self.parts.items()}

    def rebase(self, base: str) -> tuple[dict, Values]:
        """The fields for another base, as they begin; and what they hold then."""
        spec = spec_of(base)
        choice = presets.recommend(spec, self.purpose, Intent(), full=room_for_full(spec))
        new = settings(choice.recipe, spec)
        reply = {
            **self.fill(new),
            self.preset: {**new, "picked": False},
            self.why: html.reason(choice.why),
            self.where: "here",
            self.exact: "close",
            self.scripts: gr.update(visible=bool(spec.scripts)),
        }
        return reply, self.fill(new)

    # Events

    def advise(self, values: Values) -> dict:
        """The answers' recipe into the fields, but for a method that the visitor picked."""
        return self.choose(values, by_hand=values[self.preset]["picked"])

    def pick(self, values: Values) -> dict:
        """The visitor's own method, with the settings that suit it."""
        return self.choose(values, by_hand=True)

    def choose(self, values: Values, *, by_hand: bool) -> dict:
        """The settings that suit the answers, by the method of the form or the best one."""
        now = self.now(values)
        intent = Intent(values[self.kind], values[self.where], values[self.exact])
        way = now["method"] if by_hand else None
        new, reply = self.advice(values[self.base], intent, way)
        # What stays is left alone: it may have been typed over while this was on its way.
        changed = merged(new, values[self.preset], now)
        return {
            **{self.parts[n]: value for n, value in changed.items() if value != now[n]},
            **reply,
        }

    def advice(self, base: str, intent: Intent, way: Any) -> tuple[dict[str, Any], dict]:
        """The settings that suit the intent, by the method `way` where it says one, and why."""
        spec = spec_of(base)
        choice = presets.recommend(spec, self.purpose, intent, full=room_for_full(spec))
        recipe, why = choice.recipe, choice.why
        picked = way is not None and way != recipe.method_name
        if picked:
            recipe, why = presets.recipe_of(spec, way, intent), html.WAYS[way]
        new = settings(recipe, spec)
        return new, {self.preset: {**new, "picked": picked}, self.why: html.reason(why)}

    def recall(self, base: str, kind: Any, kept: Sequence[Any]) -> dict:
        """The form as the visitor left it on this base; as new where it offered other things."""
        reply = recalled(self.kept, kept)
        offered = {self.where: WHERE, self.exact: EXACT}
        if method := self.parts.get("method"):
            offered[method] = WAYS
        if any(reply.get(field) not in dict(of).values() for field, of in offered.items()):
            return {}
        way = reply[method] if method else None
        intent = Intent(kind, reply[self.where], reply[self.exact])
        return reply | self.advice(base, intent, way)[1]

    def fit(self, values: Values) -> dict:
        """Hide what means nothing for the method."""
        visible = shown(*(values[self.parts[name]] for name in DECIDING))
        return {part: gr.update(visible=n in visible) for n, part in self.parts.items()}

    def write_file(self, values: Values) -> dict:
        """The recipe as the file that the browser saves."""
        try:
            return {self.saved: self.recipe(values[self.base], values).to_json(), self.notes: ""}
        except PersonalizationError as error:
            return {self.saved: "", self.notes: html.problems([str(error)])}

    def read_file(self, values: Values) -> dict:
        """A recipe from a file, into the fields. One that is none leaves them as they are."""
        try:
            with Path(values[self.load]).open("rb") as file:
                recipe = Recipe.from_json(file.read(MAX_FILE).decode(errors="replace"))
            return self.take(values, recipe, "As the file says.")
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}

    def read_preset(self, values: Values) -> dict:
        """One of the visitor's own presets, into the fields."""
        name = values[self.own]
        try:
            recipe = page_workspace(values[self.visitor]).presets.get(name or "")
            return self.take(values, recipe, f"As you kept it under “{name}”.")
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}

    def read_scripts(self, values: Values) -> dict:
        """What the README of diffusers' example script runs, to compare with."""
        spec = spec_of(values[self.base])
        recipe = spec.scripts.get(self.purpose)
        if recipe is None:  # its button is not shown then
            return {self.notes: html.problems([f"No example script teaches {spec.title} that."])}
        return self.take(values, recipe, "As the README of diffusers’ example script has it.")

    def offer(self, workspace: Workspace) -> dict:
        """The visitor's presets that are for this tab."""
        names = []
        for name in workspace.presets.names():
            with suppress(RecipeError):  # damaged, or for the other tab
                presets.fitting(workspace.presets.get(name), self.purpose)
                names.append(name)
        return {self.own: gr.update(choices=names, value=None, visible=bool(names))}

    def take(self, values: Values, recipe: Recipe, why: str) -> dict:
        """The recipe into the fields. Raises `RecipeError` for one of the other tab."""
        new = settings(presets.fitting(recipe, self.purpose), spec_of(values[self.base]))
        return {
            **self.fill(new),
            self.preset: {**values[self.preset], **new, "picked": True},
            self.why: html.reason(why),
            self.notes: "",
        }
