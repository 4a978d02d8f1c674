"""The two teaching tabs: photos, a word, a method; the run beside them is `run_panel`'s."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import gradio as gr

from personalization.bases.catalog import BaseSpec
from personalization.data.captions import captioned, naming
from personalization.data.concept import (
    Concept,
    Kind,
    check_class_noun,
    check_initializer,
    check_photos,
)
from personalization.data.photo_problems import problems as photo_problems
from personalization.data.photos import Photo
from personalization.data.words import visible
from personalization.errors import PersonalizationError
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.training.presets import Purpose
from personalization.training.start import check_new, fitted

from . import html
from .entered import pressed
from .event_options import LATEST, QUEUED, UNQUEUED
from .first_try import Asked, FirstTry
from .jobs_panel import Go, JobsPanel
from .lending import fits
from .loaded import ON_ZERO, device, spec_of
from .loaded import base as loaded
from .long_work import LONG, SIZES, LongWork, sentence
from .messages import collected
from .photo_form import PhotoForm
from .recipe_form import RecipeForm
from .run_panel import RunPanel
from .runs import beside_it, foreseen, run_queue, showing_seconds
from .session import Values, Visit, keep, page_workspace, remembered
from .stacks import FEWEST_TOKENS
from .word_form import WordForm, WordHints


@dataclass(frozen=True)
class Training:
    """What the two teaching tabs do not share."""

    purpose: Literal["word", "subject"]
    title: str
    promise: str
    hints: WordHints
    method: str

    def recipe(self, spec: BaseSpec) -> Recipe:
        """What a base is taught by when nobody says otherwise."""
        return spec.recipes[self.purpose]


WORD = Training(
    "word",
    "Teach a word",
    "A new entry in the model’s dictionary. No weight changes, and the file is a few kilobytes: "
    "good for a look, a style, or a rough likeness that you want to share.",
    WordHints(
        "<my-word>",
        "Starts from",
        "The closest word it knows.",
        "mug, dog, painting …",
        elem_id="word-initial",
    ),
    method="Textual inversion: new vectors are learned, everything else stays as it is.",
)
SUBJECT = Training(
    "subject",
    "Teach a subject",
    "A thin layer over the model’s weights binds a rare word to this one subject, while its class "
    "stays what it was: the closest likeness, in a small file that stacks with others.",
    WordHints(
        "sks", "It is a …", "Its everyday name.", "dog, mug, robot …", elem_id="subject-noun"
    ),
    method="DreamBooth: the model learns your photos, and its own pictures of the class keep the "
    "class as it was.",
)


class Remembered(NamedTuple):
    """What a browser keeps of a teaching tab; each is a list, as version 0.1.0 wrote it."""

    keys: gr.BrowserState  # of the photos
    fields: gr.BrowserState  # placeholder token, class noun, kind, captions
    settings: gr.BrowserState  # the base's name, then `RecipeForm.kept`

    @classmethod
    def of(cls, training: Training) -> Remembered:
        """Outside the tabs: a browser's memory inside one is not read before that is opened."""
        return cls(
            remembered(f"{training.purpose}-photos", []),
            remembered(
                f"{training.purpose}-fields", [training.hints.placeholder_token, "", "object"]
            ),
            remembered(f"{training.purpose}-settings", []),
        )


