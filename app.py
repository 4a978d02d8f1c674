"""The page: teach a word, teach a subject, stack adapters.

Constants, helpers, what runs on the GPU, the two teaching tabs, the stack tab, the endpoints for
programs, the page, main. What learns and draws is in `personalization`, what is said in HTML in
`personalization.page`; here events become updates, and errors sentences beside their field.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import spaces  # before torch: on ZeroGPU it takes the devices' place
from gradio.utils import get_upload_folder
from PIL import Image

from personalization import bases, charts, pace, page
from personalization.adapter import Adapter
from personalization.bases.spec import ASSETS, CATALOG
from personalization.concept import Concept, Kind, check_noun, check_photos, check_token
from personalization.errors import ConceptError, PersonalizationError, PhotoError, WorkspaceError
from personalization.events import Event, Finished, SliceEnded, StepDone
from personalization.generate import MAX_COUNT, Picture, Settings, read_record
from personalization.photos import Photo, open_photos
from personalization.photos import problems as photo_problems
from personalization.recipe import LowRank, Prior, Recipe, Word
from personalization.runs import Run
from personalization.stack import MAX_SLOTS, MAX_WEIGHT, Slot, Stack
from personalization.workspace import Workspace, Workspaces

BASE = CATALOG[os.environ.get("PERSONALIZATION_BASE", "pocket")]
ON_ZERO = spaces.config.Config.zero_gpu
SLICE = int(os.environ.get("PERSONALIZATION_SLICE", "60"))  # seconds of one allocation on ZeroGPU
MARGIN = 10  # of these, to load, to save and to leave
REFRESH = 0.4  # seconds between two updates of a run's panel
WORKSPACES = Workspaces()
KINDS = ["object", "creature", "person", "style"]
# Single tokens in some vocabularies that mean nothing all the same.
RARE = {"sks", "ohwx", "zwx", "shs", "olis", "bnha", "ktn"}
SECRET = "personalization"  # BrowserState wants one; what it keeps is the visitor's own

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Gradio notices a changed State only where the event went through the queue.
QUEUED: dict[str, Any] = {**QUIET, "queue": True, "concurrency_limit": None}
ON_GPU: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}

# A click on one of the buttons inside a piece of HTML, told with the button's key.
PICK = """element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-key]');
    if (button) trigger('click', { key: button.dataset.key });
});"""
CALL_WORD = "(prompt, word) => prompt.includes(word) ? prompt : `${prompt} ${word}`.trim()"
ARRIVED = "() => document.body.classList.add('arrived')"
ASK_FIRST = "(id) => confirm('Delete your photos, runs, adapters and pictures here?') ? id : ''"
START_ANEW = """(id) => {
    if (id) return;
    Object.keys(localStorage).filter((key) => key.startsWith('personalization'))
        .forEach((key) => localStorage.removeItem(key));
    location.reload();
}"""


# Small helpers


def base() -> bases.Base:
    """The base, loaded on the first use."""
    return bases.load(BASE)


def device() -> str:
    """ "cuda", "mps" or "cpu"."""
    return "cuda" if ON_ZERO else bases.best_device().type


def remembered(name: str, value: Any) -> gr.BrowserState:
    """What the visitor's browser keeps over a reload."""
    return gr.BrowserState(value, storage_key=f"personalization-{name}", secret=SECRET)


def pieces_of(text: str) -> list[str]:
    """How the base reads a text today: its tokens, without their end-of-word mark."""
    tokenizer = base().text_encoders[0].tokenizer
    return [piece.removesuffix("</w>") for piece in tokenizer.tokenize(text)]


def check_new(token: str) -> None:
    """Refuse a word that the base knows already. Raises `ConceptError`."""
    check_token(token)
    if len(pieces_of(token)) == 1 and token.lower() not in RARE:
        raise ConceptError(
            f"The base knows the word “{token}” already, and would lose what it means now. "
            f"Choose one that means nothing yet, such as <my-{token[:12]}> or sks.",
            field="token",
        )


def check_start(noun: str, *, is_word: bool, kind: Kind) -> None:
    """Refuse nothing to start from where something is needed. Raises `ConceptError`."""
    if is_word and not noun.strip():
        raise ConceptError(
            "There is no word to start from. Name what the photos show, such as dog or painting.",
            field="noun",
        )
    check_noun(noun, needed=kind != "style")


def in_words(error: BaseException) -> str:
    """An error as a sentence; one that nobody foresaw by its name, with the rest in the log."""
    if isinstance(error, PersonalizationError):
        return str(error)
    if isinstance(error, gr.Error):  # ZeroGPU's scheduler, or `told` in its worker
        return str(error.message)
    logging.getLogger("app").error("unforeseen", exc_info=error)
    return (
        f"Something went wrong that the app did not foresee ({type(error).__name__}). "
        "What was saved is kept: continue, or start again."
    )


@contextmanager
def collected(sentences: list[str]) -> Iterator[None]:
    """What is wrong, added to the others that are."""
    try:
        yield
    except PersonalizationError as error:
        sentences.append(str(error))


@contextmanager
def raised() -> Iterator[None]:
    """What is wrong, as the error that a program calling an endpoint gets."""
    try:
        yield
    except PersonalizationError as error:
        raise gr.Error(str(error), print_exception=False) from error


def workspace_of(session: str) -> Workspace:
    """The caller's workspace, or a new one."""
    return WORKSPACES.open(session) if session else WORKSPACES.new()


