"""Before work of more than ten minutes: what it takes, whether to begin, and what is quicker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gradio as gr

from personalization.bases import best_device
from personalization.bases.catalog import BaseSpec, Sampling
from personalization.errors import RecipeError
from personalization.sampling.settings import Settings
from personalization.training.presets import SMALLER

from . import html
from .loaded import ON_ZERO

if TYPE_CHECKING:
    from personalization.sampling.sweep import Sweep
    from personalization.stacking.stack import Stack

LONG = 600.0  # seconds, from which on it asks
SIZES = SMALLER  # pixels a side of the photos that are offered


class LongWork:
    """A note and its buttons, hidden until they are needed."""

    def __init__(self, purpose: str, begin: str, sizes: Sequence[int] = SIZES):
        self.sizes = sizes
        self.note = gr.HTML(elem_id=f"{purpose}-long")
        with gr.Row(visible=False, elem_classes="settings wide") as self.row:
            self.go = gr.Button(begin, size="sm", elem_id=f"{purpose}-long-go")
            self.smaller = [
                gr.Button("", size="sm", visible=False, elem_id=f"{purpose}-long-{size}")
                for size in sizes
            ]
        self.parts = [self.note, self.row, *self.smaller]

    def hide(self) -> dict:
        """Nothing to ask."""
        return self.ask("", {})

    def ask(self, sentence: str, quicker: dict[int, float]) -> dict:
        """Say it, and offer photos of these sizes with the seconds that they would take."""
        return {
            self.note: html.warnings([sentence] if sentence else []),
            self.row: gr.update(visible=bool(sentence)),
            **{
                button: gr.update(
                    visible=size in quicker,
                    value=f"Photos of {size} px: {html.duration(quicker.get(size, 0))}",
                )
                for size, button in zip(self.sizes, self.smaller, strict=True)
            },
        }


def drawing_seconds(spec: BaseSpec, settings: Settings, stack: Stack | None = None) -> float | None:
    """Of one picture on this machine, as far as it can be told; with a stack at most."""
    from personalization.sampling.pace import picture

    usual = settings.fast and spec.fast.sampling if spec.fast else spec.sampling
    own = usual or spec.sampling
    guidance = own.guidance if settings.guidance is None else settings.guidance
    seconds = picture(spec, best_device(), Sampling(settings.steps or own.steps, guidance))
    return seconds and seconds * (stack.passes if stack else 1)


def sheet_seconds(spec: BaseSpec, plan: Sweep) -> float | None:
    """Of all pictures of a sweep, each by its own settings."""
    each = [drawing_seconds(spec, c.settings, c.stack) for row in plan.rows() for c in row]
    return None if None in each else sum(seconds or 0.0 for seconds in each)


def check_confirmed(seconds: float | None, confirm: bool) -> None:
    """Refuse a program what takes long, unless it says that it knows. Raises `RecipeError`."""
    if not (ON_ZERO or confirm or seconds is None or seconds <= LONG):
        raise RecipeError(
            f"{sentence('This', seconds)} Send it again with confirm as true to begin all the "
            "same.",
            field="confirm",
        )


def passes(stack: Stack) -> list[str]:
    """Where the model is asked more than once at a step: how often, and what for."""
    if stack.passes == 1:
        return []
    what = "place" if stack.has_regions else "adapter"
    return [f"Each step asks the model up to {stack.passes} times, once for each {what}."]


def sentence(what: str, seconds: float, others: Sequence[str] = ()) -> str:
    """That it takes long, and which other ways there are."""
    return " ".join([f"{what} takes {html.duration(seconds)} on this machine.", *others])
