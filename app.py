"""The page: teach a word, teach a subject, stack adapters.

Constants, helpers, the GPU functions, the two teaching tabs, the stack tab, the endpoints for
programs, the Blocks, main. Everything that learns or draws is in `personalization`; what is said
in HTML is in `personalization.page`. Here events become updates, and errors become sentences
beside the field that they are about.
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
import spaces  # before torch: on ZeroGPU it takes torch's place on the devices
from gradio.utils import get_upload_folder
from PIL import Image

from personalization import bases, charts, page
from personalization.adapter import Adapter
from personalization.bases.spec import ASSETS, CATALOG
from personalization.concept import Concept, Kind, check_noun, check_photos, check_token
from personalization.errors import ConceptError, PersonalizationError, PhotoError, WorkspaceError
from personalization.events import Event, Finished, SliceEnded, StepDone
from personalization.generate import MAX_COUNT, Picture, Settings, read_record
from personalization.photos import Photo, open_photos
from personalization.photos import problems as photo_problems
from personalization.recipe import Full, LowRank, Prior, Recipe, Word
from personalization.runs import Run
from personalization.stack import MAX_SLOTS, MAX_WEIGHT, Slot, Stack
from personalization.workspace import Workspace, Workspaces

BASE = CATALOG[os.environ.get("PERSONALIZATION_BASE", "pocket")]
ON_ZERO = spaces.config.Config.zero_gpu
SLICE = 60  # seconds of one allocation on ZeroGPU: what a visitor without an account can start
SLICE_MARGIN = 10  # of these, to load, to save and to leave
REFRESH = 0.4  # seconds between two updates of a run's panel
EXAMPLES = ASSETS / "examples"
SECRET = "personalization"  # BrowserState wants one; what it keeps is the visitor's own
WORKSPACES = Workspaces()
KINDS: list[Kind] = ["object", "creature", "person", "style"]
# Single tokens in some vocabularies that mean nothing all the same.
RARE = {"sks", "ohwx", "zwx", "shs", "olis", "bnha", "ktn"}

# A click on one of the buttons inside a piece of HTML, told with the button's key.
PICK = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-key]');
    if (button) trigger('click', { key: button.dataset.key });
});
"""
CALL_WORD = "(prompt, word) => prompt.includes(word) ? prompt : `${prompt} ${word}`.trim()"

# Small helpers

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
GPU_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}


@dataclass(frozen=True)
class Lesson:
    """What the two teaching tabs do not share."""

    purpose: Literal["word", "subject"]
    title: str
    promise: str
    token: str
    noun_label: str
    noun_info: str
    noun_hint: str
    method: str

    @property
    def recipe(self) -> Recipe:
        return BASE.recipes[self.purpose]


WORD = Lesson(
    "word",
    "Teach a word",
    "A new entry in the model's dictionary. No weight changes, and the file is a few kilobytes: "
    "good for a look, a style, or a rough likeness that you want to share.",
    token="<my-word>",
    noun_label="Starts from",
    noun_info="The closest word that the model knows.",
    noun_hint="mug, dog, painting …",
    method="Textual inversion: one new vector is learned, everything else stays as it is.",
)
SUBJECT = Lesson(
    "subject",
    "Teach a subject",
    "A thin layer over the model's weights that binds a rare word to this one subject, while "
    "the class it belongs to stays what it was: the closest likeness, in a small file that "
    "stacks with others.",
    token="sks",
    noun_label="It is a …",
    noun_info="What anyone would call it, in a word.",
    noun_hint="dog, mug, robot …",
    method="DreamBooth with a LoRA: the model learns your photos, and its own pictures of the "
    "class keep the class as it was.",
)
LESSONS = (WORD, SUBJECT)


def base() -> bases.Base:
    """The base, loaded on the first use."""
    return bases.load(BASE)


def device_words() -> str:
    """The device as a visitor calls it."""
    if ON_ZERO:
        return "ZeroGPU, shared"
    device = bases.best_device()
    if device.type == "cpu":
        return f"this machine’s CPU, {len(os.sched_getaffinity(0))} cores, no network needed"
    return "this machine’s GPU"


def pieces_of(text: str) -> list[str]:
    """How the base reads a text today, as tokens without their end-of-word mark."""
    tokenizer = base().text_encoders[0].tokenizer
    return [piece.removesuffix("</w>") for piece in tokenizer.tokenize(text)]


def check_new(token: str) -> None:
    """Refuse a word that the base knows already. Raises `ConceptError`."""
    check_token(token)
    if len(pieces_of(token)) == 1 and token.lower() not in RARE:
        raise ConceptError(
            f"The base knows the word “{token}” already, and would lose what it means now. "
            f"Choose one that means nothing yet, such as <my-{token.strip('<>')[:12]}> or sks.",
            field="token",
        )


def in_words(error: BaseException) -> str:
    """An error as a sentence; one that nobody foresaw by its name, with the rest in the log."""
    if isinstance(error, PersonalizationError):
        return str(error)
    if isinstance(error, gr.Error):  # from ZeroGPU's scheduler, or `told` in its worker
        return str(error.message)
    logging.getLogger("app").error("unforeseen", exc_info=error)
    return (
        f"Something went wrong that the app did not foresee ({type(error).__name__}). "
        "What was saved is kept: continue, or start again."
    )