def handed_out(path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves: it serves nothing of the workspaces."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(parents=True)
    return shutil.copyfile(path, folder / (name or path.name)).as_posix()


def handed_out_pictures(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Pictures with their records inside, and their prompts as captions."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    return [
        (str(p.save(folder / f"picture-{i}-seed-{p.record['seed']}.png")), p.record["prompt"])
        for i, p in enumerate(pictures)
    ]


def take_uploads(paths: Sequence[str] | None) -> tuple[list[Photo], list[PhotoError]]:
    """Read uploaded photos, and delete the uploads: Gradio serves what lies in its folder."""
    photos, errors = open_photos(Path(path) for path in paths or ())
    uploads = Path(get_upload_folder()).resolve()
    for path in map(Path, paths or ()):
        if uploads in path.resolve().parents:
            path.unlink(missing_ok=True)
    return photos, errors


def example_sets(purpose: str) -> list[tuple[str, str, list[Path], dict[str, Any]]]:
    """(key, title, photos, what it fills in): the folders in assets/examples."""
    sets = []
    for folder in sorted((ASSETS / "examples").glob("*/")):
        about = json.loads((folder / "example.json").read_text())
        if purpose in about["tabs"]:
            sets.append((folder.name, about["title"], sorted(folder.glob("[0-9]*.png")), about))
    return sets


# What runs on the GPU, and nothing else does


@contextmanager
def told() -> Iterator[None]:
    """A sentence leaves ZeroGPU's worker only as a `gr.Error`."""
    try:
        yield
    except PersonalizationError as error:
        if ON_ZERO:
            raise gr.Error(str(error)) from error
        raise


@spaces.GPU(duration=lambda folder, seconds: (seconds or SLICE - MARGIN) + MARGIN)
def gpu_train(folder: Path, seconds: int | None) -> Iterator[Event]:
    """One slice of a run."""
    from personalization.training import train

    with told():
        yield from train(base(), Run.open(folder), seconds=seconds, cache=WORKSPACES.root / "cache")


@spaces.GPU(duration=30)
def gpu_finish(folder: Path) -> Finished:
    """An adapter of a run's last checkpoint."""
    from personalization.training import finish

    with told():
        return finish(base(), Run.open(folder))


@spaces.GPU(duration=30)
def gpu_draw(
    stack: Stack,
    settings: Sequence[Settings],
    records: Sequence[dict[str, Any]],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures with a stack; `records` say which adapters it holds."""
    from personalization.generate import draw
    from personalization.stack import applied

    with told(), applied(base(), stack):
        drawn = [draw(base(), s, image=image, mask=mask, adapters=records) for s in settings]
        return [picture for pictures in drawn for picture in pictures]


@spaces.GPU(duration=60)
def gpu_sweep(stack: Stack, settings: Settings) -> Image.Image:
    """The same picture at several strengths of the first adapter."""
    from personalization.sweep import sweep

    with told():
        return sweep(base(), stack, settings).image()


# Runs and stacks, between the tabs and the GPU

Named = tuple[str, Adapter, float]  # its name in the library, the adapter, its weight


def stack_of(adapters: Sequence[Named]) -> Stack:
    """Checked before any GPU time."""
    return Stack(tuple(Slot(adapter, weight) for _, adapter, weight in adapters)).check(BASE)


def draw_stack(
    adapters: Sequence[Named],
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures, each with the record of what drew it."""
    records = [
        {"name": name, "title": a.description.title, "trigger": a.description.trigger}
        | {"weight": weight, "sha256": a.sha256}
        for name, a, weight in adapters
    ]
    return gpu_draw(stack_of(adapters), [each.check() for each in settings], records, image, mask)


def start_run(
    workspace: Workspace, photos: Sequence[Photo], kind: Kind, token: str, noun: str, recipe: Recipe
) -> Run:
    """Check everything, then make the run's folder. Raises what is wrong."""
    check_photos(photos)
    check_new(token)
    check_start(noun, is_word=isinstance(recipe.method, Word), kind=kind)
    concept = Concept(kind, token, noun.strip(), tuple(photos))
    folder = workspace.new_run_folder(concept.name)
    return Run.create(folder, concept, recipe.check(), BASE.name)


def train_slice(run: Run) -> Iterator[Event]:
    """One slice, as long as its machine allows."""
    left = pace.seconds(run.recipe, device()) * (1 - run.state.step / run.recipe.steps)
    yield from gpu_train(
        run.folder, min(SLICE - MARGIN, round(1.3 * left) + 10) if ON_ZERO else None
    )


def keep_adapter(workspace: Workspace, run: Run, done: Finished) -> None:
    """Into the library, where the stack finds it."""
    workspace.library.add(done.adapter, run.concept.name)


def own_adapter(run: Run) -> Named:
    """What a finished run has learned, at its recommended strength."""
    from personalization.adapter import read

    adapter = read(run.adapter_path)
    return run.folder.name, adapter, adapter.description.strength


def showcase(run: Run) -> list[str]:
    """The prompts that a finished run shows itself with."""
    words = page.trigger(run)
    if run.concept.kind == "style":
        things = ("a cat", "a house on the beach", "a mug", "a bird in the forest")
        return [f"{thing}, {words} style" for thing in things]
    frames = ("a photo of {}", "a photo of {} in the snow", "{} on the moon", "a sketch of {}")
    return [frame.format(words) for frame in frames]


def show_off(run: Run) -> list[Picture]:
    """Draw a finished run's showcase, and keep it in the run's folder."""
    settings = [Settings(prompt, seed=run.recipe.seed) for prompt in showcase(run)]
    pictures = draw_stack([own_adapter(run)], settings)
    for index, picture in enumerate(pictures):
        picture.save(run.folder / "pictures" / f"{index}.png")
    return pictures


# The two teaching tabs


@dataclass(frozen=True)
class Lesson:
    """What the two teaching tabs do not share."""

    purpose: Literal["word", "subject"]
    title: str
    promise: str
    token: str
    noun: tuple[str, str, str]  # label, help, placeholder
    method: str

    @property
    def recipe(self) -> Recipe:
        return BASE.recipes[self.purpose]


WORD = Lesson(
    "word",
    "Teach a word",
    "A new entry in the model’s dictionary. No weight changes, and the file is a few kilobytes: "
    "good for a look, a style, or a rough likeness that you want to share.",
    token="<my-word>",
    noun=("Starts from", "The closest word it knows.", "mug, dog, painting …"),
    method="Textual inversion: one new vector is learned, everything else stays as it is.",
)
SUBJECT = Lesson(
    "subject",
    "Teach a subject",
    "A thin layer over the model’s weights binds a rare word to this one subject, while its class "
    "stays what it was: the closest likeness, in a small file that stacks with others.",
    token="sks",
    noun=("It is a …", "What anyone would call it.", "dog, mug, robot …"),
    method="DreamBooth with a LoRA: the model learns your photos, and its own pictures of the "
    "class keep the class as it was.",
)

# The advanced settings that are numbers: label, help, digits after the point (None: any).
NUMBERS: dict[str, tuple[str, str, int | None]] = {
    "steps": ("Steps", "More: closer, then a copy.", 0),
    "rate": ("Learning rate", "Too high breaks it.", None),
    "vectors": ("Vectors", "More hold more detail.", 0),
    "rank": ("Rank", "Capacity, and file size.", 0),
    "alpha": ("Alpha", "Scale: alpha / rank.", None),
    "text_rate": ("Text learning rate", "Of the text encoder.", None),
    "prior_weight": ("Prior weight", "How much the class counts.", None),
    "images": ("Class images", "Drawn once, then kept.", 0),
    "batch": ("Batch", "Photos in a step.", 0),
    "every": ("Previews", "Steps from one to the next.", 0),
    "seed": ("Seed", "The same seed, the same run.", 0),
}


class TeachTab:
    """Photos, a word, a method; then a run, and what came of it."""

    def __init__(self, lesson: Lesson, *kept: gr.BrowserState):
        self.lesson, self.prefix = lesson, lesson.purpose
        self.visitor, self.keys, self.fields = kept
        self.current = gr.State("")  # the run in the panel
        self.turn = gr.State(None)  # what to do with it next: each change is a request of its own
        gr.HTML(f'<p class="promise">{lesson.promise}</p>')
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_form()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.build_panel()
        self.wire()

    def build_form(self) -> None:
        lesson, prefix = self.lesson, self.prefix
        noun_label, noun_help, noun_hint = lesson.noun
        gr.HTML(page.section(1, "Photos", "Three to five of the same thing, in different places."))
        self.crops = gr.HTML(js_on_load=PICK, elem_id=f"{prefix}-crops")
        self.drop = gr.File(
            show_label=False,
            file_count="multiple",
            height=84,
            elem_id=f"{prefix}-photos",
            elem_classes="drop",
        )
        self.photo_notes = gr.HTML(elem_id=f"{prefix}-photo-notes")
        sets = page.example_sets(each[:3] for each in example_sets(prefix))
        self.examples = gr.HTML(sets, js_on_load=PICK, elem_id=f"{prefix}-examples")
        gr.HTML(page.section(2, "The word"))
        with gr.Row():
            self.token = gr.Textbox(
                lesson.token,
                label="New word",
                info="Means nothing yet.",
                max_lines=1,
                min_width=140,
                elem_id=f"{prefix}-token",
            )
            self.noun = gr.Textbox(
                label=noun_label,
                info=noun_help,
                placeholder=noun_hint,
                max_lines=1,
                min_width=140,
                elem_id="word-initial" if lesson is WORD else "subject-noun",
            )
        self.kind = gr.Radio(KINDS, value="object", label="Kind", elem_id=f"{prefix}-kind")
        self.chips = gr.HTML(elem_id=f"{prefix}-chips")
        self.word_notes = gr.HTML(elem_id=f"{prefix}-word-notes")
        gr.HTML(page.section(3, "Teach", lesson.method))
        with gr.Accordion("Advanced", open=False, elem_id=f"{prefix}-advanced"):
            self.settings = self.build_settings()
        self.setting_notes = gr.HTML(elem_id=f"{prefix}-setting-notes")
        self.teach = gr.Button("Teach", variant="primary", elem_id=f"teach-{prefix}-button")
        self.estimate = gr.HTML(elem_id=f"{prefix}-estimate")

    def build_settings(self) -> dict[str, Any]:
        """Every choice of a recipe, in the field's terms, with a line of help each."""
        recipe, method = self.lesson.recipe, self.lesson.recipe.method
        parts: dict[str, Any] = {}

        def numbers(**values: float) -> None:
            with gr.Row():
                for name, value in values.items():
                    label, info, digits = NUMBERS[name]
                    parts[name] = gr.Number(
                        value, label=label, info=info, precision=digits, min_width=120
                    )

        numbers(steps=recipe.steps, rate=method.learning_rate)
        if isinstance(method, LowRank):
            prior = recipe.prior or Prior()
            parts["method"] = gr.Radio(
                [("LoRA", "lora"), ("LoHa", "loha"), ("LoKr", "lokr"), ("DoRA", "dora")],
                value=method.kind,
                label="Method",
                info="LoRA is the common one, LoKr the smallest, DoRA slower and closer.",
            )
            numbers(rank=method.rank, alpha=method.alpha)
            parts["prior"] = gr.Radio(
                [("class images", "images"), ("adapter off", "adapter_off"), ("none", "none")],
                value=prior.kind,
                label="Prior preservation",
                info="What keeps the class: its own pictures, or the base itself as the teacher.",
            )
            numbers(prior_weight=prior.weight, images=prior.images)
            parts["text"] = gr.Checkbox(
                method.text_encoder,
                label="Text encoder too",
                info="Learns the word faster, and leaks more.",
            )
            numbers(text_rate=method.text_learning_rate, batch=recipe.batch_size)
        else:
            numbers(vectors=1, batch=recipe.batch_size)
        numbers(every=recipe.preview_every, seed=recipe.seed)
        parts["flip"] = gr.Checkbox(
            recipe.flip,
            label="Mirrored photos too",
            info="Not for faces, words, or anything with a left and a right.",
        )
        return parts

    def build_panel(self) -> None:
        prefix = self.prefix
        self.intro = gr.HTML(page.intro(prefix), elem_id=f"{prefix}-intro")
        self.status = gr.HTML(visible=False, elem_id=f"{prefix}-status")
        with gr.Row(elem_classes="actions"):
            self.cancel = gr.Button("Cancel", visible=False, elem_id=f"{prefix}-cancel")
            self.resume = gr.Button(
                "Continue", variant="primary", visible=False, elem_id=f"{prefix}-continue"
            )
            self.keep = gr.Button("Take it as it is", visible=False, elem_id=f"{prefix}-keep")
        with gr.Column(visible=False, elem_id=f"{prefix}-result") as self.result:
            self.verdict = gr.HTML(elem_id=f"{prefix}-verdict")
            self.gallery = gallery(f"{prefix}-gallery")
            with gr.Row(elem_classes="ask"):
                self.prompt = gr.Textbox(
                    placeholder="Try it: a prompt with the word in it",
                    container=False,
                    max_lines=2,
                    scale=5,
                    min_width=180,
                    elem_id=f"{prefix}-prompt",
                )
                self.draw = gr.Button("Draw", scale=1, min_width=90, elem_id=f"{prefix}-draw")
            self.draw_notes = gr.HTML(elem_id=f"{prefix}-draw-notes")
            with gr.Row():
                self.download = gr.DownloadButton(min_width=150, elem_id=f"{prefix}-download")
                self.send = gr.Button("Use in a stack", min_width=150, elem_id=f"{prefix}-send")
        self.curve = gr.HTML(visible=False, elem_id=f"{prefix}-curve")
        self.strip = gr.HTML(visible=False, elem_id=f"{prefix}-strip")

    def wire(self) -> None:
        visitor, keys = self.visitor, self.keys
        word: list[Any] = [self.token, self.noun, self.kind]
        settings = list(self.settings.values())
        photos = [visitor, keys, self.crops, self.photo_notes]
        notes = [self.photo_notes, self.word_notes, self.setting_notes]
        said = [self.chips, self.word_notes, self.fields]
        latest: dict[str, Any] = {"trigger_mode": "always_last", **QUIET}
        self.panel = [
            *(self.current, self.turn, self.teach, self.intro, self.status, self.cancel),
            *(self.resume, self.keep, self.result, self.verdict, self.gallery, self.prompt),
            *(self.download, self.curve, self.strip, self.draw_notes),
        ]
        self.everything = [*photos[1:], *word, *said, self.estimate, *self.panel]
        self.drop.upload(self.add_photos, [visitor, keys, self.drop], [*photos, self.drop], **QUIET)
        self.crops.click(self.remove_photo, [visitor, keys], photos, **QUIET)
        self.examples.click(self.pick_example, visitor, [*photos, *word], **QUIET)
        gr.on([field.change for field in word], self.read_word, word, said, **latest)
        gr.on([s.change for s in settings], self.say_estimate, settings, self.estimate, **latest)
        begin = [visitor, keys, *word, *settings]
        self.teach.click(self.begin, begin, [*notes, *self.panel], **QUEUED)
        advance: dict[str, Any] = {**QUEUED, **ON_GPU, "trigger_mode": "multiple"}
        self.turn.change(self.advance, [visitor, self.turn], self.panel, **advance)
        run = [visitor, self.current]
        self.cancel.click(self.stop, run, self.cancel, **QUIET)
        self.resume.click(self.carry_on, run, self.panel, **QUEUED)
        self.keep.click(self.finish, run, self.panel, **QUEUED)
        gr.on(
            [self.draw.click, self.prompt.submit],
            self.try_prompt,
            [*run, self.prompt, self.gallery],
            [self.gallery, self.draw_notes],
            api_visibility="private",
            **ON_GPU,
        )

    # Photos

    def show_photos(self, visitor: str, keys: list[str], errors: Sequence[str] = ()) -> dict:
        """The crops of these photos, and what is wrong with them."""
        try:
            photos = WORKSPACES.open(visitor).photos(keys)
        except WorkspaceError as error:
            return {self.photo_notes: page.problems([*errors, str(error)])}
        notes = page.problems(errors) + page.warnings(photo_problems(photos, BASE.size))
        crops = page.crops(list(zip(keys, photos, strict=True)), BASE.size)
        return {
            self.visitor: visitor,
            self.keys: keys,
            self.crops: crops,
            self.photo_notes: notes,
        }

    def add_photos(self, visitor: str, keys: list[str], uploads: list[str]) -> dict:
        """Uploads become photos of the workspace; a broken one is named, the others are kept."""
        photos, broken = take_uploads(uploads)
        errors = [str(error) for error in broken]
        with collected(errors):
            workspace = workspace_of(visitor)
            visitor, keys = workspace.id, [*keys, *workspace.save_photos(photos)]
        return {**self.show_photos(visitor, list(dict.fromkeys(keys)), errors), self.drop: None}

    def remove_photo(self, visitor: str, keys: list[str], event: gr.EventData) -> dict:
        """Take one photo out."""
        return self.show_photos(visitor, [key for key in keys if key != event.key])

    def pick_example(self, visitor: str, event: gr.EventData) -> dict:
        """An example set in place of the photos that are there, with its word and noun."""
        _, _, paths, about = next(s for s in example_sets(self.prefix) if s[0] == event.key)
        errors: list[str] = []
        keys: list[str] = []
        with collected(errors):
            workspace = workspace_of(visitor)
            visitor, keys = workspace.id, workspace.save_photos(open_photos(paths)[0])
        word = {self.token: about["token"][self.prefix], self.noun: about["noun"]}
        return {**self.show_photos(visitor, keys, errors), **word, self.kind: about["kind"]}

    # The word and the recipe

    def read_word(self, token: str, noun: str, kind: Kind) -> dict:
        """How the base reads the word, as it is typed."""
        errors: list[str] = []
        with collected(errors):
            if token:
                check_new(token)
        start = pieces_of(noun)
        unknown = (
            f"The base does not know “{noun}” and reads it in {len(start)} pieces: "
            "a simpler word works better."
        )
        warnings = [unknown] if len(start) > len(noun.split()) else []
        return {
            self.chips: page.word_chips(token, pieces_of(token), start, self.lesson is WORD),
            self.word_notes: page.problems(errors) + page.warnings(warnings),
            self.fields: [token, noun, kind],
        }

    def recipe(self, values: Sequence[Any]) -> Recipe:
        """The recipe that the advanced settings say. Raises `RecipeError`."""
        got = dict(zip(self.settings, values, strict=True))
        # An emptied number falls back to the recipe's own.
        got = {n: self.settings[n].value if v is None else v for n, v in got.items()}
        prior = None
        if self.lesson is WORD:
            method: Word | LowRank = Word(got["vectors"], learning_rate=got["rate"])
        else:
            method = LowRank(
                got["method"],
                got["rank"],
                got["alpha"],
                text_encoder=got["text"],
                learning_rate=got["rate"],
                text_learning_rate=got["text_rate"],
            )
            if got["prior"] != "none":
                prior = Prior(got["prior"], got["prior_weight"], got["images"])
        return self.lesson.recipe.changed(
            method=method,
            prior=prior,
            steps=got["steps"],
            batch_size=got["batch"],
            preview_every=got["every"],
            flip=got["flip"],
            seed=got["seed"],
        )

    def say_estimate(self, *values: Any) -> str:
        """What the run will take, and leave."""
        try:
            recipe = self.recipe(values)
        except PersonalizationError as error:
            return page.problems([str(error)])
        size = pace.size(recipe, base())
        file = f", a file of {charts.size_words(size)}" if size else ""
        time_words = page.duration(pace.seconds(recipe, device()))
        return f'<p class="hint">{time_words} here{file}</p>'

    # The run

    def begin(
        self, visitor: str, keys: list[str], token: str, noun: str, kind: Kind, *values: Any
    ) -> dict:
        """Check all that the visitor entered; then make the run, and take its first turn."""
        about_photos: list[str] = []
        about_word: list[str] = []
        about_settings: list[str] = []
        photos: list[Photo] = []
        with collected(about_settings):
            recipe = self.recipe(values)
        with collected(about_word):
            check_new(token)
        with collected(about_word):
            check_start(noun, is_word=self.lesson is WORD, kind=kind)
        with collected(about_photos):
            workspace = WORKSPACES.open(visitor)
            photos = workspace.photos(keys)
            check_photos(photos)
        above = len(about_photos + about_word)
        started: dict = {}
        if above:
            see = "the note" if above == 1 else f"the {above} notes"
            about_settings.insert(0, f"Not started: see {see} above.")
        elif not about_settings:
            with collected(about_settings):
                run = start_run(workspace, photos, kind, token, noun, recipe)
                started = self.next_turn(run, "learn")
        warnings = page.warnings(photo_problems(photos, BASE.size))
        return {
            self.photo_notes: page.problems(about_photos) + warnings,
            self.word_notes: page.problems(about_word),
            self.setting_notes: page.problems(about_settings),
            **started,
        }

    def next_turn(self, run: Run, what: Literal["learn", "finish", "show"]) -> dict:
        """Ask the browser for a new request, so that the visitor's identity in it is fresh."""
        view = page.RunView.of(run)
        view.phase = "waiting" if what == "learn" else "drawing"
        turn = {"run": run.folder.name, "do": what, "at": time.time()}
        return {self.turn: turn, self.current: run.folder.name, **self.show(view)}

    def show(self, view: page.RunView) -> dict:
        """The whole panel."""
        over = view.phase in ("stopped", "failed")
        busy = view.phase in ("waiting", "preparing", "learning")
        done = view.phase == "finished"
        return {
            self.intro: gr.update(visible=False),
            self.status: gr.update(value=page.status(view), visible=not done),
            self.curve: gr.update(value=page.curve(view), visible=bool(view.rows)),
            self.strip: gr.update(value=page.strip(view), visible=bool(view.previews)),
            self.teach: gr.update(interactive=done or over),
            self.cancel: gr.update(value="Cancel", interactive=True, visible=busy),
            self.resume: gr.update(visible=over),
            self.keep: gr.update(visible=over and view.step > 0),
            self.result: gr.update(visible=done),
        }

    def advance(self, visitor: str, turn: dict[str, Any] | None) -> Iterator[dict]:
        """One request's share of a run: a slice of learning, or the pictures at its end."""
        if not turn:  # a tab that is opened for the first time says so; no yield would blank it
            yield {self.status: gr.skip()}
            return
        view = page.RunView("the word", 1)
        try:
            workspace = WORKSPACES.open(visitor)
            run = Run.open(workspace.run_folder(turn["run"]))
            view = page.RunView.of(run)
            if turn["do"] == "learn":
                yield from self.learn(workspace, run, view)
            elif turn["do"] == "finish":
                keep_adapter(workspace, run, gpu_finish(run.folder))
                yield self.next_turn(run, "show")
            else:
                show_off(run)
                yield self.show_result(run)
        except Exception as error:
            view.phase, view.error = "failed", in_words(error)
            yield self.show(view)

    def learn(self, workspace: Workspace, run: Run, view: page.RunView) -> Iterator[dict]:
        """Translate one slice's events into updates, a few a second."""
        if run.stop_requested:  # while it waited in the queue
            yield self.show(view)
            return
        pending: set[page.Part] = set()
        shown = 0.0
        for event in train_slice(run):
            phase = view.phase
            pending |= view.take(event)
            due = not isinstance(event, StepDone) or time.monotonic() - shown > REFRESH
            if isinstance(event, SliceEnded):
                yield self.show(view) if run.stop_requested else self.next_turn(run, "learn")
            elif isinstance(event, Finished):
                keep_adapter(workspace, run, event)
                yield self.next_turn(run, "show")
            elif view.phase != phase:
                yield self.show(view)
                pending.clear()
            elif pending and due:
                parts = {"status": self.status, "curve": self.curve, "strip": self.strip}
                drawn = page.drawn(view, pending)
                yield {parts[p]: gr.update(value=html, visible=True) for p, html in drawn.items()}
                pending.clear()
                shown = time.monotonic()

    def run(self, visitor: str, current: str) -> Run:
        return Run.open(WORKSPACES.open(visitor).run_folder(current))

    def stop(self, visitor: str, current: str) -> dict:
        """Ask the run to end after the step at hand; its slice says the rest."""
        self.run(visitor, current).stop()
        return {self.cancel: gr.update(value="Stopping…", interactive=False)}

    def carry_on(self, visitor: str, current: str) -> dict:
        """Continue a run that was stopped."""
        run = self.run(visitor, current)
        run.clear_stop()
        return self.next_turn(run, "learn")

    def finish(self, visitor: str, current: str) -> dict:
        """Take what a stopped run has learned so far."""
        return self.next_turn(self.run(visitor, current), "finish")

    def show_result(self, run: Run) -> dict:
        """The verdict, the pictures, the file."""
        view = page.RunView.of(run)
        view.phase = "finished"
        size = run.adapter_path.stat().st_size
        paths = sorted((run.folder / "pictures").glob("*.png"))
        pictures = [(handed_out(p), said) for p, said in zip(paths, showcase(run), strict=False)]
        name = run.folder.name.split("-", 3)[-1] + ".safetensors"
        return {
            **self.show(view),
            self.current: run.folder.name,
            self.verdict: page.verdict(run, size),
            self.gallery: gr.update(value=pictures, selected_index=None),
            self.prompt: showcase(run)[0] + ", on the beach",
            self.download: gr.update(
                value=handed_out(run.adapter_path, name),
                label=f"Download ({charts.size_words(size)})",
            ),
            self.draw_notes: "",
        }

    def try_prompt(
        self, visitor: str, current: str, prompt: str, shown: list[tuple[str, str]] | None
    ) -> dict:
        """One more picture with what was just learned, in front of the others."""
        try:
            run = self.run(visitor, current)
            settings = Settings(prompt, seed=secrets.randbelow(2**32))
            pictures = handed_out_pictures(draw_stack([own_adapter(run)], [settings]))
        except (PersonalizationError, gr.Error) as error:
            return {self.draw_notes: page.problems([in_words(error)])}
        notes = page.warnings(page.uncalled(prompt, [page.trigger(run)]))
        return {self.gallery: pictures + (shown or []), self.draw_notes: notes}

    def restore(self, workspace: Workspace, keys: list[str], fields: list[Any]) -> dict:
        """What a visitor who comes back finds: photos, word, the newest run."""
        known = set(workspace.photo_keys())
        reply = self.show_photos(workspace.id, [key for key in keys if key in known])
        reply |= dict(zip((self.token, self.noun, self.kind), fields, strict=True))
        reply |= self.read_word(*fields)
        reply[self.estimate] = self.say_estimate(*(part.value for part in self.settings.values()))
        for run in map(Run.open, workspace.runs()):
            if (run.recipe.method_name == "word") == (self.lesson is WORD):
                shown = (run.folder / "pictures" / "0.png").exists()
                show = self.show_result(run) if shown else self.show(page.RunView.of(run))
                return {**reply, **show, self.current: run.folder.name}
        return reply


def gallery(elem_id: str, *, visible: bool = True) -> gr.Gallery:
    """Pictures side by side; their captions are for the enlarged view."""
    return gr.Gallery(
        show_label=False,
        columns=4,
        height="auto",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        interactive=False,
        visible=visible,
        elem_id=elem_id,
        elem_classes="pictures",
    )


# The stack


class StackTab:
    """A rack of adapters, each with its weight; a prompt; pictures."""

    def __init__(self, visitor: gr.BrowserState, rack: gr.BrowserState):
        self.visitor = visitor
        self.rack = rack  # [name in the library, weight] of each row
        self.records = gr.State([])
        gr.HTML(page.STACK_PROMISE)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_rack()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.build_easel()
        self.wire()

    def build_rack(self) -> None:
        gr.HTML(page.section(1, "Adapters", "0 is none of it, 1 is as it was trained."))
        self.empty = gr.HTML(page.EMPTY_RACK)
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
        sampling = BASE.sampling
        narrow: dict[str, Any] = {"min_width": 140}
        gr.HTML(page.section(2, "Picture"))
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
        gr.HTML(page.RESTORE_HINT)
        self.restored = gr.File(
            show_label=False, height=60, elem_id="stack-restore", elem_classes="drop"
        )

    def wire(self) -> None:
        rack = [self.visitor, self.rack, *self.weights]
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
        chosen = [*rack[:2], self.add, *self.weights]
        self.add.input(self.put, chosen, self.board, preprocess=False, **QUIET)
        self.upload.upload(
            self.take_file, [*rack[:2], self.upload, *self.weights], self.board, **QUIET
        )
        for i, (weight, take, chip) in enumerate(
            zip(self.weights, self.takes, self.chips, strict=True)
        ):
            weight.release(remember, [self.rack, *self.weights], self.rack, **QUIET)
            take.click(self.take_out, [*rack[:2], gr.State(i), *self.weights], self.board, **QUIET)
            chip.click(None, [self.prompt, chip], self.prompt, js=CALL_WORD)
        self.task.change(self.choose_task, self.task, easel, **QUIET)
        given = [*rack[:2], *self.form, self.image, self.editor, *self.weights]
        gr.on([self.draw.click, self.prompt.submit], self.paint, given, shown, **work)
        self.sweep.click(self.paint_sweep, given, shown, **work)
        self.gallery.select(self.say_record, self.records, self.record, **QUIET)
        self.restored.upload(
            self.take_record,
            [self.visitor, self.restored],
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
        choices = [(hint, "")] + [(page.choice(entry), entry.name) for entry in free]
        reply: dict = {
            self.rack: rack,
            self.empty: gr.update(visible=not rack),
            self.add: gr.update(choices=choices, value=""),
            self.rack_notes: page.problems([*errors, *gone]),
        }
        for i in range(MAX_SLOTS):
            on = i < len(rack)
            entry = entries[rack[i][0]] if on else None
            word = entry.description.trigger if entry and entry.description else ""
            reply |= {
                self.rows[i]: gr.update(visible=on),
                self.labels[i]: page.adapter_row(entry) if entry else "",
                self.weights[i]: rack[i][1] if on else 1.0,
                self.chips[i]: gr.update(value=word, visible=bool(word)),
            }
        return reply

    def with_row(self, workspace: Workspace, rack: list, name: str) -> dict:
        """One more row, at its recommended strength. Raises what is wrong with it."""
        entry = workspace.library.entry(name)
        errors = [entry.error] if entry.error else []
        if entry.description:
            stack_of([(name, Adapter(entry.description, {}), 1.0)])
            if name not in dict(rack):
                rack = [*rack, [name, entry.description.strength]]
        if len(rack) > MAX_SLOTS:
            errors.append(f"The rack holds {MAX_SLOTS} adapters. Take one out first.")
        return self.show_rack(workspace, rack[:MAX_SLOTS], errors)

    def put(self, visitor: str, rack: list, name: str, *weights: float) -> dict:
        """An adapter of the library, onto the rack."""
        if not name:  # the line that says what the list is for
            return {self.rack_notes: ""}
        try:
            return self.with_row(WORKSPACES.open(visitor), remember(rack, *weights), name)
        except PersonalizationError as error:
            return {self.rack_notes: page.problems([str(error)])}

    def take_file(self, visitor: str, rack: list, file: str, *weights: float) -> dict:
        """A file from anyone, checked by its header, into the library and onto the rack."""
        from personalization.formats import describe

        try:
            workspace, path = WORKSPACES.open(visitor), Path(file)
            stack_of([(path.stem, Adapter(describe(path), {}), 1.0)])
            entry = workspace.library.add(path, path.stem)
            return self.with_row(workspace, remember(rack, *weights), entry.name)
        except PersonalizationError as error:
            return {self.rack_notes: page.problems([str(error)])}

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

    def paint(self, visitor: str, rack: list, *given: Any) -> dict:
        """Draw with the rack as it stands."""
        try:
            library = WORKSPACES.open(visitor).library
            rows, settings, image, mask = self.asked(rack, *given)
            adapters = [(name, library.get(name), weight) for name, weight in rows]
            pictures = draw_stack(adapters, [settings], image, mask)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: page.problems([in_words(error)])}
        words = [adapter.description.trigger for _, adapter, weight in adapters if weight]
        drawn = handed_out_pictures(pictures)
        return {
            self.gallery: gr.update(value=drawn, visible=True, selected_index=None),
            self.sheet: gr.update(visible=False),
            self.records: [picture.record for picture in pictures],
            self.record: page.record(pictures[0].record),
            self.notes: page.warnings(page.uncalled(settings.prompt, words)),
            self.seed: settings.seed,
        }

    def paint_sweep(self, visitor: str, rack: list, *given: Any) -> dict:
        """The same picture at five strengths of the first adapter, side by side."""
        try:
            library = WORKSPACES.open(visitor).library
            rows, settings, _, _ = self.asked(rack, *given)
            stack = stack_of([(name, library.get(name), weight) for name, weight in rows])
            sheet = gpu_sweep(stack, replace(settings, task="text").check())
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: page.problems([in_words(error)])}
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
        return page.record(records[event.index]) if event.index < len(records) else ""

    def take_record(self, visitor: str, file: str) -> dict:
        """The form as it was when this picture was drawn."""
        record = read_record(Path(file))
        Path(file).unlink(missing_ok=True)
        if record is None:
            return {self.notes: page.problems([page.NO_RECORD]), self.restored: None}
        rack = [[a.get("name", "?"), a.get("weight", 1.0)] for a in record.get("adapters", [])]
        return {
            **self.show_rack(WORKSPACES.open(visitor), rack[:MAX_SLOTS]),
            self.prompt: record.get("prompt", ""),
            self.negative: record.get("negative", ""),
            self.seed: record.get("seed", 0),
            self.vary: False,
            self.count: 1,
            self.steps: record.get("steps", BASE.sampling.steps),
            self.guidance: record.get("guidance", BASE.sampling.guidance),
            self.task: record.get("task", "text"),
            self.strength: record.get("strength", 0.6),
            self.notes: "",
            self.restored: None,
        }

    def restore(self, workspace: Workspace, rack: list, *, fresh: bool) -> dict:
        """The rack as it was left; a new visitor finds two ready adapters on it."""
        if not fresh:
            return self.show_rack(workspace, rack)
        entries = workspace.library.list()
        ready = {e.name: e.description for e in entries if not e.own and e.description}
        rows = [[name, about.strength] for name, about in list(ready.items())[:2]]
        words = [about.trigger for about in list(ready.values())[:2]]
        prompt = f"a photo of {' '.join(words)}" if words else "a photo of a dog on the beach"
        return {**self.show_rack(workspace, rows), self.prompt: prompt}


def remember(rack: list, *weights: float) -> list:
    """The rack with its sliders as they are now."""
    return [[name, weight] for (name, _), weight in zip(rack, weights, strict=False)]


def painted(editor: dict[str, Any] | None) -> Image.Image | None:
    """What was brushed over, white on black."""
    layers = (editor or {}).get("layers")
    return (
        layers[0].getchannel("A").point(lambda alpha: 255 if alpha > 16 else 0) if layers else None
    )


# For programs

Taught = tuple[dict[str, Any], str | None, list[tuple[str, str]] | None]


def teach(
    recipe: Recipe, photos: list[str], word: tuple[str, str, Kind], session: str
) -> Iterator[Taught]:
    """A whole run in one call, slice after slice."""
    workspace = workspace_of(session)
    taken, errors = take_uploads(photos)
    if errors and not taken:
        raise errors[0]
    token, noun, kind = word
    run = start_run(workspace, taken, kind, token, noun, recipe)
    status: dict[str, Any] = {
        "session": workspace.id,
        "run": run.folder.name,
        "state": "waiting",
        "notes": [str(error) for error in errors] + photo_problems(taken, BASE.size),
    }
    yield status, None, None
    done: Finished | None = None
    while done is None:
        for event in train_slice(run):
            if isinstance(event, StepDone):
                status |= {"state": "learning", "step": event.step, "steps": event.steps}
                status |= {"loss": event.loss, "seconds_left": event.seconds_left}
                yield status, None, None
            elif isinstance(event, Finished):
                done = event
    keep_adapter(workspace, run, done)
    pictures = handed_out_pictures(show_off(run))
    status |= {"state": "finished", "seconds": done.seconds, "trigger": page.trigger(run)}
    yield status, handed_out(run.adapter_path), pictures


def teach_word(
    photos: list[str],
    token: str,
    initial: str,
    kind: Kind = "object",
    steps: int | None = None,
    seed: int = 0,
    session: str = "",
) -> Iterator[Taught]:
    """Teach the base a new word from a few photos (textual inversion), and stream the progress.

    Args:
        photos: three to five pictures of the same thing or look.
        token: the new word, such as <my-mug>; it must not mean anything yet.
        initial: the closest word that the base knows, such as mug.
        kind: object, creature, person or style.
        steps: optimizer steps; nothing for the recipe's own.
        seed: the same seed and photos give the same word.
        session: what an earlier call returned as "session", to keep what it made; empty for new.

    Returns:
        The status (session, run, state, step, steps, loss, seconds_left, trigger), and at the end
        the adapter's file and pictures drawn with the word.
    """
    with raised():
        recipe = WORD.recipe.changed(steps=steps or WORD.recipe.steps, seed=seed)
        yield from teach(recipe, photos, (token, initial, kind), session)


def teach_subject(
    photos: list[str],
    token: str,
    noun: str,
    kind: Kind = "object",
    steps: int | None = None,
    seed: int = 0,
    session: str = "",
) -> Iterator[Taught]:
    """Teach the base a subject (DreamBooth with a LoRA and prior preservation), with progress.

    Args:
        photos: three to five pictures of the same subject.
        token: a rare word that will stand for it, such as sks.
        noun: its class, such as dog.
        kind: object, creature, person or style.
        steps: optimizer steps; nothing for the recipe's own.
        seed: the same seed and photos give the same adapter.
        session: what an earlier call returned as "session", to keep what it made; empty for new.

    Returns:
        The status (session, run, state, step, steps, loss, seconds_left, trigger), and at the end
        the adapter's file and pictures drawn with the subject.
    """
    with raised():
        recipe = SUBJECT.recipe.changed(steps=steps or SUBJECT.recipe.steps, seed=seed)
        yield from teach(recipe, photos, (token, noun, kind), session)


def draw_with_stack(
    adapters: list[dict[str, Any]],
    prompt: str,
    negative: str = "",
    seed: int = 0,
    count: int = 1,
    steps: int | None = None,
    guidance: float | None = None,
    session: str = "",
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Draw with several adapters at once, each with its weight.

    Args:
        adapters: a list of {"name": as /list_adapters says, "weight": -2 to 2}; may be empty.
        prompt: what to draw, with the adapters' words in it.
        negative: what should not be there.
        seed: of the first picture; the next has the next.
        count: how many pictures.
        steps: of the sampler; nothing for the base's own.
        guidance: how strictly to keep to the prompt; nothing for the base's own.
        session: what /teach_word or /teach_subject returned, to find what they made.

    Returns:
        The pictures, and the record of each: base, adapters with hashes and weights, settings.
    """
    with raised():
        library = workspace_of(session).library
        named = [
            (str(each["name"]), library.get(str(each["name"])), float(each.get("weight", 1.0)))
            for each in adapters
        ]
        settings = Settings(prompt, negative, seed, count, steps or None, guidance)
        pictures = draw_stack(named, [settings])
    return handed_out_pictures(pictures), [picture.record for picture in pictures]


def read_token(token: str) -> dict[str, Any]:
    """Say how the base reads a word, and whether it can be taught.

    Args:
        token: the word.

    Returns:
        "pieces", what it is read as today; "error", a sentence, empty where it can be taught.
    """
    errors: list[str] = []
    with collected(errors):
        check_new(token)
    return {"pieces": pieces_of(token), "error": " ".join(errors)}


def list_adapters(session: str = "") -> list[dict[str, Any]]:
    """List the adapters that /draw_stack can use: the ready ones, and the session's own.

    Args:
        session: what /teach_word or /teach_subject returned; empty for the ready ones alone.

    Returns:
        For each its name, title, trigger word, method, recommended strength and size in bytes.
    """
    with raised():
        entries = workspace_of(session).library.list()
    said = ("title", "trigger", "method", "strength")
    return [
        {"name": entry.name, "size": entry.size, "own": entry.own}
        | {name: getattr(entry.description, name) for name in said}
        for entry in entries
        if entry.description
    ]


def build_endpoints() -> None:
    """The named endpoints; their files need components, which nobody sees."""

    def whole(label: str, value: int | None) -> gr.Number:
        return gr.Number(value, label=label, precision=0)

    with gr.Column(visible=False):
        for function, noun in ((teach_word, "initial"), (teach_subject, "noun")):
            given: list[Any] = [
                gr.File(label="photos", file_count="multiple"),
                gr.Textbox(label="token"),
                gr.Textbox(label=noun),
                gr.Radio(KINDS, value="object", label="kind"),
                *(whole("steps", None), whole("seed", 0), gr.Textbox("", label="session")),
            ]
            back = [gr.JSON(label="status"), gr.File(label="adapter"), gr.Gallery(label="pictures")]
            gr.Button().click(function, given, back, api_name=function.__name__, **ON_GPU)
        given = [
            gr.JSON(label="adapters"),
            *(gr.Textbox(label="prompt"), gr.Textbox("", label="negative")),
            *(whole("seed", 0), whole("count", 1), whole("steps", None)),
            *(gr.Number(None, label="guidance"), gr.Textbox("", label="session")),
        ]
        back = [gr.Gallery(label="pictures"), gr.JSON(label="records")]
        gr.Button().click(draw_with_stack, given, back, api_name="draw_stack", **ON_GPU)
    gr.api(read_token, api_name="check_token", queue=False)
    gr.api(list_adapters, api_name="list_adapters", queue=False)


# The page


def arrive(visitor: str, *stored: Any) -> dict:
    """Open the visitor's workspace, or give them one; then everything as they left it."""
    word_keys, word_fields, subject_keys, subject_fields, rack = stored
    try:
        workspace, fresh = WORKSPACES.open(visitor), False
    except WorkspaceError:
        workspace, fresh = WORKSPACES.new(), True
    return {
        browser: workspace.id,
        **word_tab.restore(workspace, word_keys, word_fields),
        **subject_tab.restore(workspace, subject_keys, subject_fields),
        **stack_tab.restore(workspace, rack, fresh=fresh),
    }


def send_to_stack(visitor: str, current: str, rack: list, *weights: float) -> dict:
    """What was just learned, onto the rack; and over to it."""
    workspace = WORKSPACES.open(visitor)
    run = Run.open(workspace.run_folder(current))
    same = [
        entry.name
        for entry in workspace.library.list()
        if entry.own and entry.description and entry.description.trigger == page.trigger(run)
    ]
    return {
        **stack_tab.with_row(workspace, remember(rack, *weights), same[0]),
        tabs: gr.Tabs(selected="stack"),
        stack_tab.prompt: showcase(run)[0],
    }


def forget(visitor: str) -> str:
    """Delete the visitor's workspace; an empty answer tells the page to start anew."""
    if not visitor:  # they thought again
        return gr.skip()
    with collected([]):
        WORKSPACES.open(visitor).delete()
    return ""


def tidy() -> None:
    """Load the base before the first visitor asks; then delete what has expired, every hour."""
    base()
    while True:
        WORKSPACES.expire()
        time.sleep(3600)


INK, LINE, NIGHT = "*neutral_500", "*neutral_300", "#2b3347"
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.indigo,
    secondary_hue=gr.themes.colors.indigo,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_lg,
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
).set(
    **dict.fromkeys(("body_background_fill_dark", "background_fill_primary_dark"), "#0d1018"),
    **dict.fromkeys(("body_text_color_subdued", "block_info_text_color"), INK),
    **dict.fromkeys(("body_text_color_subdued_dark", "block_info_text_color_dark"), "*neutral_400"),
    **dict.fromkeys(("block_background_fill", "block_background_fill_dark"), "transparent"),
    **dict.fromkeys(("block_border_width", "block_border_width_dark", "block_padding"), "0px"),
    **dict.fromkeys(("block_title_text_color", "block_title_text_color_dark"), "*body_text_color"),
    **dict.fromkeys(("block_title_text_weight", "button_large_text_weight"), "560"),
    button_medium_text_weight="560",
    button_large_text_size="*text_md",
    input_background_fill="white",
    input_background_fill_dark="#151a26",
    input_border_width="1px",
    input_border_color=LINE,
    input_border_color_dark=NIGHT,
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover_dark="*primary_400",
    **dict.fromkeys(
        ("button_secondary_background_fill", "checkbox_label_background_fill"), "white"
    ),
    button_secondary_background_fill_dark="transparent",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="#1a2030",
    button_secondary_border_color=LINE,
    button_secondary_border_color_dark=NIGHT,
    **dict.fromkeys(("button_border_width", "checkbox_label_border_width"), "1px"),
    checkbox_label_background_fill_dark="transparent",
    checkbox_label_border_color=LINE,
    checkbox_label_border_color_dark=NIGHT,
    checkbox_label_padding="5px 11px",
)

with gr.Blocks(
    title="Personalization", analytics_enabled=False, delete_cache=(3600, 24 * 3600)
) as demo:
    # Outside the tabs: a browser's memory inside a tab is not read before that tab is opened.
    browser = remembered("visitor", "")
    kept_rack = remembered("rack", [])
    kept = {
        lesson: (
            remembered(f"{lesson.purpose}-photos", []),
            remembered(f"{lesson.purpose}-fields", [lesson.token, "", "object"]),
        )
        for lesson in (WORD, SUBJECT)
    }
    gr.HTML(page.header(BASE.title, page.device_words(device(), shared=ON_ZERO)), elem_id="head")
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab(WORD.title, id="word"):
            word_tab = TeachTab(WORD, browser, *kept[WORD])
        with gr.Tab(SUBJECT.title, id="subject"):
            subject_tab = TeachTab(SUBJECT, browser, *kept[SUBJECT])
        with gr.Tab("Stack adapters", id="stack"):
            stack_tab = StackTab(browser, kept_rack)
    with gr.Row(elem_classes="foot"):
        gr.HTML(page.privacy(WORKSPACES.lifetime))
        forget_me = gr.Button("Forget me", size="sm", scale=0, min_width=110, elem_id="forget-me")
    build_endpoints()

    rack = [kept_rack, *stack_tab.weights]
    for tab in (word_tab, subject_tab):
        onto = [*stack_tab.board, stack_tab.prompt, tabs]
        tab.send.click(send_to_stack, [browser, tab.current, *rack], onto, **QUIET)
        tab.turn.change(stack_tab.refresh, [browser, *rack], stack_tab.board, **QUIET)
    forget_me.click(forget, browser, browser, js=ASK_FIRST, **QUIET).then(
        None, browser, None, js=START_ANEW
    )
    stored = [*kept[WORD], *kept[SUBJECT], kept_rack]
    everything = [*word_tab.everything, *subject_tab.everything, *stack_tab.board, stack_tab.prompt]
    demo.load(arrive, [browser, *stored], [browser, *everything], **QUIET).then(js=ARRIVED)
demo.queue(default_concurrency_limit=4, max_size=64)

if __name__ == "__main__":
    if ON_ZERO:
        base()  # ZeroGPU packs what is on the device before the launch
    threading.Thread(target=tidy, daemon=True).start()
    demo.launch(
        theme=THEME,
        css_paths=ASSETS / "page.css",
        allowed_paths=[str(ASSETS)],
        blocked_paths=[str(WORKSPACES.root.resolve())],
        max_file_size="64mb",
        show_error=True,
        ssr_mode=False,
        footer_links=["api", "settings"],
    )
