"""The app: three tabs on one page, `python app.py`.

What learns and draws is in `personalization`, what a visitor sees and does in
`personalization.page`; here they are put together and served.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from personalization.workspaces import served

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# What Gradio serves lies in a folder of this process. Each component reads it as it is made.
os.environ["GRADIO_TEMP_DIR"] = str(served.new_folder(os.environ.get("GRADIO_TEMP_DIR")))

import gradio as gr
import spaces  # noqa: F401 - before torch: on ZeroGPU it takes the devices' place
from gradio.utils import get_upload_folder

from personalization.bases.catalog import ASSETS
from personalization.errors import WorkspaceError
from personalization.page import html
from personalization.page.address import ARRIVED, HEAD, Address
from personalization.page.base import BaseChoice
from personalization.page.blocks import Page
from personalization.page.door import behind_the_door
from personalization.page.endpoints import build_endpoints
from personalization.page.event_options import QUEUED, UNQUEUED
from personalization.page.housekeeping import forget_all, keep_tidy
from personalization.page.loaded import ON_ZERO, compute, device, spec_of, wait_until_ready
from personalization.page.machine import Machine, first_start
from personalization.page.main_thread import serve
from personalization.page.messages import (
    collected,
    keep_values_out_of_the_log,
    raised,
    user_message,
)
from personalization.page.pictures import BRUSH_IN_HAND
from personalization.page.report import last_result
from personalization.page.session import Values, Visit, remembered, workspaces
from personalization.page.stack_tab import StackTab
from personalization.page.theme import THEME
from personalization.page.things import Things
from personalization.page.training_tab import SUBJECT, WORD, Remembered, TrainingTab
from personalization.workspaces.workspace import LIFETIME

ASK_FIRST = "(id) => confirm('Delete your photos, runs, adapters and pictures here?') ? id : ''"
START_ANEW = """(id) => {
    if (id) return;
    Object.keys(localStorage).filter((key) => key.startsWith('personalization'))
        .forEach((key) => localStorage.removeItem(key));
    location.reload();
}"""


def show_recorded(request: gr.Request) -> dict:
    """The recorded run, where the address asks for it: nothing has to be loaded for that."""
    asked = Address.of(request.query_params)
    if not asked.recorded:
        return {tabs: gr.skip()}
    panel = subject_tab.run_panel
    return {tabs: gr.Tabs(selected="subject"), **panel.show_recorded(whole=not asked.embedded)}


def arrive(values: Values, request: gr.Request) -> dict:
    """Open the visitor's workspace, or give them one; then everything as they left it."""
    asked = Address.of(request.query_params)
    if asked.alone:
        return {browser: gr.skip()}
    wait_until_ready()
    try:
        workspace, fresh = workspaces().open(values[browser]), False
    except WorkspaceError:
        with raised():  # the home cannot be written
            workspace, fresh = workspaces().new(), True
    shown, base = base_choice.restore(values[base_name])
    visit = Visit(workspace, base)
    reply = {
        browser: workspace.id,
        **shown,
        **word_tab.restore(visit, values),
        **subject_tab.restore(visit, values),
        **(stack_tab.welcome(visit) if fresh else stack_tab.restore(visit, values)),
        base_choice.head: say_head(visit),
    }
    if asked.stack or asked.error:
        reply |= stack_tab.open_link(visit, asked) | {tabs: gr.Tabs(selected="stack")}
    if asked.recorded:  # it is there already
        reply = {part: reply[part] for part in reply if part not in subject_tab.run_panel.parts}
    return reply


def choose_base(values: Values) -> Iterator[dict]:
    """Take another base, and fill the forms with what is its own; or say why it cannot be had."""
    yield base_choice.wait()
    try:
        shown, base = base_choice.take(values)
        visit = Visit.open(values[browser], base)
        yield {
            **shown,
            **word_tab.rebase(visit, values),
            **subject_tab.rebase(visit, values),
            **stack_tab.rebase(visit, values),
            base_choice.head: say_head(visit),
        }
    except Exception as error:
        yield base_choice.refuse(values[base_name], user_message(error))


def choose_for_photographs(tab: TrainingTab, values: Values) -> Iterator[dict]:
    """Take the base that a tab's photographs want."""
    yield from choose_base({**values, base_choice.offer: tab.photos.photographs.other()})


def follow_things(values: Values, *, back: bool = False) -> dict:
    """The tabs, once the visitor has deleted, renamed or brought `back` something of theirs."""
    visit = Visit.open(values[browser], values[base_name])
    return {
        **(stack_tab.bring_back(values) if back else stack_tab.refresh(values)),
        **word_tab.follow(visit, values),
        **subject_tab.follow(visit, values),
    }


def then_follow(event: gr.events.Dependency, *, back: bool = False) -> None:
    """Wires what follows a change of the visitor's things, or an undo."""
    tabs_of = (word_tab, subject_tab)
    current: set[Any] = set()
    for tab in tabs_of:
        current |= {tab.run_panel.current, tab.stored.keys, *tab.photos.look}
    outputs = [*stack_tab.board, *word_tab.followed, *subject_tab.followed]
    inputs = {*stack_tab.adapter_list.inputs, *current}
    follow = partial(follow_things, back=back)
    event.then(follow, inputs, list(dict.fromkeys(outputs)), **UNQUEUED)


def say_head(visit: Visit) -> str:
    """The page's first lines, the visitor's last result placed on the spectrum."""
    where = html.device_words(device(), shared=ON_ZERO)
    return html.header(spec_of(visit.base).title, where, *(last_result(visit) or ()))


