"""The word of a teaching tab: what is typed, and how the base reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from personalization.data.concept import Kind
from personalization.recipe import LearnedEmbedding
from personalization.training.start import check_new

from . import html
from .loaded import base as loaded
from .messages import collected
from .runs import pieces_of
from .session import Values

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class WordHints:
    """What the fields of a tab say."""

    placeholder_token: str
    label: str  # of the class noun
    info: str
    placeholder: str
    elem_id: str


class WordForm:
    """The placeholder token, the class noun, and the kind of what is taught."""

    def __init__(self, purpose: str, hints: WordHints):
        self.is_word = purpose == "word"
        gr.HTML(html.section(2, "The word"))
        with gr.Row():
            self.placeholder_token = gr.Textbox(
                hints.placeholder_token,
                label="New word",
                info="Means nothing yet.",
                max_lines=1,
                min_width=140,
                elem_id=f"{purpose}-token",
            )
            self.class_noun = gr.Textbox(
                label=hints.label,
                info=hints.info,
                placeholder=hints.placeholder,
                max_lines=1,
                min_width=140,
                elem_id=hints.elem_id,
            )
        self.kind = gr.Radio(list(KINDS), value="object", label="Kind", elem_id=f"{purpose}-kind")
        self.chips = gr.HTML(elem_id=f"{purpose}-chips")
        self.notes = gr.HTML(elem_id=f"{purpose}-word-notes")
        self.fields = [self.placeholder_token, self.class_noun, self.kind]
        self.shown = [self.chips, self.notes]  # by `read`

    def read(self, base: str, values: Values) -> dict:
        """How the base reads the word, as it is typed."""
        placeholder_token, class_noun = values[self.placeholder_token], values[self.class_noun]
        errors: list[str] = []
        pieces: list[str] = []
        start: list[str] = []
        with collected(errors):
            pieces, start = pieces_of(base, placeholder_token), pieces_of(base, class_noun)
            if placeholder_token:
                learned = LearnedEmbedding() if self.is_word else None
                check_new(loaded(base), placeholder_token, learned)
        unknown = (
            f"The base does not know “{class_noun}” and reads it in {len(start)} pieces: "
            "a simpler word works better."
        )
        warnings = [unknown] if len(start) > len(class_noun.split()) else []
        return {
            self.chips: html.word_chips(placeholder_token, pieces, start, self.is_word),
            self.notes: html.problems(errors) + html.warnings(warnings),
        }

    def fill(self, about: dict[str, Any], purpose: str) -> dict:
        """The fields of an example set."""
        return {
            self.placeholder_token: about["placeholder_token"][purpose],
            self.class_noun: about["class_noun"],
            self.kind: about["kind"],
        }
