"""Runs between the tabs and the GPU: taken a slice further, measured, shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from personalization.adapters.adapter import read
from personalization.errors import HubError
from personalization.sampling.picture_record import Picture
from personalization.stacking.stack import Stack
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from .gpu import MARGIN, REPORT, SLICE, gpu_measure, gpu_train
from .html import trigger
from .loaded import ON_ZERO, base, spec_of
from .stacks import draw_with, stack_of

if TYPE_CHECKING:
    from personalization.evaluation.report import Report
    from personalization.events import Event, Finished, SliceEnded, Stage

PART = 15  # seconds of a report off ZeroGPU: between two parts others have their turn


def pieces_of(name: str, text: str) -> list[str]:
    """How the base of that name reads a text today: its tokens, without their end-of-word mark."""
    tokenizer = base(name).text_encoders[0].tokenizer
    return [piece.removesuffix("</w>") for piece in tokenizer.tokenize(text)]


def train_slice(run: Run) -> Iterator[Event]:
    """One slice, as long as its machine allows."""
    if not ON_ZERO:
        yield from gpu_train(run.folder, None)
        return
    from personalization.training.estimate import outlook

    whole = outlook(base(run.base), run.recipe).seconds
    seconds = SLICE - MARGIN
    if whole is not None:
        left = whole * (1 - run.state.step / run.recipe.steps)
        seconds = min(seconds, round(1.3 * left) + 10)
    yield from gpu_train(run.folder, seconds)


def measure_part(
    workspace: Workspace, run: Run, each: float | None = None, left: int = 0
) -> Iterator[Stage | SliceEnded | Report]:
    """One part of the report, as long as its machine allows; at its end the library knows.

    `each` is what a picture takes and `left` how many there are, where that has been seen.
    """
    from personalization.evaluation import encoders
    from personalization.evaluation.report import Report

    part = PART
    if ON_ZERO:
        with suppress(HubError):  # fetched here and now, not in the allocation; else it says why
            encoders.encoder_pair(spec_of(run.base))
        part = min(SLICE - MARGIN, round(1.3 * each * left) + 5 if each else REPORT)
    for event in gpu_measure(run.folder, part):
        if isinstance(event, Report):
            workspace.library.renew(run.adapter_path)
        yield event


def keep_adapter(workspace: Workspace, run: Run, done: Finished) -> None:
    """Into the library, where the stack finds it."""
    workspace.library.add(done.adapter, run.concept.name)


def own_stack(run: Run) -> Stack:
    """What a finished run has learned, at its recommended strength."""
    adapter = read(run.adapter_path)
    return stack_of(run.base, [(run.folder.name, adapter, adapter.description.strength)])


def showcase(run: Run) -> list[str]:
    """The prompts that a finished run shows itself with."""
    words = trigger(run)
    if run.concept.kind == "style":
        things = ("a cat", "a house on the beach", "a mug", "a bird in the forest")
        return [f"{thing}, {words} style" for thing in things]
    frames = ("a photo of {}", "a photo of {} in the snow", "{} on the moon", "a sketch of {}")
    return [frame.format(words) for frame in frames]


def show_off(run: Run) -> list[Picture]:
    """Draw a finished run's showcase, and keep it in the run's folder."""
    from personalization.sampling.generate import quick

    usual = quick(base(run.base), size=run.recipe.resolution)
    settings = [replace(usual, prompt=p, seed=run.recipe.seed) for p in showcase(run)]
    pictures = draw_with(run.base, own_stack(run), settings)
    for index, picture in enumerate(pictures):
        picture.save(run.folder / "pictures" / f"{index}.png")
    return pictures