def place_result(visitor: str, base: str) -> str:
    """The first lines anew, once a run has ended."""
    return say_head(Visit.open(visitor, base))


def sender(current: gr.State, publish: bool) -> Callable[[Values], dict]:
    """What puts the `current` run's adapter onto the stack, and leads there: to `publish` it."""

    def send(values: Values) -> dict:
        board = stack_tab.take_run(values, values[current], publish)
        return {**board, tabs: gr.Tabs(selected="stack")}

    return send


def forget(visitor: str) -> str:
    """Delete the visitor's workspace; an empty answer tells the page to start anew."""
    if not visitor:  # they thought again
        return gr.skip()
    with collected([]):
        forget_all(visitor)
    return ""


with Page(title="Personalization", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as demo:
    # Outside the tabs: a browser's memory inside a tab is not read before that tab is opened.
    browser = remembered("visitor", "")
    kept_list = remembered("rack", [])  # as version 0.1.0 called it
    kept_drawing = remembered("drawing", [])
    kept_word, kept_subject = Remembered.of(WORD), Remembered.of(SUBJECT)
    base_choice = BaseChoice()
    base_name = base_choice.name
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab(WORD.title, id="word"):
            word_tab = TrainingTab(WORD, browser, base_name, kept_word, kept_subject)
        with gr.Tab(SUBJECT.title, id="subject", elem_id="subject-tab"):
            subject_tab = TrainingTab(SUBJECT, browser, base_name, kept_subject, kept_word)
        with gr.Tab("Stack adapters", id="stack"):
            stack_tab = StackTab(browser, base_name, kept_list, kept_drawing)
    Machine()
    things = Things(browser, [kept_word.keys, kept_subject.keys, kept_list])
    with gr.Row(elem_classes="foot"):
        gr.HTML(html.privacy(LIFETIME))
        forget_me = gr.Button("Forget me", size="sm", scale=0, min_width=110, elem_id="forget-me")
    build_endpoints()

    for tab in (word_tab, subject_tab):
        current, listed = tab.run_panel.current, stack_tab.adapter_list.inputs
        result = tab.run_panel.result
        onto = [*stack_tab.board, stack_tab.prompt, stack_tab.publishing.fold, tabs]
        for button in (result.send, result.publish):
            go = sender(current, button is result.publish)
            stack_tab.then_meet(button.click(go, {*listed, current}, onto, **UNQUEUED))
        for grown in (result.report.news.change, result.extract.done.then):
            grown(stack_tab.refresh, listed, stack_tab.board, **UNQUEUED)
        result.report.news.change(place_result, [browser, base_name], base_choice.head, **UNQUEUED)
    things.wire(then_follow, partial(then_follow, back=True))
    forget_me.click(forget, browser, browser, js=ASK_FIRST, **UNQUEUED).then(
        None, browser, None, js=START_ANEW
    )
    stored: set[Any] = {browser, base_name, *kept_word, *kept_subject, kept_list, kept_drawing}
    rebased = [browser, *word_tab.rebased, *subject_tab.rebased, *stack_tab.rebased]
    base_choice.wire(choose_base, stored, rebased)
    for tab in (word_tab, subject_tab):
        tab.photos.photographs.go.click(
            partial(choose_for_photographs, tab),
            stored,
            [*base_choice.parts, *rebased],
            **{**QUEUED, "concurrency_id": "base", "concurrency_limit": 1},
        )
    restored = [
        *(browser, *base_choice.parts, *word_tab.restored, *subject_tab.restored),
        *stack_tab.restored,
        tabs,
    ]
    demo.load(show_recorded, None, [tabs, *subject_tab.run_panel.drawn], **UNQUEUED)
    arrived = demo.load(arrive, stored, list(dict.fromkeys(restored)), **UNQUEUED)
    arrived.then(js=ARRIVED)
    stack_tab.then_meet(arrived)
demo.queue(default_concurrency_limit=4, max_size=64)


def main() -> None:
    """Serve the page; what takes seconds to load is loaded once it answers."""
    os.umask(0o077)  # what it writes, no other user of the machine reads
    lock = served.take(Path(get_upload_folder()))
    logging.basicConfig()
    keep_values_out_of_the_log()
    logging.getLogger("app").setLevel(logging.INFO)  # what the owner wants to know
    if ON_ZERO:
        wait_until_ready()  # ZeroGPU packs what is on the device before the launch
    blocked: list[str] = []
    errors: list[str] = []
    with collected(errors):
        blocked.append(str(workspaces().root.resolve()))
    for error in errors:  # the page says it too, to whoever comes
        logging.getLogger("app").error("%s", error)
    threading.Thread(target=keep_tidy, daemon=True).start()
    demo.launch(
        prevent_thread_lock=True,
        theme=THEME,
        css_paths=ASSETS / "page.css",
        head=HEAD + BRUSH_IN_HAND,
        allowed_paths=[str(ASSETS)],
        blocked_paths=blocked,
        max_file_size="64mb",
        show_error=True,
        enable_monitoring=False,  # how often what was done is nobody else's to know
        state_session_capacity=1000,
        app_kwargs={"lifespan": behind_the_door},
        ssr_mode=False,
        footer_links=["api", "settings"],
        mcp_server=find_spec("mcp") is not None,  # each endpoint a tool for assistants
    )
    try:
        wait_until_ready()
        first_start()
        if ON_ZERO:
            serve()  # until it is interrupted
        demo.block_thread()
    finally:
        compute().close()
        lock.close()


if __name__ == "__main__":
    main()
