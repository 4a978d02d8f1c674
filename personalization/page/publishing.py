"""An adapter onto the Hub: its name, who sees it, its licence; the card as it will be; the link."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from personalization.bases.catalog import BaseSpec
from personalization.errors import PersonalizationError
from personalization.sharing.licences import terms_of
from personalization.sharing.model_card import SWEEP, cell
from personalization.training.run import Run
from personalization.workspaces.library import Entry, slug
from personalization.workspaces.workspace import Workspace

from . import html
from .exchange import BUSY, CAN_SIGN_IN, TakeAway
from .loaded import spec_of
from .messages import user_message
from .session import Values, library_of, page_workspace

if TYPE_CHECKING:
    from personalization.sharing.publish import Prepared
    from personalization.sharing.upload import Uploaded

NOT_HERE = (
    "Publishing wants a sign-in with Hugging Face, which an app on a Space has. Here you can look "
    "at the card; “Make files” gives you the files."
)
WHAT = "The adapter that is chosen above, with a card that says how well it worked."


class Publishing:
    """The adapter that `take` has chosen, as a repository."""

    def __init__(self, take: TakeAway) -> None:
        self.take, self.adapter_list = take, take.adapter_list
        with gr.Accordion(
            "Publish on the Hugging Face Hub", open=False, elem_id="stack-publish"
        ) as self.fold:
            gr.HTML(html.hint(WHAT))
            if CAN_SIGN_IN:
                gr.LoginButton(size="sm", min_width=220, elem_id="publish-sign-in")
            else:
                gr.HTML(html.hint(NOT_HERE))
            with gr.Row():
                self.name = gr.Textbox(
                    label="Name", placeholder="mug-lora", max_lines=1, min_width=160,
                    elem_id="publish-name",
                )  # fmt: skip
                self.licence = gr.Dropdown(
                    [], label="Licence", min_width=160, elem_id="publish-licence"
                )
            self.terms = gr.HTML(elem_id="publish-terms")
            with gr.Row():
                self.private = gr.Checkbox(True, label="Only I see it", min_width=160)
                self.photos = gr.Checkbox(
                    False, label="Upload my photos too", min_width=160, elem_id="publish-photos"
                )
            with gr.Row():
                self.look = gr.Button("Look at the card", min_width=170, elem_id="publish-look")
                self.publish = gr.Button(
                    "Publish", variant="primary", min_width=110, elem_id="publish-go"
                )
            self.notes = gr.HTML(elem_id="publish-notes")
            with gr.Accordion("The card", open=True, visible=False) as self.shown:
                self.card = gr.Markdown(elem_id="publish-card", max_height=480)

    @property
    def rebased(self) -> list[Any]:
        """What `for_base` updates."""
        return [self.licence, self.terms]

    def for_base(self, spec: BaseSpec) -> dict:
        """What the base's licence allows."""
        terms = terms_of(spec.licence)
        return {
            self.licence: gr.update(choices=list(terms.licences), value=terms.licences[0]),
            self.terms: html.hint(escape(terms.condition)),
        }

    def wire(self) -> None:
        """Look first, publish then."""
        listed = self.adapter_list
        asked: set[Any] = {
            *(listed.visitor, listed.base, self.take.which),
            *(self.name, self.licence, self.private, self.photos),
        }
        self.look.click(self.show_card, asked, [self.notes, self.shown, self.card], **BUSY)
        self.publish.click(self.go, asked, [self.notes], **BUSY)

    def prepared(self, values: Values) -> Prepared:
        """What will be uploaded. Raises `PersonalizationError`."""
        name = values[self.take.which]
        if not name:
            raise PersonalizationError(html.NOTHING_TO_TAKE)
        asked = Asked(
            name, values[self.name] or "", values[self.licence] or "",
            values[self.private], values[self.photos],
        )  # fmt: skip
        workspace = page_workspace(values[self.adapter_list.visitor])
        return made(workspace, asked, spec_of(values[self.adapter_list.base]))

    def show_card(self, values: Values) -> dict:
        """The card as it will be, and what lies beside it."""
        try:
            ready = self.prepared(values)
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        _, _, body = ready.card.split("---\n", 2)
        content = ready.content(ready.published)
        size = sum(map(len, content.values()))
        files = ", ".join(sorted(content))
        return {
            self.notes: html.hint(escape(f"{len(content)} files, {size / 1e6:.1f} MB: {files}")),
            self.shown: gr.update(visible=True),
            self.card: with_pictures(body, ready),
        }

    def go(self, values: Values, token: gr.OAuthToken | None) -> dict:
        """Publish, and say where it is."""
        from personalization.sharing.upload import upload

        try:
            done = upload(self.prepared(values), token.token if token else "")
            workspace = page_workspace(values[self.adapter_list.visitor])
            remember(workspace, values[self.take.which], done)
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {self.notes: html.published(done.address, done.version, done.changes)}


def remember(owner: Workspace, name: str, done: Uploaded) -> None:
    """Where an adapter is now, so that its versions are found again."""
    owner.publications.remember(name, done.repository, owner.library.entry(name).path)


@dataclass(frozen=True)
class Asked:
    """What somebody wants to publish: an adapter of a library, under which name and licence."""

    adapter: str
    repository: str  # without the owner; empty for the adapter's own name
    licence: str
    private: bool = True
    photos: bool = False


def made(owner: Workspace | None, asked: Asked, spec: BaseSpec) -> Prepared:
    """What will be uploaded, with the report of the run that it came out of, where that is there.

    Raises `PersonalizationError`.
    """
    from personalization.evaluation.evidence import Evidence
    from personalization.evaluation.report import Report
    from personalization.evaluation.spectrum_files import Kept
    from personalization.sharing.publish import Wish, prepare

    library = library_of(owner)
    entry, adapter = library.entry(asked.adapter), library.get(asked.adapter)
    run = run_of(owner, entry) if owner else None
    photos: tuple[Image.Image, ...] = ()
    if asked.photos and run:
        photos = tuple(photo.image for photo in run.concept.photos)
    name = asked.repository.strip() or slug(entry.name)
    wish = Wish(name, asked.private, asked.licence, photos)
    report = Report.open(run.folder) if run else None
    judged = Evidence.open(run.folder, report, adapter.description) if run and report else None
    return prepare(adapter, spec, wish, report, judged, Kept.open(run.folder) if run else None)


def run_of(workspace: Workspace, entry: Entry) -> Run | None:
    """The run that an adapter of the library came out of, where it is still there."""
    for run in workspace.runs():
        if run.adapter_path.exists() and any(
            copy.name == entry.name for copy in workspace.library.copies(run.adapter_path)
        ):
            return run
    return None


def with_pictures(card: str, ready: Prepared) -> str:
    """The card with its pictures inside: the repository that has them is not there yet."""

    def inside(path: str) -> str:
        return f"(data:image/webp;base64,{base64.b64encode(ready.files[path]).decode()})"

    gallery = " ".join(f"![{cell(said)}]{inside(path)}" for path, said in ready.published.pictures)
    card = card.replace("<Gallery />", gallery, 1)
    return card.replace(f"({SWEEP})", inside(SWEEP), 1) if SWEEP in ready.files else card
