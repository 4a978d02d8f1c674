"""How to teach: two questions, the method that they lead to, and every setting behind it.

A recipe fills the fields (`settings`), the fields make a recipe (`recipe_of`), and the two agree.
What a visitor has changed by hand stays when an answer changes the rest; only rates go along with
the method, because what suits one ruins another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from personalization.bases.catalog import BaseSpec
from personalization.errors import PersonalizationError, RecipeError
from personalization.recipe import Full, LearnedEmbedding, LowRank, Method, Prior, Recipe
from personalization.training import presets
from personalization.training.base_selection import POCKET
from personalization.training.presets import Intent

from . import html
from .event_options import UNQUEUED
from .loaded import ON_ZERO, spec_of
from .session import recalled, workspaces

Purpose = Literal["word", "subject"]

WHERE = [("here", "here"), ("in other programs", "elsewhere"), ("with other adapters", "stack")]
EXACT = [("roughly", "rough"), ("close", "close"), ("exactly", "exact")]
WAYS = [
    *(("LoRA", "lora"), ("LoHa", "loha"), ("LoKr", "lokr"), ("DoRA", "dora")),
    ("full fine-tune", "full"),
]
PRIORS = [("class images", "images"), ("adapter off", "adapter_off"), ("none", "none")]

# The settings that are numbers: label, help, digits after the point (None: any).
NUMBERS: dict[str, tuple[str, str, int | None]] = {
    "steps": ("Steps", "More: closer, then a copy.", 0),
    "rate": ("Learning rate", "Too high breaks it.", None),
    "batch": ("Batch", "Photos at a time.", 0),
    "vectors": ("Vectors", "More hold more detail.", 0),
    "word_rate": ("Word learning rate", "Of the word’s vectors.", None),
    "rank": ("Rank", "Capacity, and file size.", 0),
    "alpha": ("Alpha", "Scale: alpha / rank.", None),
    "text_rate": ("Text learning rate", "Of the text encoder.", None),
    "prior_weight": ("Prior weight", "How much the class counts.", None),
    "images": ("Class images", "Drawn once, then kept.", 0),
    "warmup": ("Warm-up", "While the rate rises.", 0),
    "weight_decay": ("Weight decay", "Pulls weights to zero.", None),
    "clip": ("Gradient norm", "Larger ones are clipped.", None),
    "background": ("Background", "Its share, where masked.", None),
    "every": ("Previews", "From one to the next.", 0),
    "save_every": ("Checkpoints", "From one to the next.", 0),
    "seed": ("Seed", "The same seed, the same run.", 0),
}
TEXTS = {
    "initial": ("Word starts from", "One word or several; empty: the class."),
    "targets": ("Target modules", "Ends of their names, by commas; empty: the base’s own."),
}
BOXES = {
    "learned": ("Learn the word as well", "Pivotal tuning: the word gets a vector of its own."),
    "text": ("Text encoder too", "Learns the word faster, and leaks more."),
    "decay": ("Falling rate", "A cosine down to a tenth of it."),
    "early": ("Stop when settled", "Ends when the loss on one fixed batch moves no more."),
    "flip": ("Mirrored photos too", "Not for faces, words, or what has a left and a right."),
}
RATES = {"rate", "text_rate", "word_rate"}
_SHARED = {
    *("steps", "rate", "batch", "warmup", "decay", "weight_decay", "clip", "early"),
    *("background", "every", "save_every", "seed", "flip"),
}
MAX_FILE = 64 * 1024  # bytes: a recipe has a thousand

SAVE_FILE = """(text) => {
    if (!text) return;
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    link.download = 'recipe.json';
    link.click();
    URL.revokeObjectURL(link.href);
}"""


def settings(recipe: Recipe, spec: BaseSpec = POCKET) -> dict[str, Any]:
    """What the fields say of a recipe; those that its method lacks, as they begin for `spec`."""
    method = recipe.method
    subject = spec.recipes["subject"].method
    low = method if isinstance(method, LowRank) else subject
    assert isinstance(low, LowRank)
    trained = method if isinstance(method, LowRank | Full) else low
    word = recipe.learned_embedding or LearnedEmbedding(
        learning_rate=spec.recipes["word"].method.learning_rate
    )
    prior = recipe.prior or Prior()
    return {
        "method": recipe.method_name,
        "learned": isinstance(method, LowRank) and method.learned_embedding is not None,
        "steps": recipe.steps,
        "rate": method.learning_rate,
        "batch": recipe.batch_size,
        "vectors": word.vectors,
        "word_rate": word.learning_rate,
        "initial": word.initializer_token,
        "rank": low.rank,
        "alpha": low.alpha,
        "targets": ", ".join(low.targets),
        "text": trained.text_encoder,
        "text_rate": trained.text_learning_rate,
        "prior": recipe.prior.kind if recipe.prior else "none",
        "prior_weight": prior.weight,
        "images": prior.images,
        "warmup": recipe.warmup,
        "decay": recipe.decay,
        "weight_decay": recipe.weight_decay,
        "clip": recipe.max_grad_norm,
        "early": recipe.stop_early,
        "background": recipe.background,
        "every": recipe.preview_every,
        "save_every": recipe.checkpoint_every,
        "seed": recipe.seed,
        "flip": recipe.flip,
    }


def recipe_of(said: dict[str, Any]) -> Recipe:
    """The recipe that the fields say. Raises `RecipeError`."""
    method: Method
    if said["method"] == "textual_inversion":
        # What it starts from is the concept's, in a field of its own.
        method = LearnedEmbedding(said["vectors"], "", said["rate"])
    elif said["method"] == "full":
        method = Full(said["text"], said["rate"], said["text_rate"])
    else:
        word = LearnedEmbedding(said["vectors"], said["initial"].strip(), said["word_rate"])
        method = LowRank(
            said["method"],
            said["rank"],
            said["alpha"],
            text_encoder=said["text"],
            targets=tuple(said["targets"].replace(",", " ").split()),
            learned_embedding=word if said["learned"] else None,
            learning_rate=said["rate"],
            text_learning_rate=said["text_rate"],
        )
    none = said["method"] == "textual_inversion" or said["prior"] == "none"
    return Recipe(
        method,
        steps=said["steps"],
        batch_size=said["batch"],
        prior=None if none else Prior(said["prior"], said["prior_weight"], said["images"]),
        warmup=said["warmup"],
        decay=said["decay"],
        max_grad_norm=said["clip"],
        weight_decay=said["weight_decay"],
        flip=said["flip"],
        seed=said["seed"],
        preview_every=said["every"],
        checkpoint_every=said["save_every"],
        stop_early=said["early"],
        background=said["background"],
    ).check()


def shown(method: str, learned: bool, text: bool, prior: str) -> set[str]:
    """The fields that mean something for these choices."""
    if method == "textual_inversion":
        return _SHARED | {"vectors"}
    names = _SHARED | {"method", "text", "prior"}
    if method != "full":
        names |= {"rank", "alpha", "targets", "learned"}
        if learned:
            names |= {"vectors", "word_rate", "initial"}
    if text:
        names |= {"text_rate"}
    if prior != "none":
        names |= {"prior_weight"} | ({"images"} if prior == "images" else set())
    return names


def merged(new: dict[str, Any], old: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The fields after a change of preset from `old` to `new`: what was set by hand stays."""

    def touched(name: str) -> bool:
        changed = now[name] not in (None, old[name])
        return changed and not (name in RATES and old[name] != new[name])

    return {n: now[n] if n != "method" and touched(n) else new[n] for n in now}


