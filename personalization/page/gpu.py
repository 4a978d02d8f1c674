"""What runs on the GPU, and nothing else does; and what leads there: runs, stacks, pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import spaces  # before torch
from PIL import Image

from personalization import pace
from personalization.adapter import Adapter
from personalization.concept import Concept, Kind, check_photos
from personalization.deltas import check_targets
from personalization.errors import PersonalizationError
from personalization.events import Event, Finished
from personalization.generate import Picture, Settings
from personalization.photos import Photo
from personalization.recipe import Full, LowRank, Recipe, Word
from personalization.runs import Run
from personalization.stack import Slot, Stack
from personalization.workspace import Workspace

from . import html
from .common import BASE, ON_ZERO, WORKSPACES, base, check_new, check_start, device

if TYPE_CHECKING:
    from personalization.extraction import Extracted

SLICE = int(os.environ.get("PERSONALIZATION_SLICE", "60"))  # seconds of one allocation on ZeroGPU
MARGIN = 10  # of these, to load, to save and to leave


@contextmanager
def told() -> Iterator[None]:
    """A sentence leaves ZeroGPU's worker only as a `gr.Error`."""
    try:
        yield
    except PersonalizationError as error:
        if ON_ZERO:
            raise gr.Error(str(error)) from error
        raise


@spaces.GPU(duration=lambda folder, seconds: (seconds or SLICE - MARGIN) + MARGIN)
def gpu_train(folder: Path, seconds: int | None) -> Iterator[Event]:
    """One slice of a run."""
    from personalization.training import train

    with told():
        yield from train(base(), Run.open(folder), seconds=seconds, cache=WORKSPACES.root / "cache")


@spaces.GPU(duration=30)
def gpu_finish(folder: Path) -> Finished:
    """An adapter of a run's last checkpoint."""
    from personalization.training import finish

    with told():
        return finish(base(), Run.open(folder))


@spaces.GPU(duration=30)
def gpu_draw(
    stack: Stack,
    settings: Sequence[Settings],
    records: Sequence[dict[str, Any]],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures with a stack; `records` say which adapters it holds."""
    from personalization.generate import draw
    from personalization.stack import applied

    with told(), applied(base(), stack):
        drawn = [draw(base(), s, image=image, mask=mask, adapters=records) for s in settings]
        return [picture for pictures in drawn for picture in pictures]


@spaces.GPU(duration=60)
def gpu_extract(fine_tune: Path, rank: int) -> Extracted:
    """A full fine-tune's file as a LoRA."""
    from personalization.adapter import read
    from personalization.extraction import extract

    with told():
        return extract(base(), read(fine_tune), rank)


@spaces.GPU(duration=60)
def gpu_sweep(stack: Stack, settings: Settings) -> Image.Image:
    """The same picture at several strengths of the first adapter."""
    from personalization.sweep import sweep

    with told():
        return sweep(base(), stack, settings).image()


# Runs and stacks, between the tabs and the GPU

Named = tuple[str, Adapter, float]  # its name in the library, the adapter, its weight


def stack_of(adapters: Sequence[Named]) -> Stack:
    """Checked before any GPU time."""
    return Stack(tuple(Slot(adapter, weight) for _, adapter, weight in adapters)).check(BASE)


def draw_stack(
    adapters: Sequence[Named],
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures, each with the record of what drew it."""
    records = [
        {"name": name, "title": a.description.title, "trigger": a.description.trigger}
        | {"weight": weight, "sha256": a.sha256}
        for name, a, weight in adapters
    ]
    return gpu_draw(stack_of(adapters), [each.check() for each in settings], records, image, mask)


def start_run(
    workspace: Workspace, photos: Sequence[Photo], kind: Kind, token: str, noun: str, recipe: Recipe
) -> Run:
    """Check everything, then make the run's folder. Raises what is wrong."""
    check_photos(photos)
    check_new(token)
    check_start(noun, is_word=isinstance(recipe.method, Word), kind=kind)
    concept = Concept(kind, token, noun.strip(), tuple(photos))
    if isinstance(recipe.method, LowRank):
        check_targets(base().modules, recipe.method.targets)
    if isinstance(recipe.method, Full) and (size := pace.size(recipe, base())):
        # The run's file, the library's copy, and a checkpoint of three times twice the precision.
        workspace.make_room(8 * size)
    folder = workspace.new_run_folder(concept.name)
    return Run.create(folder, concept, recipe.check(), BASE.name)


def train_slice(run: Run) -> Iterator[Event]:
    """One slice, as long as its machine allows."""
    left = pace.seconds(run.recipe, device()) * (1 - run.state.step / run.recipe.steps)
    yield from gpu_train(
        run.folder, min(SLICE - MARGIN, round(1.3 * left) + 10) if ON_ZERO else None
    )


def keep_adapter(workspace: Workspace, run: Run, done: Finished) -> None:
    """Into the library, where the stack finds it."""
    workspace.library.add(done.adapter, run.concept.name)


def own_adapter(run: Run) -> Named:
    """What a finished run has learned, at its recommended strength."""
    from personalization.adapter import read

    adapter = read(run.adapter_path)
    return run.folder.name, adapter, adapter.description.strength


def showcase(run: Run) -> list[str]:
    """The prompts that a finished run shows itself with."""
    words = html.trigger(run)
    if run.concept.kind == "style":
        things = ("a cat", "a house on the beach", "a mug", "a bird in the forest")
        return [f"{thing}, {words} style" for thing in things]
    frames = ("a photo of {}", "a photo of {} in the snow", "{} on the moon", "a sketch of {}")
    return [frame.format(words) for frame in frames]


def show_off(run: Run) -> list[Picture]:
    """Draw a finished run's showcase, and keep it in the run's folder."""
    settings = [Settings(prompt, seed=run.recipe.seed) for prompt in showcase(run)]
    pictures = draw_stack([own_adapter(run)], settings)
    for index, picture in enumerate(pictures):
        picture.save(run.folder / "pictures" / f"{index}.png")
    return pictures
