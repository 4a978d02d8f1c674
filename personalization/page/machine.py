"""What this machine can train, and how long it takes; on a Space, how to have one's own."""

from __future__ import annotations

import logging
import os

import gradio as gr
from gradio.utils import get_space

from personalization.bases import best_device
from personalization.training.base_selection import options

from . import html
from .event_options import QUEUED
from .loaded import ON_ZERO, default_base, device, spec_of, wait_until_ready


class Machine:
    """A table of the bases, estimated once somebody wants to know."""

    def __init__(self) -> None:
        with gr.Accordion("What this machine can train", open=False, elem_id="machine") as fold:
            self.table = gr.HTML(html.hint("Estimating …"), elem_id="machine-table")
            if get_space():
                gr.HTML(html.warnings(forgetful()), elem_id="machine-storage")
                with gr.Row(elem_classes="ask"):
                    gr.HTML(html.DUPLICATE)
                    gr.DuplicateButton("Duplicate this Space", elem_id="duplicate")
        fold.expand(table, None, self.table, **QUEUED)


def forgetful() -> list[str]:
    """That what visitors make here is gone after a restart, where it is."""
    kept = not get_space() or os.environ.get("PERSONALIZATION_HOME", "").strip()
    return [] if kept else [html.NO_STORAGE]


def table() -> str:
    """Every base: what a word and a subject take here by its own recipes, or why it cannot be."""
    wait_until_ready()
    own, _ = default_base()
    rows = [
        (each.spec.title, each.why_not, *([] if each.why_not else times(each.spec.name)))
        for each in options(own, best_device())
    ]
    return html.machine(rows, html.device_words(device(), shared=ON_ZERO))


def times(name: str) -> tuple[float | None, float | None]:
    """Seconds of a word and of a subject by the base's own recipes; None where none can tell."""
    from torch import device as torch_device

    from personalization.training.estimate import outlook_on

    spec, here = spec_of(name), torch_device(device())
    word = outlook_on(spec, spec.recipes["word"], here)
    subject = outlook_on(spec, spec.recipes["subject"], here)
    return word.seconds, subject.seconds


def first_start() -> None:
    """Tell the owner, in the log, what the base that is loaded takes here."""
    own, _ = default_base()
    word, subject = times(own.name)
    logging.getLogger("app").info("%s", html.first_start(own.title, word, subject))
    for said in forgetful():
        logging.getLogger("app").warning("%s", said)