@cache
def room_for_full(spec: BaseSpec = POCKET) -> bool:
    """Whether a full fine-tune of the base fits this machine, and a visitor's folder."""
    if spec.architecture is None:
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

    def __init__(self, purpose: Purpose):
        self.purpose: Purpose = purpose
        first = presets.recommend(POCKET, purpose, Intent(), full=True)
        self.first = settings(first.recipe)
        self.parts: dict[str, Any] = {}
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
        self.why = gr.HTML(html.reason(first.why), elem_id=f"{purpose}-why")
        with gr.Accordion("Advanced", open=False, elem_id=f"{purpose}-advanced"):
            self.build_settings()
        self.notes = gr.HTML(elem_id=f"{purpose}-recipe-notes")
        self.inputs = list(self.parts.values())

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
        with gr.Row(elem_classes="settings wide"):
            self.save = gr.Button("Save these settings", size="sm", elem_id=f"{self.purpose}-save")
            self.load = gr.UploadButton(
                "Load settings", size="sm", file_types=[".json"], elem_id=f"{self.purpose}-load"
            )
        self.saved = gr.Textbox(visible=False)

    def add(self, *names: str) -> None:
        """A field for each of these settings that the tab has."""
        visible = shown(*(self.first[n] for n in ("method", "learned", "text", "prior")))
        for name in names:
            if self.purpose == "word" and name not in visible:
                continue
            said: dict[str, Any] = {
                "value": self.first[name],
                "visible": name in visible,
                "elem_id": f"{self.purpose}-{name}",
            }
            if name in NUMBERS:
                label, info, digits = NUMBERS[name]
                said |= {"precision": digits, "min_width": 110}
                part: Any = gr.Number(label=label, info=info, **said)
            elif name in TEXTS:
                label, info = TEXTS[name]
                part = gr.Textbox(label=label, info=info, max_lines=1, min_width=110, **said)
            else:
                label, info = BOXES[name]
                part = gr.Checkbox(label=label, info=info, **said)
            self.parts[name] = part

    def wire(self, base: gr.BrowserState, kind: gr.Radio) -> None:
        latest: dict[str, Any] = {"trigger_mode": "always_last", **UNQUEUED}
        answers = [base, kind, self.where, self.exact, self.preset, *self.inputs]
        filled = [*self.inputs, self.preset, self.why]
        asked = [kind.change, self.where.input, self.exact.input]
        gr.on(asked, self.advise, answers, filled, **latest)
        if self.purpose == "subject":
            self.parts["method"].input(self.pick, answers, filled, **latest)
            deciding = [self.parts[n] for n in ("method", "learned", "text", "prior")]
            gr.on([p.change for p in deciding], self.fit, deciding, self.inputs, **latest)
        given = [base, self.load, self.preset]
        self.load.upload(self.take, given, [*filled, self.notes], **UNQUEUED)
        self.save.click(
            self.written, [base, *self.inputs], [self.saved, self.notes], **UNQUEUED
        ).then(None, self.saved, None, js=SAVE_FILE)

    # What the fields say

    def said(self, base: str, values: Sequence[Any]) -> dict[str, Any]:
        """The fields by name. One that was emptied says what it would begin with."""
        got = dict(zip(self.parts, values, strict=True))
        way = got.get("method", "textual_inversion")
        spec = spec_of(base)
        own = settings(presets.recipe_of(spec, way, Intent()), spec)
        return own | {name: value for name, value in got.items() if value is not None}

    def recipe(self, base: str, values: Sequence[Any]) -> Recipe:
        """The recipe that the form says. Raises `RecipeError`."""
        return recipe_of(self.said(base, values))

    def rebase(self, base: str) -> tuple[dict, list[Any]]:
        """The fields for another base, as they begin; and what they hold then."""
        spec = spec_of(base)
        choice = presets.recommend(spec, self.purpose, Intent(), full=room_for_full(spec))
        new = settings(choice.recipe, spec)
        reply = {
            **{part: new[name] for name, part in self.parts.items()},
            self.preset: {**new, "picked": False},
            self.why: html.reason(choice.why),
            self.where: "here",
            self.exact: "close",
        }
        return reply, [new[name] for name in self.parts]

    @property
    def rebased(self) -> list[Any]:
        """What `rebase` updates."""
        return [*self.inputs, self.preset, self.why, self.where, self.exact]

    # Events

    def advise(self, base: str, *given: Any) -> dict:
        """The answers' recipe into the fields, but for a method that the visitor picked."""
        return self.chosen(base, given, by_hand=given[3]["picked"])

    def pick(self, base: str, *given: Any) -> dict:
        """The visitor's own method, with the settings that suit it."""
        return self.chosen(base, given, by_hand=True)

    def chosen(self, base: str, given: Sequence[Any], *, by_hand: bool) -> dict:
        """`given`: kind, where, how exact, the preset so far, and the fields."""
        kind, where, exact, preset, *values = given
        now = dict(zip(self.parts, values, strict=True))
        way = now["method"] if by_hand else None
        new, reply = self.advised(base, Intent(kind, where, exact), way)
        # What stays is left alone: it may have been typed over while this was on its way.
        changed = {n: value for n, value in merged(new, preset, now).items() if value != now[n]}
        return {**{self.parts[name]: value for name, value in changed.items()}, **reply}

    def advised(self, base: str, intent: Intent, way: Any) -> tuple[dict[str, Any], dict]:
        """The settings that suit the wish, by the method `way` where it says one, and why."""
        spec = spec_of(base)
        choice = presets.recommend(spec, self.purpose, intent, full=room_for_full(spec))
        recipe, why = choice.recipe, choice.why
        picked = way is not None and way != recipe.method_name
        if picked:
            recipe, why = presets.recipe_of(spec, way, intent), html.WAYS[way]
        new = settings(recipe, spec)
        return new, {self.preset: {**new, "picked": picked}, self.why: html.reason(why)}

    @property
    def kept(self) -> list[Any]:
        """What the browser remembers: what was answered and set."""
        return [self.where, self.exact, *self.inputs]

    def recall(self, base: str, kind: Any, values: Sequence[Any]) -> dict:
        """The form as the visitor left it on this base; as new where it offered other things."""
        reply = recalled(self.kept, values)
        offered = {self.where: WHERE, self.exact: EXACT}
        if method := self.parts.get("method"):
            offered[method] = WAYS
        if any(reply.get(field) not in dict(of).values() for field, of in offered.items()):
            return {}
        way = reply[method] if method else None
        intent = Intent(kind, reply[self.where], reply[self.exact])
        return reply | self.advised(base, intent, way)[1]

    def fit(self, method: str, learned: bool, text: bool, prior: str) -> dict:
        """Hide what means nothing for the method."""
        visible = shown(method, learned, text, prior)
        return {part: gr.update(visible=n in visible) for n, part in self.parts.items()}

    def written(self, base: str, *values: Any) -> dict:
        """The recipe as the file that the browser saves."""
        try:
            return {self.saved: self.recipe(base, values).to_json(), self.notes: ""}
        except PersonalizationError as error:
            return {self.saved: "", self.notes: html.problems([str(error)])}

    def take(self, base: str, file: str, preset: dict) -> dict:
        """A recipe from a file, into the fields. One that is none leaves them as they are."""
        path = Path(file)
        try:
            with path.open("rb") as opened:
                text = opened.read(MAX_FILE).decode(errors="replace")
            recipe = Recipe.from_json(text)
            if (recipe.method_name == "textual_inversion") != (self.purpose == "word"):
                other = "Teach a subject" if self.purpose == "word" else "Teach a word"
                raise RecipeError(f"These settings are for the tab “{other}”: load them there.")
        except PersonalizationError as error:
            return {self.notes: html.problems([str(error)])}
        finally:
            path.unlink(missing_ok=True)
        if isinstance(recipe.method, LearnedEmbedding):
            recipe = replace(recipe, method=replace(recipe.method, initializer_token=""))
        new = settings(recipe, spec_of(base))
        return {
            **{part: new[name] for name, part in self.parts.items()},
            self.preset: {**preset, **new, "picked": True},
            self.why: html.reason("As the file says."),
            self.notes: "",
        }
