"""The versions of an adapter that is on the Hub: listed, drawn side by side, gone back to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from personalization.adapters.adapter import Description
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.settings import Settings
from personalization.stacking.stack import Slot, Stack
from personalization.workspaces.workspace import Workspace

from . import html, versions_html
from .entered import pressed
from .event_options import CLICK_WITH_KEY, ON_GPU
from .exchange import BUSY, TakeAway
from .messages import user_message
from .session import Values, page_workspace
from .stacks import draw_with

if TYPE_CHECKING:
    from personalization.sharing.versions import Version

SEEDS = 2  # pictures of each prompt
MOST = 4  # prompts, and pictures of each
WHAT = "Of the adapter that is chosen above, published from here or added from the Hub."


def versions_of(workspace: Workspace, name: str, token: str) -> list[Version]:
    """Of an adapter in the library, the newest first. Raises `HubError`, `AdapterError`."""
    from personalization.sharing.going_back import repository_of
    from personalization.sharing.versions import history

    return history(repository_of(workspace, name), token)


def asked(prompts: Sequence[str], seed: int, count: int = SEEDS) -> list[Settings]:
    """What each version draws: every prompt with the same seeds. Raises `RecipeError`."""
    prompts = list(dict.fromkeys(filter(None, map(str.strip, prompts))))
    if not 1 <= len(prompts) <= MOST or not 1 <= count <= MOST:
        raise RecipeError(f"Compare with 1 to {MOST} prompts, and 1 to {MOST} pictures of each.")
    return [Settings(prompt, seed=seed, count=count) for prompt in prompts]


def drawn(
    workspace: Workspace, version: Version, token: str, base: str, settings: Sequence[Settings]
) -> versions_html.Shown:
    """A version on that base, at the strength that it recommends. Raises `HubError`, and others."""
    from personalization.sharing.going_back import adapter_of
    from personalization.sharing.versions import held_by

    adapter = adapter_of(workspace, version, token)
    stack = Stack((Slot(adapter, adapter.description.strength),))
    return versions_html.Shown(version, held_by(version, token), draw_with(base, stack, settings))


class Versions:
    """What `take` names, version by version."""

    def __init__(self, take: TakeAway) -> None:
        self.take, self.adapter_list = take, take.adapter_list
        with gr.Accordion("Versions on the Hub", open=False, elem_id="stack-versions"):
            gr.HTML(html.hint(WHAT))
            self.look = gr.Button("Show the versions", min_width=140, elem_id="versions-look")
            self.notes = gr.HTML(elem_id="versions-notes")
            self.list = gr.HTML(js_on_load=CLICK_WITH_KEY, elem_id="versions-list")
            with gr.Column(visible=False) as self.beside:
                with gr.Row(elem_classes="ask"):
                    self.one = gr.Dropdown([], label="Compare", min_width=90, elem_id="version-one")
                    self.other = gr.Dropdown([], label="with", min_width=90, elem_id="version-two")
                    self.seed = gr.Number(0, label="Seed", precision=0, min_width=80)
                self.prompt = gr.Textbox(
                    label="Prompts, one a line", lines=2, max_lines=MOST, elem_id="versions-prompt"
                )
                self.draw = gr.Button("Draw side by side", min_width=140, elem_id="versions-draw")
            self.comparison = gr.HTML(elem_id="versions-comparison", elem_classes="report-card")

    def wire(self, outputs: list[Any], then: Callable[[Any], None]) -> None:
        """`outputs` are those of the list; `then` follows what changes it."""
        which: set[Any] = {self.adapter_list.visitor, self.adapter_list.base, self.take.which}
        listed = [self.notes, self.list, self.beside, self.one, self.other, self.prompt]
        self.look.click(self.show, which, [*listed, self.comparison], **BUSY)
        asked = {*which, self.one, self.other, self.seed, self.prompt}
        how: dict[str, Any] = {"api_visibility": "private", **ON_GPU}
        self.draw.click(self.side_by_side, asked, [self.notes, self.comparison], **how)
        back = {*self.adapter_list.inputs, self.take.which}
        then(self.list.click(self.go_back, back, [*outputs, self.notes], **BUSY))

    def show(self, values: Values, token: gr.OAuthToken | None) -> dict:
        """The list, and what two of them can be asked for."""
        hidden = {self.list: "", self.beside: gr.update(visible=False), self.comparison: ""}
        try:
            workspace, name = self.chosen(values)
            found = versions_of(workspace, name, said(token))
        except PersonalizationError as error:
            return {**hidden, self.notes: html.problems([user_message(error)])}
        tags = [version.tag for version in found]
        about = workspace.library.entry(name).description
        return {
            **hidden,
            self.notes: "",
            self.list: versions_html.listing(found),
            self.beside: gr.update(visible=len(found) > 1),
            self.one: gr.update(choices=tags, value=tags[min(1, len(tags) - 1)]),
            self.other: gr.update(choices=tags, value=tags[0]),
            self.prompt: "\n".join(prompts_for(about)) if about else "",
        }

    def side_by_side(self, values: Values, token: gr.OAuthToken | None) -> dict:
        """The two that are chosen: the same prompt and seeds, and what their recipes differ in."""
        from personalization.sharing.versions import of_tag

        try:
            workspace, name = self.chosen(values)
            base = values[self.adapter_list.base]
            seed = int(values[self.seed] or 0)
            settings = asked((values[self.prompt] or "").splitlines(), seed)
            found = versions_of(workspace, name, said(token))
            pair = [of_tag(found, values[each] or "") for each in (self.one, self.other)]
            shown = [drawn(workspace, each, said(token), base, settings) for each in pair]
        except (PersonalizationError, gr.Error) as error:
            return {self.notes: html.problems([user_message(error)])}
        return {self.notes: "", self.comparison: versions_html.comparison(*shown)}

    def go_back(self, values: Values, token: gr.OAuthToken | None, event: gr.EventData) -> dict:
        """The version whose button was pressed, in the place of what the library has."""
        from personalization.sharing.going_back import go_back
        from personalization.sharing.versions import of_tag

        listed = self.adapter_list
        try:
            workspace, name = self.chosen(values)
            version = of_tag(versions_of(workspace, name, said(token)), pressed(event))
            gone = go_back(workspace, name, version, said(token))
            shown = listed.show(listed.visit(values), listed.rows_in(values))
        except PersonalizationError as error:
            return {self.notes: html.problems([user_message(error)])}
        return {**shown, self.notes: versions_html.went_back(version, gone)}

    def chosen(self, values: Values) -> tuple[Workspace, str]:
        """Whose adapter, and its name. Raises `PersonalizationError` where there is none."""
        if not (name := values[self.take.which]):
            raise PersonalizationError(html.NOTHING_TO_TAKE)
        return page_workspace(values[self.adapter_list.visitor]), name


def prompts_for(about: Description) -> list[str]:
    """What shows an adapter alone, and in a place."""
    if about.kind == "style":
        return [f"{thing}, {about.trigger} style" for thing in ("a dog", "a house on the beach")]
    return [f"a photo of {about.trigger}", f"a photo of {about.trigger} on the beach"]


def said(token: gr.OAuthToken | None) -> str:
    """Who is signed in; "" for nobody."""
    return token.token if token else ""
