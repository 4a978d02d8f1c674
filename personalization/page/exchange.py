"""What comes onto the list from the Hub, and what leaves it as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from gradio.utils import get_space

from personalization.bases.catalog import BaseSpec
from personalization.bases.ready import ReadyAdapter, ready_for
from personalization.errors import PersonalizationError
from personalization.files import scratch
from personalization.workspaces.library import Entry, slug
from personalization.workspaces.workspace import Workspace

from . import html
from .adapter_list import AdapterList
from .adapter_rows import receive
from .combining import Combining
from .entered import pressed
from .event_options import CLICK_WITH_KEY
from .gpu import gpu_merge
from .loaded import spec_of
from .messages import MISSHAPED, collected, user_message
from .session import Values, Visit, library_of, page_workspace
from .uploads import publish_file

if TYPE_CHECKING:
    from personalization.sharing import hub

FORMATS: tuple[Literal["diffusers", "kohya"], ...] = ("diffusers", "kohya")
# A Space whose front matter says hf_oauth; anywhere else there is nobody to sign in with.
CAN_SIGN_IN = bool(get_space() and os.environ.get("OAUTH_CLIENT_ID"))
BUSY: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 4}


def take_from_hub(visit: Visit, found: hub.Found, token: str | None) -> Entry:
    """Download, check and keep an adapter. Raises `HubError`, `AdapterError`, `WorkspaceError`."""
    from personalization.sharing import hub

    visit.workspace.make_room(found.size)
    with scratch(visit.workspace.folder) as folder:
        path = hub.fetch(found, folder, token)
        # What only a sign-in opens has no address for others.
        source = "" if token else f"{found.repository}/{found.name}"
        entry = receive(visit.base, visit.workspace.library, path, found.title, source)
    visit.workspace.publications.remember(entry.name, found.repository, entry.path)
    return entry


def from_hub(visit: Visit, address: str) -> Entry:
    """The adapter at owner/repository[/file], taken once: what a link names is open to anyone.

    Raises as `take_from_hub` does.
    """
    from personalization.sharing import hub

    for entry in visit.workspace.library.list():
        if entry.description and f"{entry.description.source}/".startswith(f"{address}/"):
            return entry
    owner, repository, *file = address.split("/")
    chosen, *_ = hub.adapters_in(f"{owner}/{repository}", file="/".join(file))
    return take_from_hub(visit, chosen, None)


def take_known(visit: Visit, ready: ReadyAdapter) -> Entry:
    """One of the ready adapters, in the revision that is known. Raises as `take_from_hub` does."""
    from personalization.sharing import hub

    for entry in visit.workspace.library.list():
        if entry.description and entry.description.source == ready.key:
            return entry
    where = ready.checkpoint
    found, *_ = hub.adapters_in(where.source, file=ready.file, revision=where.revision)
    return take_from_hub(visit, found, None)


def files_of(owner: Workspace | None, name: str) -> tuple[list[str], list[str]]:
    """Copies of an adapter for other programs, read back and compared; and what is in the way."""
    from personalization.adapters import formats

    adapter = library_of(owner).get(name)
    files: list[str] = []
    errors: list[str] = []
    with scratch() as folder:
        for kind in FORMATS:
            with collected(errors):
                path = folder / f"{slug(name)}-{kind}.safetensors"
                written = formats.export(adapter, path, kind)
                files += [publish_file(owner, file, f"{kind}/{file.name}") for file in written]
    return files, errors


class FromHub:
    """A repository's name; its adapters; one of them, into the library and onto the list."""

    def __init__(self, adapter_list: AdapterList):
        self.adapter_list = adapter_list
        self.found = gr.State([])
        self.ready = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id="stack-ready")
        with gr.Accordion("Add from the Hugging Face Hub", open=False, elem_id="stack-hub"):
            with gr.Row(elem_classes="ask"):
                self.name = gr.Textbox(
                    placeholder="someone/mug-lora",
                    container=False,
                    max_lines=1,
                    scale=3,
                    min_width=170,
                    elem_id="hub-name",
                )
                self.look = gr.Button("Look", scale=1, min_width=90, elem_id="hub-look")
            if CAN_SIGN_IN:
                with gr.Row(elem_classes="ask"):
                    gr.HTML(html.SIGN_IN_HINT)
                    gr.LoginButton(size="sm", scale=0, min_width=220, elem_id="sign-in")
            self.choice = gr.Dropdown([], container=False, visible=False, elem_id="hub-choice")
            self.add = gr.Button("Add to the stack", visible=False, elem_id="hub-add")
            self.notes = gr.HTML(elem_id="hub-notes")

    def wire(self, outputs: list[Any], then: Callable[[Any], None]) -> None:
        """`outputs` are those of the list; `then` follows what changes it."""
        listed = [self.found, self.choice, self.add, self.notes]
        gr.on([self.look.click, self.name.submit], self.list_files, self.name, listed, **BUSY)
        chosen = {*self.adapter_list.inputs, self.found, self.choice}
        then(self.add.click(self.take, chosen, [*outputs, self.notes], **BUSY))
        inputs = set(self.adapter_list.inputs)
        then(self.ready.click(self.take_ready, inputs, outputs, **BUSY))

    def for_base(self, spec: BaseSpec) -> dict:
        """What others made for it."""
        return {self.ready: html.ready_adapters(ready_for(spec))}

    def take_ready(self, values: Values, event: gr.EventData) -> dict:
        """Fetch the one whose button was clicked, and put it onto the list."""
        listed = self.adapter_list
        try:
            visit = listed.visit(values)
            every = {each.key: each for each in ready_for(spec_of(visit.base))}
            if (key := pressed(event)) not in every:
                raise PersonalizationError(MISSHAPED)
            entry = take_known(visit, every[key])
            return listed.with_row(visit, listed.rows_in(values), entry.name)
        except PersonalizationError as error:  # beside the list: the part on the Hub is folded
            return {listed.notes: html.problems([user_message(error)])}

    def list_files(self, name: str, token: gr.OAuthToken | None) -> dict:
        """What the repository has, each file as its header describes it."""
        from personalization.sharing import hub

        nothing = {self.found: [], self.choice: gr.update(visible=False)}
        nothing[self.add] = gr.update(visible=False)
        try:
            every = hub.adapters_in(name, token.token if token else None)
        except PersonalizationError as error:
            return {**nothing, self.notes: html.problems([user_message(error)])}
        good = [each for each in every if each.contents]
        broken = html.problems([each.error for each in every if not each.contents])
        if not good:
            return {**nothing, self.notes: broken}
        choices = [(html.found(each), number) for number, each in enumerate(good)]
        return {
            self.found: good,
            self.choice: gr.update(choices=choices, value=0, visible=True),
            self.add: gr.update(visible=True),
            self.notes: broken,
        }

    def take(self, values: Values, token: gr.OAuthToken | None) -> dict:
        """Download the chosen one, and put it onto the list."""
        listed = self.adapter_list
        found = values[self.found][values[self.choice]]
        try:
            visit = listed.visit(values)
            entry = take_from_hub(visit, found, token.token if token else None)
            shown = listed.with_row(visit, listed.rows_in(values), entry.name)
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {**shown, self.notes: ""}


