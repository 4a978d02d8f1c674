"""Before any training: what one photo gives that the base only looks at, beside its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from personalization.adapters.adapter import Description
from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import READ_REFERENCES
from personalization.data.concept import Kind, check_class_noun, check_photos
from personalization.data.frames import crop
from personalization.errors import PersonalizationError
from personalization.evaluation.prompts import eval_prompts
from personalization.stacking.stack import Stack

from . import html
from .event_options import ON_GPU
from .guides import usable_guides
from .loaded import base as loaded
from .loaded import spec_of
from .messages import user_message
from .pictures import gallery
from .session import Values, page_workspace
from .stacks import draw_with
from .uploads import publish_pictures

if TYPE_CHECKING:
    from personalization.sampling.guides import Guides
    from personalization.sampling.picture_record import Picture

SHOWN = 2  # prompts
PROMISE = (
    "Your first photo is looked at while the picture is drawn; nothing is learned, and it takes "
    "seconds. On the left with your photo, on the right its class alone."
)
ADDS = (
    "That much is there without training: a likeness from one side. Training adds what a glance "
    "cannot: details that stay the same in every picture, a word that calls it in any prompt, a "
    "file to keep, to stack and to share, and a report that measures both beside each other."
)


@dataclass(frozen=True)
class Asked:
    """What the form says: of whom, on which base, what it is, and the photos' keys."""

    visitor: str
    base: str
    class_noun: str
    kind: Kind
    keys: tuple[str, ...]

    def prompts(self) -> list[str]:
        """As a report asks them: of the class, which is all that the base knows of it."""
        about = Description("", "", class_noun=self.class_noun.strip(), kind=self.kind)
        return [prompt.of_class for prompt in eval_prompts(about, SHOWN)]

    def guides(self) -> Guides:
        """The first photo, as what is looked at. Raises what is wrong with it."""
        from personalization.sampling.guides import without_training

        check_class_noun(self.class_noun, needed=self.kind != "style")
        photos = page_workspace(self.visitor).photos(list(self.keys[:1]))
        check_photos(photos)
        square = crop(photos[0], spec_of(self.base).size)
        return without_training(square, self.kind, self.keys[0])


class FirstTry:
    """A button, pictures in pairs, what training adds, and a button that trains from here."""

    def __init__(self, purpose: str) -> None:
        with gr.Column(visible=False, elem_id=f"{purpose}-first-try") as self.column:
            self.go = gr.Button(
                "Try it first with one photo, without training",
                size="md",
                elem_id=f"{purpose}-first-try-go",
            )
            gr.HTML(html.hint(PROMISE))
            self.notes = gr.HTML(elem_id=f"{purpose}-first-try-notes")
            self.pictures = gallery(f"{purpose}-first-try-pictures", visible=False)
            self.adds = gr.HTML(html.hint(ADDS), visible=False)
            self.train = gr.Button(
                "Train from here", visible=False, elem_id=f"{purpose}-first-try-train"
            )
        self.parts = [self.notes, self.pictures, self.adds, self.train]

    def wire(self, entered: set[Any], read: Callable[[Values], Asked]) -> None:
        """`read` says what the form asks for."""

        def drawing(values: Values) -> Iterator[dict]:
            yield from self.draw(read(values))

        self.go.click(drawing, entered, self.parts, api_visibility="private", **ON_GPU)

    def for_base(self, spec: BaseSpec) -> dict:
        """Whether the base reads a reference; what was tried on another is gone."""
        return {self.column: gr.update(visible=spec.family in READ_REFERENCES), **self.clear()}

    def clear(self) -> dict:
        """As it is before the first try."""
        hidden = (self.pictures, self.adds, self.train)
        return {self.notes: "", **dict.fromkeys(hidden, gr.update(visible=False))}

    def draw(self, asked: Asked) -> Iterator[dict]:
        """Pair after pair: with the photo looked at, and the class without it."""
        shown: list[tuple[str, str]] = []
        try:
            drawings = pairs(asked)
            for picture, caption in drawings:
                workspace = page_workspace(asked.visitor)
                ((path, _),) = publish_pictures(workspace, [picture])
                shown.append((path, caption))
                yield {
                    self.notes: "",
                    self.pictures: gr.update(value=[*shown], visible=True, columns=2),
                }
        except (PersonalizationError, gr.Error) as error:
            yield {**self.clear(), self.notes: html.problems([user_message(error)])}
        else:
            yield {self.adds: gr.update(visible=True), self.train: gr.update(visible=True)}


def pairs(asked: Asked) -> Iterator[tuple[Picture, str]]:
    """Each prompt with the photo and without it, with what to say under it."""
    from personalization.sampling.generate import quick
    from personalization.sampling.settings import Settings

    guides, missing = usable_guides(asked.base, asked.guides(), Settings())
    if missing:
        raise PersonalizationError(missing[0], field="reference")
    usual = quick(loaded(asked.base))
    for seed, prompt in enumerate(asked.prompts()):
        settings = replace(usual, prompt=prompt, seed=seed)
        for chosen, said in ((guides, "looking at your photo"), (None, "its class alone")):
            (picture,) = draw_with(asked.base, Stack(()), [settings], guides=chosen)
            yield picture, f"{said}: {prompt}"
