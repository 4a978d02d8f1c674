"""The app: three tabs on one page, `python app.py`.

What learns and draws is in `personalization`, what a visitor sees and does in
`personalization.page`; here they are put together and served.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import spaces  # noqa: F401 - before torch: on ZeroGPU it takes the devices' place

from personalization.bases.spec import ASSETS
from personalization.errors import WorkspaceError
from personalization.page import html
from personalization.page.common import (
    BASE,
    ON_ZERO,
    QUIET,
    WORKSPACES,
    base,
    collected,
    device,
    remembered,
)
from personalization.page.endpoints import build_endpoints
from personalization.page.gpu import showcase
from personalization.page.stack import StackTab, remember
from personalization.page.teach import SUBJECT, WORD, TeachTab
from personalization.page.theme import THEME
from personalization.runs import Run

ARRIVED = "() => document.body.classList.add('arrived')"
ASK_FIRST = "(id) => confirm('Delete your photos, runs, adapters and pictures here?') ? id : ''"
START_ANEW = """(id) => {
    if (id) return;
    Object.keys(localStorage).filter((key) => key.startsWith('personalization'))
        .forEach((key) => localStorage.removeItem(key));
    location.reload();
}"""


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
        if entry.own and entry.description and entry.description.trigger == html.trigger(run)
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
    gr.HTML(html.header(BASE.title, html.device_words(device(), shared=ON_ZERO)), elem_id="head")
    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab(WORD.title, id="word"):
            word_tab = TeachTab(WORD, browser, *kept[WORD])
        with gr.Tab(SUBJECT.title, id="subject"):
            subject_tab = TeachTab(SUBJECT, browser, *kept[SUBJECT])
        with gr.Tab("Stack adapters", id="stack"):
            stack_tab = StackTab(browser, kept_rack)
    with gr.Row(elem_classes="foot"):
        gr.HTML(html.privacy(WORKSPACES.lifetime))
        forget_me = gr.Button("Forget me", size="sm", scale=0, min_width=110, elem_id="forget-me")
    build_endpoints()

    rack = [kept_rack, *stack_tab.weights]
    for tab in (word_tab, subject_tab):
        onto = [*stack_tab.board, stack_tab.prompt, tabs]
        tab.panel.send.click(send_to_stack, [browser, tab.panel.current, *rack], onto, **QUIET)
        for grown in (tab.panel.turn.change, tab.panel.extract.done.then):
            grown(stack_tab.refresh, [browser, *rack], stack_tab.board, **QUIET)
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