def handed_out(path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves; the workspaces themselves are blocked."""
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


def expected_seconds(recipe: Recipe) -> float:
    """About how long a run takes here, first pictures included."""
    device = "cuda" if ON_ZERO else bases.best_device().type
    start, forward = {"cpu": (6.0, 0.028), "mps": (6.0, 0.01)}.get(device, (6.0, 0.004))
    seen = recipe.batch_size * (2 if recipe.prior else 1)
    passes = 1.0 if isinstance(recipe.method, Word) else 1.2
    pictures = recipe.steps // recipe.preview_every * 3 if recipe.preview_every else 0
    if recipe.prior and recipe.prior.kind == "images":
        pictures += recipe.prior.images
    return start + recipe.steps * seen * forward * passes + pictures * 8 * forward


def expected_size(recipe: Recipe) -> int | None:
    """Bytes of the file, where they can be told beforehand."""
    method = recipe.method
    if isinstance(method, Word):
        tables = [encoder.model.get_input_embeddings() for encoder in base().text_encoders]
        return 2_000 + sum(4 * method.vectors * table.weight.shape[-1] for table in tables)
    if not isinstance(method, LowRank) or method.kind not in ("lora", "dora"):
        return None
    size = 12_000
    for name, module in base().modules.items():
        text = name.startswith("text_encoder")
        if text and not method.text_encoder:
            continue
        targets = BASE.text_targets if text else method.targets or BASE.targets
        for path, layer in module.named_modules():
            if path.endswith(targets) and hasattr(layer, "weight"):
                size += 4 * method.rank * sum(layer.weight.shape[:2])
    return size


def example_sets(purpose: str) -> list[tuple[str, str, list[Path], dict[str, Any]]]:
    """(key, title, photos, what it fills in): the folders in assets/examples."""
    sets = []
    for folder in sorted(EXAMPLES.glob("*/")):
        about = folder / "example.json"
        fills = json.loads(about.read_text()) if about.exists() else {}
        photos = sorted(folder.glob("*.png")) + sorted(folder.glob("*.jpg"))
        if photos and purpose in fills.get("tabs", ("word", "subject")):
            sets.append((folder.name, fills.get("title", folder.name), photos, fills))
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


@spaces.GPU(duration=lambda folder, seconds: SLICE if seconds is None else seconds + SLICE_MARGIN)
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


def draw_stack(
    slots: Sequence[tuple[str, Adapter, float]],
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Check a stack of (name, adapter, weight) before any GPU time, then draw with it."""
    stack = Stack(tuple(Slot(adapter, weight) for _, adapter, weight in slots)).check(BASE)
    records = [
        {
            "name": name,
            "title": adapter.description.title,
            "trigger": adapter.description.trigger,
            "weight": weight,
            "sha256": adapter.sha256,
        }
        for name, adapter, weight in slots
    ]
    return gpu_draw(stack, [each.check() for each in settings], records, image, mask)


def slices(run: Run) -> Iterator[Event]:
    """One slice as long as its machine allows."""
    left = expected_seconds(run.recipe) * (1 - run.state.step / run.recipe.steps)
    seconds = min(SLICE - SLICE_MARGIN, round(1.3 * left) + 10) if ON_ZERO else None
    yield from gpu_train(run.folder, seconds)


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
    from personalization.adapter import read

    adapter = read(run.adapter_path)
    settings = [Settings(prompt, seed=run.recipe.seed) for prompt in showcase(run)]
    weight = adapter.description.strength
    pictures = draw_stack([(run.folder.name, adapter, weight)], settings)
    for index, picture in enumerate(pictures):
        picture.save(run.folder / "pictures" / f"{index}.png")
    return pictures


def start_run(
    workspace: Workspace, photos: Sequence[Photo], kind: Kind, token: str, noun: str, recipe: Recipe
) -> Run:
    """Check everything, then make the run's folder. Raises what is wrong."""
    check_photos(photos)
    check_new(token)
    check_noun(noun, needed=kind != "style" or isinstance(recipe.method, Word))
    concept = Concept(kind, token, noun.strip(), tuple(photos))
    folder = workspace.new_run_folder(concept.name)
    return Run.create(folder, concept, recipe.check(), BASE.name)


# The two teaching tabs


class TeachTab:
    """Photos, a word, a method; then a run, and what came of it."""

    def __init__(self, lesson: Lesson, visitor: gr.BrowserState):
        self.lesson = lesson
        self.visitor = visitor
        self.prefix = lesson.purpose
        stored = f"personalization-{lesson.purpose}"
        self.keys = gr.BrowserState([], storage_key=f"{stored}-photos", secret=SECRET)
        self.fields = gr.BrowserState([], storage_key=f"{stored}-fields", secret=SECRET)
        self.current = gr.State("")  # the run in the panel
        self.turn = gr.State(None)  # what to do next with it: each change is a request of its own
        gr.HTML(f'<p class="promise">{lesson.promise}</p>')
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_form()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.build_panel()
        self.wire()

    def build_form(self) -> None:
        lesson, prefix = self.lesson, self.prefix
        gr.HTML(page.section(1, "Photos", "Three to five of the same thing, in different places."))
        self.crops = gr.HTML(js_on_load=PICK, elem_id=f"{prefix}-crops")
        self.drop = gr.File(
            label="Drop photos here, or click to choose",
            show_label=False,
            file_count="multiple",
            height=104,
            elem_id=f"{prefix}-photos",
            elem_classes="drop",
        )
        self.photo_notes = gr.HTML(elem_id=f"{prefix}-photo-notes")
        self.examples = gr.HTML(
            page.example_sets(each[:3] for each in example_sets(lesson.purpose)),
            js_on_load=PICK,
            elem_id=f"{prefix}-examples",
        )
        gr.HTML(page.section(2, "The word"))
        with gr.Row(elem_classes="pair"):
            self.token = gr.Textbox(
                lesson.token,
                label="New word",
                info="Means nothing yet.",
                max_lines=1,
                min_width=140,
                elem_id=f"{prefix}-token",
            )
            self.noun = gr.Textbox(
                label=lesson.noun_label,
                info=lesson.noun_info,
                placeholder=lesson.noun_hint,
                max_lines=1,
                min_width=140,
                elem_id="word-initial" if lesson is WORD else "subject-noun",
            )
        self.kind = gr.Radio(
            list(KINDS), value="object", label="Kind", elem_id=f"{prefix}-kind", elem_classes="kind"
        )
        self.chips = gr.HTML(elem_id=f"{prefix}-chips")
        self.word_notes = gr.HTML(elem_id=f"{prefix}-word-notes")
        gr.HTML(page.section(3, "Teach", lesson.method))
        with gr.Accordion("Advanced", open=False, elem_id=f"{prefix}-advanced"):
            self.settings = self.build_settings()
        self.setting_notes = gr.HTML(elem_id=f"{prefix}-setting-notes")
        self.teach = gr.Button("Teach", variant="primary", elem_id=f"teach-{prefix}-button")
        self.estimate = gr.HTML(elem_id=f"{prefix}-estimate")

    def build_settings(self) -> dict[str, gr.components.Component]:
        """Every choice of a recipe, in the field's terms, with a line of help each."""
        recipe = self.lesson.recipe
        method = recipe.method
        number: dict[str, Any] = {"min_width": 120}
        parts: dict[str, gr.components.Component] = {}
        if isinstance(method, LowRank):
            parts["method"] = gr.Dropdown(
                ["lora", "loha", "lokr", "dora"],
                value=method.kind,
                label="Method",
                info="LoRA is the common one; LoKr is smallest; DoRA is slower and closer.",
            )
        with gr.Row():
            parts["steps"] = gr.Number(
                recipe.steps, label="Steps", precision=0, info="More: closer, then a copy.", **number
            )
            parts["rate"] = gr.Number(
                method.learning_rate, label="Learning rate", info="Too high breaks it.", **number
            )
        with gr.Row():
            if isinstance(method, LowRank):
                parts["rank"] = gr.Number(
                    method.rank, label="Rank", precision=0, info="Capacity, and file size.", **number
                )
                parts["alpha"] = gr.Number(
                    method.alpha, label="Alpha", info="Scale: alpha / rank.", **number
                )
            else:
                parts["vectors"] = gr.Number(
                    1, label="Vectors", precision=0, info="More hold more detail.", **number
                )
            parts["batch"] = gr.Number(
                recipe.batch_size, label="Batch", precision=0, info="Photos in a step.", **number
            )
        if isinstance(method, LowRank):
            prior = recipe.prior or Prior()
            parts["prior"] = gr.Radio(
                [("class images", "images"), ("adapter off", "adapter_off"), ("none", "none")],
                value=prior.kind,
                label="Prior preservation",
                info="What keeps the class: its own pictures of it, or itself as the teacher.",
            )
            with gr.Row():
                parts["prior_weight"] = gr.Number(
                    prior.weight, label="Prior weight", info="How much the class counts.", **number
                )
                parts["images"] = gr.Number(
                    prior.images, label="Class images", precision=0, info="Drawn once.", **number
                )
            with gr.Row():
                parts["text"] = gr.Checkbox(
                    method.text_encoder,
                    label="Text encoder too",
                    info="Learns the word faster, and leaks more.",
                    **number,
                )
                parts["text_rate"] = gr.Number(
                    method.text_learning_rate, label="Its learning rate", **number
                )
        with gr.Row():
            parts["every"] = gr.Number(
                recipe.preview_every, label="Previews", precision=0, info="Steps apart.", **number
            )
            parts["seed"] = gr.Number(
                0, label="Seed", precision=0, info="The same seed, the same run.", **number
            )
        parts["flip"] = gr.Checkbox(
            recipe.flip,
            label="Mirror the photos too",
            info="Not for faces, words, or anything with a left and a right.",
        )
        return parts

    def build_panel(self) -> None:
        prefix = self.prefix
        self.intro = gr.HTML(page.intro(self.prefix, EXAMPLES), elem_id=f"{prefix}-intro")
        self.status = gr.HTML(visible=False, elem_id=f"{prefix}-status")
        with gr.Row(elem_classes="actions"):
            self.cancel = gr.Button("Cancel", visible=False, elem_id=f"{prefix}-cancel")
            self.resume = gr.Button("Continue", visible=False, elem_id=f"{prefix}-continue")
            self.keep = gr.Button("Take it as it is", visible=False, elem_id=f"{prefix}-keep")
        with gr.Column(visible=False, elem_id=f"{prefix}-result") as self.result:
            self.verdict = gr.HTML(elem_id=f"{prefix}-verdict")
            self.gallery = gr.Gallery(
                show_label=False,
                columns=4,
                object_fit="contain",
                height="auto",
                buttons=["download", "fullscreen"],
                interactive=False,
                elem_id=f"{prefix}-gallery",
                elem_classes="pictures",
            )
            with gr.Row(elem_classes="ask"):
                self.prompt = gr.Textbox(
                    show_label=False,
                    placeholder="Try it: a prompt with the word in it",
                    max_lines=2,
                    container=False,
                    scale=5,
                    min_width=180,
                    elem_id=f"{prefix}-prompt",
                )
                self.draw = gr.Button("Draw", scale=1, min_width=90, elem_id=f"{prefix}-draw")
            self.draw_notes = gr.HTML()
            with gr.Row(elem_classes="next"):
                self.download = gr.DownloadButton(
                    "Download the file", min_width=150, elem_id=f"{prefix}-download"
                )
                self.send = gr.Button(
                    "Use in a stack →", min_width=150, elem_id=f"{prefix}-send"
                )
        self.curve = gr.HTML(visible=False, elem_id=f"{prefix}-curve")
        self.strip = gr.HTML(visible=False, elem_id=f"{prefix}-strip")

    def wire(self) -> None:
        visitor, keys, word = self.visitor, self.keys, [self.token, self.noun, self.kind]
        photos = [self.keys, self.crops, self.photo_notes]
        self.panel = [
            self.current, self.turn, self.teach, self.intro, self.status, self.cancel, self.resume,
            self.keep, self.result, self.verdict, self.gallery, self.prompt, self.download,
            self.curve, self.strip, self.draw_notes,
        ]  # fmt: skip
        self.drop.upload(
            self.add_photos, [visitor, keys, self.drop], [*photos, self.drop], **QUIET
        )
        self.crops.click(self.remove_photo, [visitor, keys], photos, **QUIET)
        self.examples.click(self.pick_example, visitor, [*photos, *word], **QUIET)
        for field in word:
            field.change(
                self.read_word,
                word,
                [self.chips, self.word_notes, self.fields],
                trigger_mode="always_last",
                **QUIET,
            )
        settings = list(self.settings.values())
        for setting in settings:
            setting.change(  # type: ignore[attr-defined]
                self.say_estimate, settings, self.estimate, trigger_mode="always_last", **QUIET
            )
        notes = [self.photo_notes, self.word_notes, self.setting_notes]
        self.teach.click(
            self.begin, [visitor, keys, *word, *settings], [*notes, *self.panel], **QUIET
        )
        self.turn.change(
            self.advance,
            [visitor, self.turn],
            self.panel,
            show_progress="hidden",
            trigger_mode="multiple",
            api_visibility="private",
            **GPU_QUEUE,
        )
        run = [visitor, self.current]
        self.cancel.click(self.stop, run, self.cancel, **QUIET)
        self.resume.click(self.carry_on, run, self.panel, **QUIET)
        self.keep.click(self.finish, run, self.panel, **QUIET)
        gr.on(
            [self.draw.click, self.prompt.submit],
            self.try_prompt,
            [visitor, self.current, self.prompt, self.gallery],
            [self.gallery, self.draw_notes],
            api_visibility="private",
            **GPU_QUEUE,
        )

    # Photos

    def show_photos(self, workspace: Workspace, keys: list[str], errors: Sequence[str]) -> dict:
        """The crops of these photos, and what is wrong with them."""
        photos = workspace.photos(keys)
        notes = page.problems(errors) + page.warnings(photo_problems(photos, BASE.size))
        crops = page.crops(list(zip(keys, photos, strict=True)), BASE.size)
        return {self.keys: keys, self.crops: crops, self.photo_notes: notes}

    def add_photos(self, visitor: str, keys: list[str], uploads: list[str]) -> dict:
        """Uploads become photos of the workspace; a broken one is named, the others are kept."""
        photos, errors = take_uploads(uploads)
        sentences = [str(error) for error in errors]
        try:
            workspace = WORKSPACES.open(visitor)
            new = workspace.save_photos(photos)
            reply = self.show_photos(workspace, list(dict.fromkeys([*keys, *new])), sentences)
        except WorkspaceError as error:
            reply = {self.photo_notes: page.problems([*sentences, str(error)])}
        return {**reply, self.drop: None}

    def remove_photo(self, visitor: str, keys: list[str], event: gr.EventData) -> dict:
        """Take one photo out, and delete it."""
        try:
            workspace = WORKSPACES.open(visitor)
            return self.show_photos(workspace, [k for k in keys if k != event.key], [])
        except WorkspaceError as error:
            return {self.photo_notes: page.problems([str(error)])}

    def pick_example(self, visitor: str, event: gr.EventData) -> dict:
        """An example set in place of the photos that are there, with its word and noun."""
        _, _, paths, fills = next(s for s in example_sets(self.prefix) if s[0] == event.key)
        try:
            workspace = WORKSPACES.open(visitor)
            keys = workspace.save_photos(open_photos(paths)[0])
            reply = self.show_photos(workspace, keys, [])
        except WorkspaceError as error:
            return {self.photo_notes: page.problems([str(error)])}
        token = fills.get("token", {}).get(self.prefix) or self.lesson.token
        kind = fills.get("kind", "object")
        return {**reply, self.token: token, self.noun: fills.get("noun", ""), self.kind: kind}

    # The word and the recipe

    def read_word(self, token: str, noun: str, kind: Kind) -> dict:
        """How the base reads the word, as it is typed."""
        errors, warnings = [], []
        try:
            if token:
                check_new(token)
        except ConceptError as error:
            errors.append(str(error))
        start = pieces_of(noun)
        if len(start) > len(noun.split()):
            warnings.append(
                f"The base does not know “{noun}” and reads it in {len(start)} pieces. "
                "A simpler word works better."
            )
        chips = page.word_chips(token, pieces_of(token), start, self.lesson is WORD)
        notes = page.problems(errors) + page.warnings(warnings)
        return {self.chips: chips, self.word_notes: notes, self.fields: [token, noun, kind]}

    def recipe(self, values: Sequence[Any]) -> Recipe:
        """The recipe that the advanced settings say, not yet checked."""
        got = dict(zip(self.settings, values, strict=True))
        blank = next((name for name, value in got.items() if value is None), None)
        if blank:
            raise ConceptError(f"A setting is empty: {blank}. Give it a number.", field=blank)
        method: Word | LowRank | Full
        if self.lesson is WORD:
            method = Word(vectors=got["vectors"], learning_rate=got["rate"])
        else:
            method = LowRank(
                kind=got["method"],
                rank=got["rank"],
                alpha=got["alpha"],
                text_encoder=got["text"],
                learning_rate=got["rate"],
                text_learning_rate=got["text_rate"],
            )
        prior = None
        if got.get("prior", "none") != "none":
            prior = Prior(got["prior"], weight=got["prior_weight"], images=got["images"])
        return replace(
            self.lesson.recipe,
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
            recipe = self.recipe(values).check()
        except PersonalizationError as error:
            return page.problems([str(error)])
        size = expected_size(recipe)
        file = f", a file of {charts.size_words(size)}" if size else ""
        return f'<p class="hint">{page.duration(expected_seconds(recipe))} here{file}</p>'

    # The run

    def begin(
        self, visitor: str, keys: list[str], token: str, noun: str, kind: Kind, *values: Any
    ) -> dict:
        """Check what the visitor entered, all of it; then make the run and take its first turn."""
        wrong: dict[str, list[str]] = {"photos": [], "word": [], "settings": []}
        with collected(wrong["settings"]):
            recipe = self.recipe(values).check()
        with collected(wrong["word"]):
            check_new(token)
        with collected(wrong["word"]):
            check_noun(noun, needed=self.lesson is WORD or kind != "style")
        photos: list[Photo] = []
        with collected(wrong["photos"]):
            workspace = WORKSPACES.open(visitor)
            photos = workspace.photos(keys)
            check_photos(photos)
        warned = page.warnings(photo_problems(photos, BASE.size))
        reply: dict = {
            self.photo_notes: page.problems(wrong["photos"]) + warned,
            self.word_notes: page.problems(wrong["word"]),
            self.setting_notes: page.problems(wrong["settings"]),
        }
        if wrong["photos"] or wrong["word"]:
            above = len(wrong["photos"] + wrong["word"])
            said = [f"Not started: see the {'note' if above == 1 else f'{above} notes'} above."]
            return {**reply, self.setting_notes: page.problems(said + wrong["settings"])}
        if wrong["settings"]:
            return reply
        try:
            run = start_run(workspace, photos, kind, token, noun, recipe)
        except PersonalizationError as error:
            return {**reply, self.setting_notes: page.problems([str(error)])}
        return {**reply, **self.next_turn(run, "learn")}

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
        if not turn:
            return
        view = None
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
            view = view or page.RunView("the word", 1)
            view.phase, view.error = "failed", in_words(error)
            yield self.show(view)

    def learn(self, workspace: Workspace, run: Run, view: page.RunView) -> Iterator[dict]:
        """Translate one slice's events into updates, a few a second."""
        if run.stop_requested:  # while it waited in the queue
            yield self.show(view)
            return
        shown = 0.0
        pending: set[page.Part] = set()
        for event in slices(run):
            busy = view.phase in ("preparing", "learning")
            pending |= view.take(event)
            if isinstance(event, SliceEnded):
                yield self.show(view) if run.stop_requested else self.next_turn(run, "learn")
            elif isinstance(event, Finished):
                keep_adapter(workspace, run, event)
                yield self.next_turn(run, "show")
            elif not busy:
                yield self.show(view)
                pending.clear()
            elif not isinstance(event, StepDone) or time.monotonic() - shown > REFRESH:
                draw = {"status": page.status, "curve": page.curve, "strip": page.strip}
                parts = {"status": self.status, "curve": self.curve, "strip": self.strip}
                yield {
                    parts[name]: gr.update(value=draw[name](view), visible=True) for name in pending
                }
                pending.clear()
                shown = time.monotonic()

    def stop(self, visitor: str, current: str) -> dict:
        """Ask the run to end after the step at hand; its slice says the rest."""
        Run.open(WORKSPACES.open(visitor).run_folder(current)).stop()
        return {self.cancel: gr.update(value="Stopping…", interactive=False)}

    def carry_on(self, visitor: str, current: str) -> dict:
        """Continue a run that was stopped."""
        run = Run.open(WORKSPACES.open(visitor).run_folder(current))
        run.clear_stop()
        return self.next_turn(run, "learn")

    def finish(self, visitor: str, current: str) -> dict:
        """Take what a stopped run has learned so far."""
        return self.next_turn(Run.open(WORKSPACES.open(visitor).run_folder(current)), "finish")

    def show_result(self, run: Run) -> dict:
        """The verdict, the pictures, the file."""
        view = page.RunView.of(run)
        view.phase = "finished"
        state, size = run.state, run.adapter_path.stat().st_size
        name = page.trigger(run)
        pictures = [
            (handed_out(path), prompt)
            for path, prompt in zip(
                sorted((run.folder / "pictures").glob("*.png")), showcase(run), strict=False
            )
        ]
        file = handed_out(run.adapter_path, f"{run.folder.name.split('-', 3)[-1]}.safetensors")
        return {
            **self.show(view),
            self.current: run.folder.name,
            self.verdict: page.verdict(
                name, run.recipe.method_name, seconds=state.seconds, steps=state.step, size=size
            ),
            self.gallery: gr.update(value=pictures, selected_index=None),
            self.prompt: f"a photo of {name} on the beach"
            if run.concept.kind != "style"
            else f"a mushroom, {name} style",
            self.download: gr.update(
                value=file, label=f"Download the file ({charts.size_words(size)})"
            ),
            self.draw_notes: "",
        }

    def try_prompt(
        self, visitor: str, current: str, prompt: str, shown: list[tuple[str, str]] | None
    ) -> dict:
        """One more picture with what was just learned, in front of the others."""
        from personalization.adapter import read

        try:
            run = Run.open(WORKSPACES.open(visitor).run_folder(current))
            adapter = read(run.adapter_path)
            seed = secrets.randbelow(2**32)
            slot = (current, adapter, adapter.description.strength)
            pictures = handed_out_pictures(draw_stack([slot], [Settings(prompt, seed=seed)]))
        except (PersonalizationError, gr.Error) as error:
            return {self.draw_notes: page.problems([in_words(error)])}
        name = page.trigger(run)
        missing = name.lower() not in prompt.lower()
        said = [f"The prompt does not call it: write {name}."] if missing else []
        return {
            self.gallery: pictures + (shown or []),
            self.draw_notes: page.warnings(said),
        }

    def restore(self, workspace: Workspace, keys: list[str], fields: list[Any]) -> dict:
        """What a visitor who comes back finds: photos, word, the newest run."""
        known = set(workspace.photo_keys())
        reply = self.show_photos(workspace, [key for key in keys if key in known], [])
        token, noun, kind = fields or [self.lesson.token, "", "object"]
        reply |= {self.token: token, self.noun: noun, self.kind: kind}
        reply |= self.read_word(token, noun, kind)
        reply[self.estimate] = self.say_estimate(*(part.value for part in self.settings.values()))
        for folder in workspace.runs():
            run = Run.open(folder)
            if (run.recipe.method_name == "word") == (self.lesson is WORD):
                finished = run.state.status == "finished" and (run.folder / "pictures").exists()
                view = page.RunView.of(run)
                reply |= self.show_result(run) if finished else self.show(view)
                reply[self.current] = folder.name
                break
        return reply


@contextmanager
def collected(sentences: list[str]) -> Iterator[None]:
    """What is wrong, added to the others that are."""
    try:
        yield
    except PersonalizationError as error:
        sentences.append(str(error))


def keep_adapter(workspace: Workspace, run: Run, done: Finished) -> None:
    """Into the library, where the stack finds it."""
    workspace.library.add(done.adapter, run.concept.name)


# The stack


class StackTab:
    """A rack of adapters, each with its weight; a prompt; pictures."""

    def __init__(self, visitor: gr.BrowserState):
        self.visitor = visitor
        # (name in the library, weight) of each row, kept in the browser.
        self.rack = gr.BrowserState([], storage_key="personalization-rack", secret=SECRET)
        self.records = gr.State([])
        gr.HTML(
            '<p class="promise">Adapters add up. Put several on the base, say how much of each, '
            "and call them by their words.</p>"
        )
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=5, min_width=320, elem_classes="bench-form"):
                self.build_rack()
            with gr.Column(scale=6, min_width=320, elem_classes="bench-panel"):
                self.build_easel()
        self.wire()

    def build_rack(self) -> None:
        gr.HTML(page.section(1, "Adapters", "0 is none of it, 1 is as it was trained."))
        self.empty = gr.HTML(
            '<p class="rack-empty">Nothing on the rack: pictures come from the base as it is.</p>'
        )
        self.rows, self.labels, self.weights, self.takes = [], [], [], []
        for i in range(MAX_SLOTS):
            with gr.Row(visible=False, elem_classes="slot", elem_id=f"slot-{i}") as row:
                self.labels.append(gr.HTML(min_width=150))
                self.weights.append(
                    gr.Slider(
                        -MAX_WEIGHT,
                        MAX_WEIGHT,
                        value=1.0,
                        step=0.05,
                        show_label=False,
                        container=False,
                        min_width=140,
                        elem_id=f"slot-{i}-weight",
                    )
                )
                self.takes.append(
                    gr.Button("×", size="sm", min_width=32, scale=0, elem_classes="take-out")
                )
            self.rows.append(row)
        with gr.Row(elem_classes="add"):
            self.add = gr.Dropdown(
                [],
                value=None,
                show_label=False,
                container=False,
                interactive=True,
                min_width=180,
                scale=3,
                elem_id="stack-add",
            )
            self.upload = gr.UploadButton(
                "Add a file",
                file_types=[".safetensors"],
                min_width=110,
                scale=1,
                elem_id="stack-upload",
            )
        self.rack_notes = gr.HTML(elem_id="stack-rack-notes")

    def build_easel(self) -> None:
        gr.HTML(page.section(2, "Picture"))
        self.prompt = gr.Textbox(
            show_label=False,
            placeholder="What to draw",
            lines=2,
            container=False,
            elem_id="stack-prompt",
        )
        with gr.Row(elem_classes="chips-row"):
            self.chips = [
                gr.Button("", size="sm", visible=False, min_width=20, scale=0, elem_classes="call")
                for _ in range(MAX_SLOTS)
            ]
        self.task = gr.Radio(
            [("from text", "text"), ("from a picture", "image"), ("part of a picture", "inpaint")],
            value="text",
            show_label=False,
            container=False,
            elem_id="stack-task",
            elem_classes="kind",
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
        self.draw = gr.Button("Draw", variant="primary", elem_id="draw-button")
        self.notes = gr.HTML(elem_id="stack-notes")
        self.gallery = gr.Gallery(
            show_label=False,
            columns=4,
            object_fit="contain",
            height="auto",
            buttons=["download", "fullscreen"],
            interactive=False,
            visible=False,
            elem_id="stack-gallery",
            elem_classes="pictures",
        )
        self.record = gr.HTML(elem_id="stack-record")
        sampling = BASE.sampling
        with gr.Accordion("Advanced", open=False, elem_id="stack-advanced"):
            self.negative = gr.Textbox(
                label="Negative prompt", info="What should not be there.", elem_id="stack-negative"
            )
            with gr.Row():
                self.count = gr.Slider(
                    1, MAX_COUNT, value=4, step=1, label="Pictures", min_width=140
                )
                self.steps = gr.Slider(
                    1, 60, value=sampling.steps, step=1, label="Steps", min_width=140
                )
            with gr.Row():
                self.guidance = gr.Slider(
                    0,
                    15,
                    value=sampling.guidance,
                    step=0.5,
                    label="Guidance",
                    info="How strictly it keeps to the prompt.",
                    min_width=140,
                )
                self.seed = gr.Number(
                    0,
                    label="Seed",
                    precision=0,
                    info="The same seed, the same picture.",
                    min_width=140,
                    elem_id="stack-seed",
                )
            self.vary = gr.Checkbox(True, label="A new seed each time", elem_id="stack-vary")
        self.restored = gr.File(
            label="Drop a picture that was drawn here to get its settings back",
            height=104,
            elem_id="stack-restore",
            elem_classes="drop",
        )

    def wire(self) -> None:
        visitor, rack = self.visitor, self.rack
        self.board = [
            self.rack, self.empty, *self.rows, *self.labels, *self.weights, *self.chips, self.add,
            self.rack_notes,
        ]  # fmt: skip
        self.add.input(self.put, [visitor, rack, self.add, *self.weights], self.board, **QUIET)
        self.upload.upload(
            self.take_file, [visitor, rack, self.upload, *self.weights], self.board, **QUIET
        )
        for i, (weight, take, chip) in enumerate(
            zip(self.weights, self.takes, self.chips, strict=True)
        ):
            weight.release(self.remember, [rack, *self.weights], rack, **QUIET)
            number = gr.State(i)
            take.click(self.take_out, [visitor, rack, number, *self.weights], self.board, **QUIET)
            chip.click(None, [self.prompt, chip], self.prompt, js=CALL_WORD)
        self.task.change(
            self.choose_task, self.task, [self.image, self.editor, self.strength], **QUIET
        )
        gr.on(
            [self.draw.click, self.prompt.submit],
            self.paint,
            [
                visitor, rack, self.prompt, self.negative, self.seed, self.vary, self.count,
                self.steps, self.guidance, self.task, self.image, self.editor, self.strength,
                *self.weights,
            ],
            [self.gallery, self.records, self.record, self.notes, self.seed],
            api_visibility="private",
            **GPU_QUEUE,
        )  # fmt: skip
        self.gallery.select(self.say_record, self.records, self.record, **QUIET)
        self.restored.upload(
            self.take_record,
            [visitor, self.restored],
            [
                *self.board, self.prompt, self.negative, self.seed, self.vary, self.count,
                self.steps, self.guidance, self.task, self.strength, self.notes, self.restored,
            ],
            **QUIET,
        )  # fmt: skip

    def show_rack(self, workspace: Workspace, rack: list, errors: Sequence[str] = ()) -> dict:
        """The rows for these (name, weight), and what else the library has."""
        entries = {entry.name: entry for entry in workspace.library.list()}
        missing = [name for name, _ in rack if name not in entries]
        rack = [[name, weight] for name, weight in rack if name in entries]
        reply: dict = {self.rack: rack, self.empty: gr.update(visible=not rack)}
        for i in range(MAX_SLOTS):
            on = i < len(rack)
            entry = entries[rack[i][0]] if on else None
            word = entry.description.trigger if entry and entry.description else ""
            reply[self.rows[i]] = gr.update(visible=on)
            reply[self.labels[i]] = page.adapter_row(entry) if entry else ""
            reply[self.weights[i]] = rack[i][1] if on else 1.0
            reply[self.chips[i]] = gr.update(value=word, visible=bool(word))
        free = [entry for entry in entries.values() if entry.name not in {n for n, _ in rack}]
        hint = "Add from the library" if free else "The library is empty: teach something first"
        reply[self.add] = gr.update(
            choices=[(hint, "")] + [(page.choice(entry), entry.name) for entry in free], value=""
        )
        gone = [f"“{name}” is no longer in the library, and was taken out." for name in missing]
        reply[self.rack_notes] = page.problems([*errors, *gone])
        return reply

    def put(self, visitor: str, rack: list, name: str, *weights: float) -> dict:
        """One more row, at its recommended strength."""
        if not name:
            return {self.rack: rack}
        try:
            workspace = WORKSPACES.open(visitor)
            return self.with_row(workspace, self.remember(rack, *weights), name)
        except PersonalizationError as error:
            return {self.rack_notes: page.problems([str(error)])}

    def with_row(self, workspace: Workspace, rack: list, name: str) -> dict:
        entry = workspace.library.entry(name)
        errors = []
        if entry.error:
            errors = [entry.error]
        elif name in {known for known, _ in rack}:
            pass
        elif len(rack) == MAX_SLOTS:
            errors = [f"The rack holds {MAX_SLOTS} adapters. Take one out first."]
        else:
            rack = [*rack, [name, entry.description.strength if entry.description else 1.0]]
        return self.show_rack(workspace, rack, errors)

    def take_file(self, visitor: str, rack: list, file: str, *weights: float) -> dict:
        """A file from anyone, checked by its header, into the library and onto the rack."""
        try:
            workspace = WORKSPACES.open(visitor)
            entry = workspace.library.add(Path(file), Path(file).stem)
            return self.with_row(workspace, self.remember(rack, *weights), entry.name)
        except PersonalizationError as error:
            return {self.rack_notes: page.problems([str(error)])}

    def take_out(self, visitor: str, rack: list, number: int, *weights: float) -> dict:
        """One row less."""
        rack = self.remember(rack, *weights)
        return self.show_rack(WORKSPACES.open(visitor), rack[:number] + rack[number + 1 :])

    def remember(self, rack: list, *weights: float) -> list:
        """The rack with its sliders as they are."""
        return [[name, weight] for (name, _), weight in zip(rack, weights, strict=False)]

    def choose_task(self, task: str) -> dict:
        return {
            self.image: gr.update(visible=task == "image"),
            self.editor: gr.update(visible=task == "inpaint"),
            self.strength: gr.update(visible=task != "text"),
        }

    def paint(
        self,
        visitor: str,
        rack: list,
        prompt: str,
        negative: str,
        seed: int,
        vary: bool,
        count: int,
        steps: int,
        guidance: float,
        task: Literal["text", "image", "inpaint"],
        image: Image.Image | None,
        editor: dict[str, Any] | None,
        strength: float,
        *weights: float,
    ) -> dict:
        """Draw with the rack as it stands."""
        try:
            library = WORKSPACES.open(visitor).library
            rows = self.remember(rack, *weights)
            slots = [(name, library.get(name), weight) for name, weight in rows]
            settings = Settings(
                prompt,
                negative,
                seed=secrets.randbelow(2**32 - MAX_COUNT) if vary else int(seed or 0),
                count=int(count),
                steps=int(steps),
                guidance=guidance,
                task=task,
                strength=strength,
            )
            mask = None
            if task == "inpaint" and editor:
                image, mask = editor["background"], painted(editor["layers"])
            pictures = draw_stack(slots, [settings], image, mask)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: page.problems([in_words(error)])}
        words = [adapter.description.trigger for _, adapter, weight in slots if weight]
        silent = [word for word in words if word and word.lower() not in prompt.lower()]
        said = [f"The prompt does not call {word}." for word in silent]
        return {
            self.gallery: gr.update(
                value=handed_out_pictures(pictures), visible=True, selected_index=None
            ),
            self.records: [picture.record for picture in pictures],
            self.record: page.record(pictures[0].record),
            self.notes: page.warnings(said),
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
            said = "This picture holds no settings: only those that the app drew do, as PNG files."
            return {self.notes: page.problems([said]), self.restored: None}
        workspace = WORKSPACES.open(visitor)
        rack = [[a.get("name", "?"), a.get("weight", 1.0)] for a in record.get("adapters", [])]
        return {
            **self.show_rack(workspace, rack[:MAX_SLOTS]),
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
        ready = [e for e in workspace.library.list() if not e.own and e.description][:2]
        rows = [[e.name, e.description.strength] for e in ready if e.description]
        words = " ".join(e.description.trigger for e in ready if e.description)
        prompt = f"a photo of {words}" if words else "a photo of a dog on the beach"
        return {**self.show_rack(workspace, rows), self.prompt: prompt}


def painted(layers: Sequence[Image.Image]) -> Image.Image | None:
    """What was brushed over, white on black."""
    if not layers:
        return None
    return layers[0].getchannel("A").point(lambda alpha: 255 if alpha > 16 else 0)


# For programs


def opened(session: str) -> Workspace:
    """The caller's workspace, or a new one."""
    return WORKSPACES.open(session) if session else WORKSPACES.new()


def taught(
    lesson: Lesson,
    photos: list[str],
    token: str,
    noun: str,
    kind: Kind,
    steps: int | None,
    seed: int,
    session: str,
) -> Iterator[tuple[dict[str, Any], str | None, list | None]]:
    """A whole run in one call, slice after slice."""
    try:
        workspace = opened(session)
        taken, errors = take_uploads(photos)
        recipe = replace(lesson.recipe, seed=int(seed), steps=int(steps or lesson.recipe.steps))
        if errors and not taken:
            raise errors[0]
        run = start_run(workspace, taken, kind, token, noun, recipe)
        told_so_far: dict[str, Any] = {
            "session": workspace.id,
            "run": run.folder.name,
            "state": "waiting",
            "notes": [str(e) for e in errors] + photo_problems(taken, BASE.size),
        }
        yield told_so_far, None, None
        done: Finished | None = None
        while done is None:
            for event in slices(run):
                if isinstance(event, StepDone):
                    told_so_far |= {"state": "learning", "step": event.step, "steps": event.steps}
                    told_so_far |= {"loss": event.loss, "seconds_left": event.seconds_left}
                    yield told_so_far, None, None
                elif isinstance(event, Finished):
                    done = event
        keep_adapter(workspace, run, done)
        pictures = handed_out_pictures(show_off(run))
        told_so_far |= {"state": "finished", "seconds": done.seconds, "trigger": page.trigger(run)}
        yield told_so_far, handed_out(run.adapter_path), pictures
    except PersonalizationError as error:
        raise gr.Error(str(error)) from error


def teach_word(
    photos: list[str],
    token: str,
    initial: str,
    kind: Kind = "object",
    steps: int | None = None,
    seed: int = 0,
    session: str = "",
) -> Iterator[tuple[dict[str, Any], str | None, list | None]]:
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
    yield from taught(WORD, photos, token, initial, kind, steps, seed, session)


def teach_subject(
    photos: list[str],
    token: str,
    noun: str,
    kind: Kind = "object",
    steps: int | None = None,
    seed: int = 0,
    session: str = "",
) -> Iterator[tuple[dict[str, Any], str | None, list | None]]:
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
    yield from taught(SUBJECT, photos, token, noun, kind, steps, seed, session)


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
    try:
        library = opened(session).library
        slots = [
            (str(each["name"]), library.get(str(each["name"])), float(each.get("weight", 1.0)))
            for each in adapters
        ]
        settings = Settings(
            prompt,
            negative,
            seed=int(seed),
            count=int(count),
            steps=int(steps) if steps else None,
            guidance=guidance,
        )
        pictures = draw_stack(slots, [settings])
    except PersonalizationError as error:
        raise gr.Error(str(error)) from error
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
    try:
        entries = opened(session).library.list()
    except PersonalizationError as error:
        raise gr.Error(str(error)) from error
    return [
        {
            "name": entry.name,
            "title": entry.description.title,
            "trigger": entry.description.trigger,
            "method": entry.description.method,
            "strength": entry.description.strength,
            "size": entry.size,
            "own": entry.own,
        }
        for entry in entries
        if entry.description
    ]


def build_endpoints() -> None:
    """The named endpoints; their files need components, which nobody sees."""
    with gr.Column(visible=False):
        for function, noun in ((teach_word, "initial"), (teach_subject, "noun")):
            inputs = [
                gr.File(label="photos", file_count="multiple"),
                gr.Textbox(label="token"),
                gr.Textbox(label=noun),
                gr.Radio(list(KINDS), value="object", label="kind"),
                gr.Number(None, label="steps", precision=0),
                gr.Number(0, label="seed", precision=0),
                gr.Textbox("", label="session"),
            ]
            outputs = [gr.JSON(label="status"), gr.File(label="adapter"), gr.Gallery(label="pictures")]
            gr.Button().click(function, inputs, outputs, api_name=function.__name__, **GPU_QUEUE)
        inputs = [
            gr.JSON(label="adapters"),
            gr.Textbox(label="prompt"),
            gr.Textbox("", label="negative"),
            gr.Number(0, label="seed", precision=0),
            gr.Number(1, label="count", precision=0),
            gr.Number(None, label="steps", precision=0),
            gr.Number(None, label="guidance"),
            gr.Textbox("", label="session"),
        ]
        outputs = [gr.Gallery(label="pictures"), gr.JSON(label="records")]
        gr.Button().click(draw_with_stack, inputs, outputs, api_name="draw_stack", **GPU_QUEUE)
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
    words = page.trigger(run)
    entry = next(
        e
        for e in workspace.library.list()
        if e.own and e.description and e.description.trigger == words
    )
    rack = stack_tab.remember(rack, *weights)
    return {
        **stack_tab.with_row(workspace, rack, entry.name),
        tabs: gr.Tabs(selected="stack"),
        stack_tab.prompt: f"a photo of {words}",
    }


def forget(visitor: str) -> str:
    """Delete the visitor's workspace; an empty answer tells the page to start anew."""
    if not visitor:  # they thought again
        return gr.skip()
    with collected([]):
        WORKSPACES.open(visitor).delete()
    return ""


ASK_FIRST = "(id) => confirm('Delete your photos, runs, adapters and pictures here?') ? id : ''"
START_ANEW = """(id) => {
    if (id) return;
    Object.keys(localStorage).filter((key) => key.startsWith('personalization'))
        .forEach((key) => localStorage.removeItem(key));
    location.reload();
}"""

THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.indigo,
    secondary_hue=gr.themes.colors.indigo,
    neutral_hue=gr.themes.colors.slate,
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"],
    font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
    radius_size=gr.themes.sizes.radius_lg,
).set(
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    body_background_fill_dark="#0d1018",
    background_fill_primary_dark="#0d1018",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_border_width_dark="0px",
    block_padding="0px",
    block_title_text_weight="560",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_info_text_color="*body_text_color_subdued",
    block_info_text_color_dark="*body_text_color_subdued",
    form_gap_width="0px",
    input_background_fill="white",
    input_background_fill_dark="#151a26",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_border_color_dark="#2b3347",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover_dark="*primary_400",
    button_secondary_background_fill="transparent",
    button_secondary_background_fill_dark="transparent",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="#1a2030",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="#2b3347",
    button_border_width="1px",
    checkbox_label_background_fill="transparent",
    checkbox_label_background_fill_dark="transparent",
    checkbox_label_border_width="1px",
    checkbox_label_border_color="*neutral_300",
    checkbox_label_border_color_dark="#2b3347",
    checkbox_label_padding="5px 11px",
)

with gr.Blocks(
    title="Personalization", analytics_enabled=False, delete_cache=(3600, 24 * 3600)
) as demo:
    browser = gr.BrowserState("", storage_key="personalization-visitor", secret=SECRET)
    gr.HTML(page.header(BASE.title, device_words()), elem_id="head")
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab(WORD.title, id="word"):
            word_tab = TeachTab(WORD, browser)
        with gr.Tab(SUBJECT.title, id="subject"):
            subject_tab = TeachTab(SUBJECT, browser)
        with gr.Tab("Stack adapters", id="stack"):
            stack_tab = StackTab(browser)
    with gr.Row(elem_classes="foot"):
        gr.HTML(page.privacy(WORKSPACES.lifetime))
        forget_me = gr.Button("Forget me", size="sm", scale=0, min_width=110, elem_id="forget-me")
    build_endpoints()

    for tab in (word_tab, subject_tab):
        tab.send.click(
            send_to_stack,
            [browser, tab.current, stack_tab.rack, *stack_tab.weights],
            [*stack_tab.board, stack_tab.prompt, tabs],
            **QUIET,
        )
        tab.turn.change(
            lambda visitor, rack, *weights: stack_tab.show_rack(
                WORKSPACES.open(visitor), stack_tab.remember(rack, *weights)
            ),
            [browser, stack_tab.rack, *stack_tab.weights],
            stack_tab.board,
            **QUIET,
        )
    forget_me.click(forget, browser, browser, js=ASK_FIRST, **QUIET).then(
        None, browser, None, js=START_ANEW
    )
    taught_parts = [
        part
        for tab in (word_tab, subject_tab)
        for part in (
            tab.keys, tab.fields, tab.token, tab.noun, tab.kind, tab.crops, tab.photo_notes,
            tab.chips, tab.word_notes, tab.estimate, *tab.panel,
        )
    ]  # fmt: skip
    demo.load(
        arrive,
        [
            browser, word_tab.keys, word_tab.fields, subject_tab.keys, subject_tab.fields,
            stack_tab.rack,
        ],
        [browser, *taught_parts, *stack_tab.board, stack_tab.prompt],
        **QUIET,
    )  # fmt: skip
demo.queue(default_concurrency_limit=4, max_size=64)


def tidy() -> None:
    """Load the base before the first visitor asks, then delete what has expired, every hour."""
    base()
    while True:
        WORKSPACES.expire()
        time.sleep(3600)


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
