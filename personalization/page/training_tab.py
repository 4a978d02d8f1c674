"""The two teaching tabs: photos, a word, a method; the run beside them is `run_panel`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gradio as gr

from personalization.bases.catalog import BaseSpec
from personalization.data.captions import captioned
from personalization.data.concept import (
    Concept,
    Kind,
    check_class_noun,
    check_initializer,
    check_photos,
)
from personalization.data.photos import Photo, open_photos
from personalization.data.photos import problems as photo_problems
from personalization.errors import BaseError, PersonalizationError, WorkspaceError
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.training.start import check_new, fitted
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import CLICK_WITH_KEY, QUEUED, UNQUEUED
from .examples import example_sets
from .loaded import ON_ZERO, device, spec_of
from .loaded import base as loaded
from .mask import MaskBrush
from .messages import collected
from .recipe_form import RecipeForm
from .run_panel import RunPanel
from .runs import pieces_of
from .session import keep, workspace_of, workspaces
from .uploads import take_uploads

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Training:
    """What the two teaching tabs do not share."""

    purpose: Literal["word", "subject"]
    title: str
    promise: str
    placeholder_token: str
    class_noun: tuple[str, str, str]  # label, help, placeholder
    method: str

    def recipe(self, spec: BaseSpec) -> Recipe:
        """What a base is taught by when nobody says otherwise."""
        return spec.recipes[self.purpose]


WORD = Training(
    "word",
    "Teach a word",
    "A new entry in the model’s dictionary. No weight changes, and the file is a few kilobytes: "
    "good for a look, a style, or a rough likeness that you want to share.",
    placeholder_token="<my-word>",
    class_noun=("Starts from", "The closest word it knows.", "mug, dog, painting …"),
    method="Textual inversion: new vectors are learned, everything else stays as it is.",
)
SUBJECT = Training(
    "subject",
    "Teach a subject",
    "A thin layer over the model’s weights binds a rare word to this one subject, while its class "
    "stays what it was: the closest likeness, in a small file that stacks with others.",
    placeholder_token="sks",
    class_noun=("It is a …", "Its everyday name.", "dog, mug, robot …"),
    method="DreamBooth: the model learns your photos, and its own pictures of the class keep the "
    "class as it was.",
)


class TrainingTab:
    """Photos, a word, a method; then a run, and what came of it."""

    def __init__(self, training: Training, *kept: gr.BrowserState):
        self.training, self.prefix = training, training.purpose
        self.visitor, self.base, *self.stored = kept
        self.keys, self.fields, self.settings = self.stored
        gr.HTML(f'<p class="promise">{training.promise}</p>')
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_form()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.run_panel = RunPanel(self.prefix, self.visitor, self.train)
        self.wire()

    def build_form(self) -> None:
        training, prefix = self.training, self.prefix
        noun_label, noun_help, noun_hint = training.class_noun
        gr.HTML(html.section(1, "Photos", "Three to five of the same thing, in different places."))
        self.crops = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id=f"{prefix}-crops")
        self.drop = gr.File(
            show_label=False,
            file_count="multiple",
            height=84,
            elem_id=f"{prefix}-photos",
            elem_classes="drop",
        )
        self.photo_notes = gr.HTML(elem_id=f"{prefix}-photo-notes")
        sets = html.example_sets(example_sets(prefix))
        self.examples = gr.HTML(sets, js_on_load=CLICK_WITH_KEY, elem_id=f"{prefix}-examples")
        with gr.Accordion("Captions", open=False, elem_id=f"{prefix}-captions-fold"):
            self.captions = gr.Textbox(
                label="Captions",
                info="A line for each photo, in their order: what else is in it, so that it is "
                "not taken for a part of the subject. An empty line leaves it to the app.",
                placeholder="on a wooden table\nin the snow",
                lines=4,
                elem_id=f"{prefix}-captions",
            )
        self.mask = MaskBrush(prefix)
        gr.HTML(html.section(2, "The word"))
        with gr.Row():
            self.placeholder_token = gr.Textbox(
                training.placeholder_token,
                label="New word",
                info="Means nothing yet.",
                max_lines=1,
                min_width=140,
                elem_id=f"{prefix}-token",
            )
            self.class_noun = gr.Textbox(
                label=noun_label,
                info=noun_help,
                placeholder=noun_hint,
                max_lines=1,
                min_width=140,
                elem_id="word-initial" if training is WORD else "subject-noun",
            )
        self.kind = gr.Radio(list(KINDS), value="object", label="Kind", elem_id=f"{prefix}-kind")
        self.chips = gr.HTML(elem_id=f"{prefix}-chips")
        self.word_notes = gr.HTML(elem_id=f"{prefix}-word-notes")
        gr.HTML(html.section(3, "Teach", training.method))
        self.form = RecipeForm(training.purpose)
        self.setting_notes = gr.HTML(elem_id=f"{prefix}-setting-notes")
        self.train = gr.Button("Teach", variant="primary", elem_id=f"teach-{prefix}-button")
        self.estimate = gr.HTML(elem_id=f"{prefix}-estimate")

    def wire(self) -> None:
        visitor, base, keys = self.visitor, self.base, self.keys
        word: list[Any] = [self.placeholder_token, self.class_noun, self.kind, self.captions]
        settings = self.form.inputs
        photos = [visitor, keys, self.crops, self.photo_notes, self.mask.which]
        notes = [self.photo_notes, self.word_notes, self.setting_notes]
        said = [self.chips, self.word_notes, self.fields]
        latest: dict[str, Any] = {"trigger_mode": "always_last", **UNQUEUED}
        self.everything = [
            *(*photos[1:], *word, *said, *self.form.rebased, self.estimate),
            *self.run_panel.parts,
        ]
        self.rebased = [*photos[1:], *said, *self.form.rebased, self.estimate]
        given = [visitor, base, keys]
        self.drop.upload(self.add_photos, [*given, self.drop], [*photos, self.drop], **UNQUEUED)
        remaining = [*photos, self.captions]
        self.crops.click(self.remove_photo, [*given, self.captions], remaining, **UNQUEUED)
        self.mask.wire(visitor)
        brushed = [*given, self.mask.which, self.mask.editor]
        self.mask.take.click(self.mask_photo, brushed, photos, **UNQUEUED)
        self.mask.drop.click(self.mask_photo, brushed[:-1], photos, **UNQUEUED)
        self.examples.click(self.pick_example, [visitor, base], [*photos, *word], **UNQUEUED)
        gr.on([field.change for field in word], self.read_word, [base, *word], said, **latest)
        asked = [base, *settings]
        gr.on([s.change for s in settings], self.say_estimate, asked, self.estimate, **latest)
        self.form.wire(base, self.kind)
        keep(self.settings, [base, *self.form.kept])
        begin = [*given, *word, *settings]
        self.train.click(self.begin, begin, [*notes, *self.run_panel.parts], **QUEUED)

    # Photos

    def show_photos(
        self,
        visitor: str,
        base: str,
        keys: list[str],
        errors: Sequence[str] = (),
        chosen: str = "",
    ) -> dict:
        """The crops of these photos, and what is wrong with them; the `chosen` one to brush."""
        try:
            photos, size = workspaces().open(visitor).photos(keys), spec_of(base).size
        except (WorkspaceError, BaseError) as error:
            return {self.photo_notes: html.problems([*errors, str(error)])}
        notes = html.problems(errors) + html.warnings(photo_problems(photos, size))
        crops = html.crops(list(zip(keys, photos, strict=True)), size)
        return {
            self.visitor: visitor,
            self.keys: keys,
            self.crops: crops,
            self.photo_notes: notes,
            **self.mask.show(list(zip(keys, photos, strict=True)), chosen),
        }

    def mask_photo(
        self,
        visitor: str,
        base: str,
        keys: list[str],
        key: str | None,
        editor: dict[str, Any] | None = None,
    ) -> dict:
        """What was brushed over is the subject of the chosen photo; without an editor, all is."""
        errors: list[str] = []
        with collected(errors):
            if key:
                keys, key = self.mask.masked(workspaces().open(visitor), keys, key, editor)
        return self.show_photos(visitor, base, keys, errors, key or "")

    def add_photos(self, visitor: str, base: str, keys: list[str], uploads: list[str]) -> dict:
        """Uploads become photos of the workspace; a broken one is named, the others are kept."""
        photos, broken = take_uploads(uploads)
        errors = [str(error) for error in broken]
        with collected(errors):
            workspace = workspace_of(visitor)
            visitor, keys = workspace.id, [*keys, *workspace.save_photos(photos)]
        keys = list(dict.fromkeys(keys))
        return {**self.show_photos(visitor, base, keys, errors), self.drop: None}

    def remove_photo(
        self, visitor: str, base: str, keys: list[str], captions: str, event: gr.EventData
    ) -> dict:
        """Take one photo out, and its caption with it."""
        lines = captions.split("\n")
        kept = [i for i in range(max(len(keys), len(lines))) if keys[i : i + 1] != [event.key]]
        return {
            **self.show_photos(visitor, base, [keys[i] for i in kept if i < len(keys)]),
            self.captions: "\n".join(lines[i] for i in kept if i < len(lines)),
        }

    def pick_example(self, visitor: str, base: str, event: gr.EventData) -> dict:
        """An example set in place of the photos that are there, with its word and noun."""
        example = next(e for e in example_sets(self.prefix) if e.key == event.key)
        errors: list[str] = []
        keys: list[str] = []
        with collected(errors):
            workspace = workspace_of(visitor)
            visitor, keys = workspace.id, workspace.save_photos(open_photos(example.photos)[0])
        return {
            **self.show_photos(visitor, base, keys, errors),
            self.placeholder_token: example.fields["placeholder_token"][self.prefix],
            self.class_noun: example.fields["class_noun"],
            self.kind: example.fields["kind"],
            self.captions: "",
        }

    # The word and the recipe

    def read_word(
        self, base: str, placeholder_token: str, class_noun: str, kind: Kind, captions: str
    ) -> dict:
        """How the base reads the word, as it is typed."""
        errors: list[str] = []
        read: list[str] = []
        start: list[str] = []
        with collected(errors):
            read, start = pieces_of(base, placeholder_token), pieces_of(base, class_noun)
            if placeholder_token:
                learned = LearnedEmbedding() if self.training is WORD else None
                check_new(loaded(base), placeholder_token, learned)
        unknown = (
            f"The base does not know “{class_noun}” and reads it in {len(start)} pieces: "
            "a simpler word works better."
        )
        warnings = [unknown] if len(start) > len(class_noun.split()) else []
        return {
            self.chips: html.word_chips(placeholder_token, read, start, self.training is WORD),
            self.word_notes: html.problems(errors) + html.warnings(warnings),
            self.fields: [placeholder_token, class_noun, kind, captions],
        }

    def say_estimate(self, name: str, *values: Any) -> str:
        """What the run will take, and leave; or why it would not fit."""
        from personalization.training.estimate import outlook  # takes seconds to import

        try:
            recipe = fitted(loaded(name), self.form.recipe(name, values), shared=ON_ZERO)
            said = outlook(loaded(name), recipe)
        except PersonalizationError as error:
            return html.problems([str(error)])
        return html.outlook(said, device(), shared=ON_ZERO)

    # The run

    def begin(
        self,
        visitor: str,
        base: str,
        keys: list[str],
        placeholder_token: str,
        class_noun: str,
        kind: Kind,
        captions: str,
        *values: Any,
    ) -> dict:
        """Check all that the visitor entered; then make the run, and take its first turn."""
        about: list[str] = []
        about_photos: list[str] = []
        about_word: list[str] = []
        about_settings: list[str] = []
        photos: list[Photo] = []
        learned: LearnedEmbedding | None = None
        with collected(about_settings):
            recipe = self.form.recipe(base, values)
            learned = recipe.learned_embedding
        with collected(about_word):
            check_new(loaded(base), placeholder_token, learned)
        with collected(about_word):
            if learned:
                check_initializer(learned.initializer_token or class_noun)
            check_class_noun(class_noun, needed=kind != "style")
        with collected(about_photos):
            workspace = workspaces().open(visitor)
            photos = workspace.photos(keys)
            check_photos(photos)
            photos = captioned(photos, captions)
        above = len(about_photos + about_word)
        started: dict = {}
        if above:
            see = "the note" if above == 1 else f"the {above} notes"
            about_settings.insert(0, f"Not started: see {see} above.")
        elif not about_settings:
            with collected(about_settings):
                concept = Concept(kind, placeholder_token, class_noun.strip(), tuple(photos))
                run = workspace.start_run(loaded(base), concept, recipe, shared=ON_ZERO)
                started = self.run_panel.next_turn(run, "learn")
        with collected(about_settings):
            about = photo_problems(photos, spec_of(base).size)
        return {
            self.photo_notes: html.problems(about_photos) + html.warnings(about),
            self.word_notes: html.problems(about_word),
            self.setting_notes: html.problems(about_settings),
            **started,
        }

    def rebase(
        self, workspace: Workspace, base: str, keys: list[str], fields: list[Any], *_: Any
    ) -> dict:
        """The form for another base: its crops, its reading of the word, its own recipe."""
        fields = [*fields, ""][:4]  # a browser may remember those of before there were captions
        known = set(workspace.photo_keys())
        form, values = self.form.rebase(base)
        return {
            **self.show_photos(workspace.id, base, [key for key in keys if key in known]),
            **self.read_word(base, *fields),
            **form,
            self.estimate: self.say_estimate(base, *values),
        }

    def restore(
        self,
        workspace: Workspace,
        base: str,
        keys: list[str],
        fields: list[Any],
        settings: list[Any],
    ) -> dict:
        """What a visitor who comes back finds: photos, word, settings, the newest run."""

        fields = [*fields, ""][:4]
        reply = self.rebase(workspace, base, keys, fields)
        word = (self.placeholder_token, self.class_noun, self.kind, self.captions)
        reply |= dict(zip(word, fields, strict=True))
        if settings[:1] == [base]:
            reply |= self.form.recall(base, fields[2], settings[1:])
        for run in workspace.runs():
            if (run.recipe.method_name == "textual_inversion") == (self.training is WORD):
                return {**reply, **self.run_panel.find(workspace, run)}
        return reply