class TakeAway:
    """One adapter as files for other programs; the whole stack as one adapter."""

    def __init__(self, combining: Combining) -> None:
        self.combining, self.adapter_list = combining, combining.adapter_list
        self.which = gr.Dropdown([], label="To take away or publish", elem_id="take-which")
        with gr.Accordion("Take away", open=False, elem_id="stack-take"):
            self.make = gr.Button("Make files", size="md", elem_id="take-make")
            gr.HTML(html.TAKE_HINT)
            self.files = gr.File(
                show_label=False,
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="take-files",
            )
            with gr.Row(elem_classes="ask"):
                self.title = gr.Textbox(
                    placeholder="A name for the stack as one adapter",
                    container=False,
                    max_lines=1,
                    scale=3,
                    min_width=170,
                    elem_id="take-title",
                )
                self.save = gr.Button("Save as one", scale=1, min_width=110, elem_id="take-save")
            self.notes = gr.HTML(elem_id="take-notes")

    def show(self, entries: Sequence[Entry]) -> dict:
        """The adapters on the list."""
        choices = [(html.called(entry), entry.name) for entry in entries]
        value = entries[0].name if entries else None
        return {self.which: gr.update(choices=choices, value=value)}

    def wire(self) -> None:
        """Make files, and save the stack, when asked to."""
        made = [self.files, self.notes]
        self.make.click(self.make_files, [self.adapter_list.visitor, self.which], made, **BUSY)
        gr.on(
            [self.save.click, self.title.submit],
            self.keep_stack,
            {self.title, *self.combining.inputs},
            [self.notes, self.title, self.adapter_list.add],
            api_visibility="private",
            concurrency_id="gpu",
        )

    def make_files(self, visitor: str, name: str | None) -> dict:
        """Files for diffusers and for kohya's friends, each compared before it is offered."""
        if not name:
            return {self.notes: html.problems([html.NOTHING_TO_TAKE])}
        try:
            files, errors = files_of(page_workspace(visitor), name)
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {
            self.files: gr.update(value=files, visible=bool(files)),
            self.notes: html.warnings(errors),
        }

    def keep_stack(self, values: Values) -> dict:
        """The stack as one adapter, into the library."""
        listed = self.adapter_list
        try:
            visit, stack = listed.visit(values), self.combining.stack(values)
            title = values[self.title].strip() or " + ".join(slot.name for slot in stack.active)
            result = gpu_merge(visit.base, stack, title)
            visit.workspace.library.add(result.adapter, title)
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)])}
        return {
            self.notes: html.hint(html.saved(title, result.residual)),
            self.title: "",
            listed.add: listed.show(visit, listed.rows_in(values))[listed.add],
        }
