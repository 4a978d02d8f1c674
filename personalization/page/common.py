"""What the parts of the page share: bases by name, errors in words, files out and in."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import spaces  # before torch: on ZeroGPU it takes the devices' place
from gradio.utils import get_upload_folder

from personalization import bases
from personalization.adapters.adapter import embedded_description
from personalization.bases.catalog import ASSETS, BaseSpec
from personalization.data.concept import Kind, check_class_noun, check_placeholder_token
from personalization.data.photos import Photo, open_photos
from personalization.errors import BaseError, ConceptError, PersonalizationError, PhotoError
from personalization.files import read_header
from personalization.sampling.generate import Picture, read_record
from personalization.training import base_selection
from personalization.workspaces.workspace import Workspace, Workspaces

ON_ZERO = spaces.config.Config.zero_gpu
WORKSPACES = Workspaces()
KINDS = ["object", "creature", "person", "style"]
# Single tokens in some vocabularies that mean nothing all the same.
RARE = {"sks", "ohwx", "zwx", "shs", "olis", "bnha", "ktn"}
REFRESH = 1.0  # seconds between two things that a run tells of its steps: a browser draws them too
SECRET = "personalization"  # BrowserState wants one; what it keeps is the visitor's own

UNQUEUED: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Gradio notices a changed State only where the event went through the queue.
QUEUED: dict[str, Any] = {**UNQUEUED, "queue": True, "concurrency_limit": None}
ON_GPU: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}

# What a page holds before it has been restored is not what anyone entered.
IF_ARRIVED = (
    "(before, ...values) => [document.body.classList.contains('arrived') ? values : before]"
)

# A click on one of the buttons inside a piece of HTML, told with the button's key.
CLICK_WITH_KEY = """element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-key]');
    if (button) trigger('click', { key: button.dataset.key });
});"""


def device() -> str:
    """ "cuda", "mps" or "cpu"."""
    return "cuda" if ON_ZERO else bases.best_device().type


@cache
def default_base() -> tuple[BaseSpec, str]:
    """The base that the process starts on, loaded; and why it is not the one that was meant.

    Where that one cannot be had, it is the pocket, so that the app is there in any case.
    """
    try:
        spec = base_selection.default(bases.best_device(), shared=ON_ZERO)
        bases.load(spec)
    except BaseError as error:
        logging.getLogger("app").warning("%s", error)
        return base_selection.POCKET, str(error)
    return spec, ""


def spec_of(name: str) -> BaseSpec:
    """The base of that name; the process's own where there is none. Raises `BaseError`."""
    own, _ = default_base()
    return own if name in ("", own.name) else base_selection.named(name, bases.best_device())


def base(name: str) -> bases.Base:
    """The base of that name, loaded on the first use. Raises `BaseError`."""
    return bases.load(spec_of(name))


def remembered(name: str, value: Any) -> gr.BrowserState:
    """What the visitor's browser keeps over a reload."""
    return gr.BrowserState(value, storage_key=f"personalization-{name}", secret=SECRET)


def keep(state: gr.BrowserState, fields: Sequence[Any]) -> None:
    """Have the browser remember what these fields hold, whatever changes them."""
    changes = [field.change for field in fields]
    gr.on(changes, None, [state, *fields], state, js=IF_ARRIVED, **UNQUEUED)


def recalled(fields: Sequence[Any], values: Sequence[Any]) -> dict:
    """The fields as they were; nothing where the browser remembers another form."""
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def pieces_of(name: str, text: str) -> list[str]:
    """How the base of that name reads a text today: its tokens, without their end-of-word mark."""
    tokenizer = base(name).text_encoders[0].tokenizer
    return [piece.removesuffix("</w>") for piece in tokenizer.tokenize(text)]


def check_new(name: str, placeholder_token: str) -> None:
    """Refuse a word that the base of that name knows already. Raises `ConceptError`."""
    check_placeholder_token(placeholder_token)
    if len(pieces_of(name, placeholder_token)) == 1 and placeholder_token.lower() not in RARE:
        raise ConceptError(
            f"The base knows the word “{placeholder_token}” already, and would lose what it means "
            "now. "
            f"Choose one that means nothing yet, such as <my-{placeholder_token[:12]}> or sks.",
            field="placeholder_token",
        )


def check_start(class_noun: str, *, is_word: bool, kind: Kind) -> None:
    """Refuse nothing to start from where something is needed. Raises `ConceptError`."""
    if is_word and not class_noun.strip():
        raise ConceptError(
            "There is no word to start from. Name what the photos show, such as dog or painting.",
            field="class_noun",
        )
    check_class_noun(class_noun, needed=kind != "style")


def user_message(error: BaseException) -> str:
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


def publish_file(path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves: it serves nothing of the workspaces."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(parents=True)
    return shutil.copyfile(path, folder / (name or path.name)).as_posix()


def publish_pictures(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
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


def example_result(purpose: str) -> tuple[list[Path], list[tuple[Path, str]]]:
    """An example's photos, and pictures by the ready adapter that was taught from them."""
    for key, _, photos, _ in example_sets(purpose):
        file = ASSETS / "adapters" / f"{key}.safetensors"
        about = embedded_description(read_header(file)) if file.exists() else None
        if about and (about.method == "textual_inversion") == (purpose == "word"):
            drawn = sorted(file.with_suffix("").glob("*.png"))
            return photos[:3], [(path, (read_record(path) or {})["prompt"]) for path in drawn]
    return [], []


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
