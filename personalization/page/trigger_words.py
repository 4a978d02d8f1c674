"""The words that call what is on the list: chips under the prompt, and the adapters' labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import gradio as gr

from personalization.data.words import contains
from personalization.stacking.stack import MAX_SLOTS
from personalization.workspaces.library import Entry

from .entered import pressed
from .event_options import UNQUEUED

# As `data.words` finds a word: not by its letters in another one.
CALL_WORD = r"""(prompt, word) => {
    const letters = '[\\p{L}\\p{N}_]', plain = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const alone = new RegExp(`^${letters}|${letters}$`, 'u').test(word);
    const whole = alone ? `(?<!${letters})${plain}(?!${letters})` : plain;
    return new RegExp(whole, 'iu').test(prompt) ? prompt : `${prompt} ${word}`.trim();
}"""


class TriggerWords:
    """A chip for each word; a click puts it into the prompt."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="calls"):
            self.chips = [
                gr.Button("", size="sm", visible=False, min_width=20, scale=0, elem_classes="call")
                for _ in range(MAX_SLOTS)
            ]

    def wire(self, prompt: gr.Textbox, labels: Iterable[gr.HTML]) -> None:
        """labels: of the rows on the list, which call their word too."""
        for chip in self.chips:
            chip.click(None, [prompt, chip], prompt, js=CALL_WORD)
        for label in labels:
            label.click(call_word, prompt, prompt, **UNQUEUED)

    def show(self, entries: Sequence[Entry]) -> dict:
        """The words of these adapters."""
        words = [entry.description.trigger if entry.description else "" for entry in entries]
        words += [""] * (MAX_SLOTS - len(words))
        return {
            chip: gr.update(value=word, visible=bool(word))
            for chip, word in zip(self.chips, words, strict=True)
        }


def call_word(prompt: str, event: gr.EventData) -> str:
    """The prompt with the trigger word that was clicked, unless it calls it already."""
    word = pressed(event)
    joined = f"{prompt.rstrip(' ,')}, {word}" if prompt.strip() else word
    return prompt if contains(prompt, word) else joined