class TrainingTab:
    """Photos, a word, a method; then a run, and what came of it."""

    def __init__(
        self,
        training: Training,
        visitor: gr.BrowserState,
        base: gr.BrowserState,
        stored: Remembered,
        beside: Remembered,
    ):
        """`stored` is this tab's, `beside` the other's, whose photos may be the same."""
        self.training, self.visitor, self.base, self.stored = training, visitor, base, stored
        purpose = training.purpose
        gr.HTML(f'<p class="promise">{training.promise}</p>')
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="form-column"):
                self.photos = PhotoForm(purpose, visitor, base, stored.keys, [beside.keys])
                self.word = WordForm(purpose, training.hints)
                self.first_try = FirstTry(purpose) if training is SUBJECT else None
                gr.HTML(html.section(3, "Teach", training.method))
                self.form = RecipeForm(purpose, visitor, base, self.word.kind, self.photos.framing)
                self.notes = gr.HTML(elem_id=f"{purpose}-setting-notes")
                self.train = gr.Button(
                    "Teach", variant="primary", elem_id=f"teach-{purpose}-button"
                )
                self.estimate = gr.HTML(elem_id=f"{purpose}-estimate")
                self.long = LongWork(purpose, "Teach all the same")
                self.jobs = JobsPanel(purpose, visitor)
            with gr.Column(scale=6, min_width=320, elem_classes="panel-column"):
                self.run_panel = self.jobs.panel = RunPanel(purpose, visitor, self.train)
        self.fields: list[Any] = [*self.word.fields, self.photos.captions]
        self.rebased = [
            *(*self.photos.shown, *self.word.shown, stored.fields, *self.form.rebased),
            self.photos.unread,
            self.estimate,
            *([self.first_try.column, *self.first_try.parts] if self.first_try else []),
        ]
        self.followed = [*self.photos.shown, self.form.own, *self.run_panel.parts]
        self.restored = [*(*self.rebased, *self.fields, *self.run_panel.parts, *self.jobs.parts)]
        self.wire()

    def wire(self) -> None:
        """What is entered is read and estimated as it changes; Teach begins."""
        visit: set[Any] = {self.visitor, self.base}
        resolution = self.form.parts["resolution"]
        self.photos.wire(resolution)
        self.photos.examples.click(
            self.pick_example, self.photos.look, [*self.photos.shown, *self.fields], **UNQUEUED
        )
        changes = [field.change for field in self.fields]
        read = [*self.word.shown, self.stored.fields, self.photos.unread]
        gr.on(changes, self.read_word, {self.base, *self.fields}, read, **LATEST)
        asked = [self.word.class_noun, self.word.kind, *self.form.inputs]
        settings = {self.base, *asked}
        # As typed: by their `change` a picked example had this and `advise` go round for ever.
        changes = [part.change for part in self.form.inputs]
        changes += [self.word.class_noun.input, self.word.kind.input]
        gr.on(changes, self.say_estimate, settings, self.estimate, **LATEST)
        self.form.wire()
        keep(self.stored.settings, [self.base, *self.form.kept])
        entered = {*visit, self.stored.keys, *self.fields, *self.form.inputs}
        notes = [self.photos.notes, self.word.notes, self.notes]
        shown = [*notes, *self.run_panel.parts, *self.long.parts, self.estimate]
        self.train.click(self.begin, entered, shown, **QUEUED)
        self.long.go.click(self.begin_all_the_same, entered, shown, **QUEUED)
        self.jobs.wire(entered, self.begin_elsewhere, [*notes, *self.long.parts])
        if self.first_try:
            self.first_try.wire(entered, self.asked)
            self.first_try.train.click(self.begin, entered, shown, **QUEUED)
        for size, button in zip(SIZES, self.long.smaller, strict=True):
            take = partial(self.take_smaller, size)
            button.click(take, None, [resolution, *self.long.parts], **UNQUEUED)

    def asked(self, values: Values) -> Asked:
        """What can be tried before it is taught."""
        return Asked(
            values[self.visitor],
            values[self.base],
            values[self.word.class_noun] or "",
            values[self.word.kind],
            tuple(values[self.stored.keys]),
        )

    def pick_example(self, values: Values, event: gr.EventData) -> dict:
        """An example set in place of the photos that are there, with its word and noun."""
        example = self.photos.example(pressed(event))
        return {
            **self.photos.take(self.photos.showing(values), example),
            **self.word.fill(example.fields, self.training.purpose),
        }

    def read_word(self, values: Values) -> dict:
        """How the base reads the word, as it is typed."""
        fields = [values[field] for field in self.fields]
        return {
            **self.word.read(values[self.base], values),
            self.photos.unread: html.warnings(self.unread_captions(values)),
            self.stored.fields: fields,
        }

    def unread_captions(self, values: Values) -> list[str]:
        """A sentence for each caption whose end is not read, with the word put where it lacks."""
        token = values[self.word.placeholder_token] or "a"
        lines = visible(values[self.photos.captions] or "").splitlines()
        long = {n: line for n, line in enumerate(lines, 1) if len(line.encode()) > FEWEST_TOKENS}
        if not long:
            return []
        from personalization.bases.context import unread

        cut: list[str] = []
        with collected(cut):
            contexts = loaded(values[self.base]).contexts
            for number, line in long.items():
                if rest := unread(contexts, naming(line, token, token), {token: 1}):
                    cut.append(f"Line {number} is too long: “{rest}” is cut off.")
        return cut

    def say_estimate(self, values: Values) -> str:
        """What the run will take, and leave; or why it would not fit."""
        name = values[self.base]
        try:
            recipe = self.form.recipe(name, values)
            told, pictures = (
                foreseen(name, recipe, *self.what(values)),
                showing_seconds(name, recipe),
            )
        except PersonalizationError as error:
            return html.problems([str(error)])
        lent = self.lent(name, told.seconds) if ON_ZERO else None
        return html.outlook(told, device(), lent, pictures)

    def lent(self, name: str, seconds: float | None) -> str:
        """How a run of that many seconds stands to a day of ZeroGPU's; "" where none can tell."""
        if not seconds:
            return ""
        other: Purpose = "word" if self.training.purpose == "subject" else "subject"
        beside = beside_it(name, other)
        return fits(seconds, f"a {other}", beside)

    def what(self, values: Values) -> tuple[Kind, str]:
        """Its kind and its noun, as far as they are entered."""
        return values[self.word.kind], values[self.word.class_noun] or ""

    def take_smaller(self, size: int) -> dict:
        """Photos of fewer pixels in the recipe."""
        return {self.form.parts["resolution"]: size, **self.long.hide()}

    def too_long(self, base: str, recipe: Recipe, kind: Kind, noun: str) -> dict | None:
        """What to ask before a run that takes long; None for one that does not."""
        from personalization.training.estimate import quicker

        seconds = foreseen(base, recipe, kind, noun).seconds
        if ON_ZERO or seconds is None or seconds <= LONG:
            return None
        recipe = fitted(loaded(base), recipe, shared=ON_ZERO)  # as the estimate has it
        sooner, elsewhere = quicker(loaded(base), recipe, self.training.purpose)
        others = [f"{title} would take {html.duration(s)}." for title, s in elsewhere.items()]
        return self.long.ask(sentence("This", seconds, others), sooner)

    def begin_all_the_same(self, values: Values) -> dict:
        """The visitor has been told that it takes long."""
        return self.begin(values, told=True)

    def begin_elsewhere(self, values: Values, go: Go) -> dict:
        """Check and make the run, which `go` then has learned."""
        return self.begin(values, told=True, go=go)

    def begin(self, values: Values, *, told: bool = False, go: Go | None = None) -> dict:
        """Check all that the visitor entered; then make the run, and take its first turn.

        told: that it takes long, which is asked first otherwise.
        """
        name = values[self.base]
        about_settings: list[str] = []
        about_photos: list[str] = []
        photos: list[Photo] = []
        recipe: Recipe | None = None
        with collected(about_settings):
            recipe = self.form.recipe(name, values)
        with collected(about_photos):
            photos = page_workspace(values[self.visitor]).photos(values[self.stored.keys])
            check_photos(photos)
            photos = captioned(photos, values[self.photos.captions])
        about_word = self.problems_of_word(values, recipe.learned_embedding if recipe else None)
        above = len(about_photos + about_word)
        started: dict = {}
        if above:
            see = "the note" if above == 1 else f"the {above} notes"
            about_settings.insert(0, f"Not started: see {see} above.")
        elif recipe:
            with collected(about_settings):
                if not told and (asked := self.too_long(name, recipe, *self.what(values))):
                    # What is said above the question is of the same settings as the question.
                    started = {**asked, self.estimate: self.say_estimate(values)}
                else:
                    started = self.start(values, photos, recipe, go)
        warnings: list[str] = []
        with collected(about_settings):
            warnings = photo_problems(photos, self.photos.showing(values).canvas())
        return {
            self.photos.notes: html.problems(about_photos) + html.warnings(warnings),
            self.word.notes: html.problems(about_word),
            self.notes: html.problems(about_settings),
            **self.long.hide(),
            **started,
        }

    def problems_of_word(self, values: Values, learned: LearnedEmbedding | None) -> list[str]:
        """What is wrong with the word, and with what it starts from."""
        class_noun, kind = values[self.word.class_noun], values[self.word.kind]
        errors: list[str] = []
        with collected(errors):
            check_new(loaded(values[self.base]), values[self.word.placeholder_token], learned)
        with collected(errors):
            if learned:
                check_initializer(learned.initializer_token or class_noun)
            check_class_noun(class_noun, needed=kind != "style")
        return errors

    def start(
        self, values: Values, photos: list[Photo], recipe: Recipe, go: Go | None = None
    ) -> dict:
        """Make the run, and ask for its first turn, or have it go. Raises what is wrong."""
        concept = Concept(
            values[self.word.kind],
            values[self.word.placeholder_token],
            values[self.word.class_noun].strip(),
            tuple(photos),
        )
        workspace = page_workspace(values[self.visitor])
        run_queue().check(workspace)
        run = workspace.start_run(loaded(values[self.base]), concept, recipe, shared=ON_ZERO)
        return go(workspace, run) if go else self.run_panel.begin(workspace, run, "learn")

    def rebase(self, visit: Visit, values: Values) -> dict:
        """The form for another base: its crops, its reading of the word, its own recipe."""
        known = set(visit.workspace.photo_keys())
        keys = [key for key in values[self.stored.keys] if key in known]
        form, settings = self.form.rebase(visit.base)
        look = {self.visitor: visit.workspace.id, self.base: visit.base}
        now = {**self.remembered_fields(values), **settings, **look}
        return {
            **form,
            **self.photos.show(self.photos.showing(now), keys),
            **self.read_word(now),
            **self.form.offer(visit.workspace),
            self.estimate: self.say_estimate(now),
            **(self.first_try.for_base(spec_of(visit.base)) if self.first_try else {}),
        }

    def remembered_fields(self, values: Values) -> dict:
        """The fields as the browser has them; one of before there were captions has three."""
        fields = [*values[self.stored.fields], ""][: len(self.fields)]
        return dict(zip(self.fields, fields, strict=True))

    def restore(self, visit: Visit, values: Values) -> dict:
        """What a visitor who comes back finds: photos, word, settings, the newest run."""
        fields = self.remembered_fields(values)
        reply = {**self.rebase(visit, values), **fields}
        base_then, *settings = values[self.stored.settings] or [None]
        if base_then == visit.base:
            recalled = self.form.recall(visit.base, fields[self.word.kind], settings)
            reply |= recalled
            if recalled:
                reply[self.estimate] = self.say_estimate({self.base: visit.base, **reply})
        return {**reply, **self.newest(visit), **self.jobs.find(visit.workspace)}

    def newest(self, visit: Visit) -> dict:
        """The newest run that this tab has taught and that can be shown; nothing without one."""
        for run in visit.runs:
            if (run.recipe.method_name == "textual_inversion") == (self.training is WORD):
                try:
                    return self.run_panel.find(visit, run)
                except (PersonalizationError, OSError) as error:
                    # A damaged run, which would close the page; an older one is shown.
                    logging.getLogger("app").warning("a damaged run: %s", type(error).__name__)
        return {}

    def follow(self, visit: Visit, values: Values) -> dict:
        """What is left once the visitor has deleted something, or brought it back."""
        known = set(visit.workspace.photo_keys())
        keys = [key for key in values[self.stored.keys] if key in known]
        current = values[self.run_panel.current]
        look = {self.visitor: visit.workspace.id, self.base: visit.base}
        gone = current not in {run.folder.name for run in visit.runs}
        return {
            **self.photos.show(self.photos.showing(values | look), keys),
            **self.form.offer(visit.workspace),
            **((self.newest(visit) or self.run_panel.clear()) if gone else {}),
        }
