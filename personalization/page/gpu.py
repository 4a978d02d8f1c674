"""What runs on the GPU, and nothing else does; and what leads there: runs, stacks, pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import spaces  # before torch
from PIL import Image

from personalization.adapters.adapter import Adapter
from personalization.adapters.module_keys import check_targets
from personalization.bases import schedulers
from personalization.data.concept import Concept, Kind, check_photos
from personalization.data.photos import Photo
from personalization.errors import HubError, PersonalizationError
from personalization.evaluation import encoders
from personalization.evaluation.report import Report
from personalization.events import Event, Finished, SliceEnded, Stage
from personalization.recipe import Full, LearnedEmbedding, LowRank, Recipe
from personalization.sampling.generate import Picture, Settings
from personalization.sampling.sweep import Axis, Grid
from personalization.stacking.bake import Merged
from personalization.stacking.stack import Slot, Stack, record
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html
from .common import ON_ZERO, WORKSPACES, base, check_new, check_start, spec_of
from .compute import Compute

if TYPE_CHECKING:
    from personalization.adapters.extraction import Extracted

SLICE = int(os.environ.get("PERSONALIZATION_SLICE", "60"))  # seconds of one allocation on ZeroGPU
MARGIN = 10  # of these, to load, to save and to leave
# Seconds that a report may take, about; on ZeroGPU they are the visitor's.
REPORT = int(os.environ.get("PERSONALIZATION_REPORT", "30" if ON_ZERO else "60"))
PART = 15  # of a report, elsewhere: between two parts others have their turn


# ZeroGPU's worker is a process; elsewhere it is a thread.
_there = (lambda function: function) if ON_ZERO else Compute.with_the_cores().alone


@contextmanager
def told() -> Iterator[None]:
    """A sentence leaves ZeroGPU's worker only as a `gr.Error`."""
    try:
        yield
    except PersonalizationError as error:
        if ON_ZERO:
            raise gr.Error(str(error)) from error
        raise


@_there
@spaces.GPU(duration=lambda folder, seconds: (seconds or SLICE - MARGIN) + MARGIN)
def gpu_train(folder: Path, seconds: int | None) -> Iterator[Event]:
    """One slice of a run."""
    from personalization.training.loop import train

    with told():
        run = Run.open(folder)
        yield from train(base(run.base), run, seconds=seconds, cache=WORKSPACES.root / "cache")


@_there
@spaces.GPU(duration=30)
def gpu_finish(folder: Path) -> Finished:
    """An adapter of a run's last checkpoint."""
    from personalization.training.loop import finish

    with told():
        run = Run.open(folder)
        return finish(base(run.base), run)


@_there
@spaces.GPU(duration=lambda folder, part: part + MARGIN)
def gpu_measure(folder: Path, part: int) -> Iterator[Stage | SliceEnded | Report]:
    """One part of a finished run's report, of about `part` seconds."""
    from personalization.evaluation.evaluate import reporting

    with told():
        run = Run.open(folder)
        yield from reporting(base(run.base), run, seconds=REPORT, part=part)


@_there
@spaces.GPU(duration=30)
def gpu_draw(
    name: str,
    stack: Stack,
    settings: Sequence[Settings],
    records: Sequence[dict[str, Any]],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures with a stack on the base of that name; `records` say which adapters it holds."""
    from personalization.sampling.generate import draw
    from personalization.stacking.application import applied

    how = {"combine": stack.combine, "density": stack.density, "rank": stack.rank}
    with told(), applied(base(name), stack):
        drawn = [draw(base(name), s, image=image, mask=mask, adapters=records) for s in settings]
        return [replace(p, record=p.record | how) for pictures in drawn for p in pictures]


@_there
@spaces.GPU(duration=60)
def gpu_extract(name: str, fine_tune: Path, rank: int) -> Extracted:
    """A full fine-tune's file as a LoRA."""
    from personalization.adapters.adapter import read
    from personalization.adapters.extraction import extract

    with told():
        return extract(base(name), read(fine_tune), rank)


@_there
@spaces.GPU(duration=60)
def gpu_sweep(
    name: str, stack: Stack, settings: Settings, across: Axis, down: Axis | None = None
) -> Grid:
    """The same picture along one or two settings."""
    from personalization.sampling.sweep import sweep

    with told():
        return sweep(base(name), stack, settings, across, down)


@_there
@spaces.GPU(duration=30)
def gpu_merge(name: str, stack: Stack, title: str) -> Merged:
    """The stack as one adapter."""
    from personalization.stacking.bake import merged

    with told():
        return merged(base(name), stack, title=title)


# Runs and stacks, between the tabs and the GPU

Named = tuple[str, Adapter, float]  # its name in the library, the adapter, its weight


def stack_of(base_name: str, adapters: Sequence[Named]) -> Stack:
    """Checked against the base before any GPU time."""
    slots = tuple(Slot(adapter, weight) for _, adapter, weight in adapters)
    return Stack(slots).check(spec_of(base_name))


def draw_stack(
    base_name: str,
    adapters: Sequence[Named],
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures, each with the record of what drew it."""
    names = [name for name, _, _ in adapters]
    return draw_with(base_name, names, stack_of(base_name, adapters), settings, image, mask)


def draw_with(
    base_name: str,
    names: Sequence[str],
    stack: Stack,
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """The same with any stack; `names` are those of its adapters in the library."""
    checked = [each.check() for each in settings]
    for each in checked:
        schedulers.check(spec_of(base_name).module, each.scheduler)
    stack = stack.check(spec_of(base_name))
    return gpu_draw(base_name, stack, checked, records_of(names, stack), image, mask)


def records_of(names: Sequence[str], stack: Stack) -> list[dict[str, Any]]:
    """What a picture's record says of the adapters; `name` finds them in the library again."""
    return [
        record(slot)
        | {"name": name, "title": slot.adapter.description.title}
        | {"trigger": slot.adapter.description.trigger}
        for name, slot in zip(names, stack.slots, strict=True)
    ]


def start_run(
    workspace: Workspace,
    base_name: str,
    photos: Sequence[Photo],
    kind: Kind,
    placeholder_token: str,
    class_noun: str,
    recipe: Recipe,
) -> Run:
    """Check everything, then make the run's folder. Raises what is wrong."""
    check_photos(photos)
    check_new(base_name, placeholder_token)
    check_start(class_noun, is_word=isinstance(recipe.method, LearnedEmbedding), kind=kind)
    concept = Concept(kind, placeholder_token, class_noun.strip(), tuple(photos))
    recipe = room_for(base_name, recipe.check())
    if isinstance(recipe.method, LowRank):
        check_targets(base(base_name).modules, recipe.method.targets)
    if isinstance(recipe.method, Full):
        from personalization.training.estimate import outlook

        # The run's file, the library's copy, and a checkpoint of three times twice the precision.
        workspace.make_room(8 * (outlook(base(base_name), recipe).file or 0))
    folder = workspace.new_run_folder(concept.name)
    return Run.create(folder, concept, recipe, spec_of(base_name).name)


def room_for(base_name: str, recipe: Recipe) -> Recipe:
    """The recipe that the device has the memory for. Raises `RecipeError` where there is none."""
    spec = spec_of(base_name)
    if spec.architecture is None:
        return recipe
    from personalization.bases import memory
    from personalization.training.estimate import fitting

    here = base(base_name).device
    free = memory.available(here)
    if free is not None and not ON_ZERO:  # whose worker begins with nothing loaded
        free += memory.weights(spec.architecture)
    return fitting(spec, recipe, free)


def train_slice(run: Run) -> Iterator[Event]:
    """One slice, as long as its machine allows."""
    if not ON_ZERO:
        yield from gpu_train(run.folder, None)
        return
    from personalization.training.estimate import outlook

    seconds = outlook(base(run.base), run.recipe).seconds
    asked = SLICE - MARGIN
    if seconds is not None:
        left = seconds * (1 - run.state.step / run.recipe.steps)
        asked = min(asked, round(1.3 * left) + 10)
    yield from gpu_train(run.folder, asked)


def measure_part(
    workspace: Workspace, run: Run, each: float | None = None, left: int = 0
) -> Iterator[Stage | SliceEnded | Report]:
    """One part of the report, as long as its machine allows; at its end the library knows.

    `each` is what a picture takes and `left` how many there are, where that has been seen.
    """
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


def own_adapter(run: Run) -> Named:
    """What a finished run has learned, at its recommended strength."""
    from personalization.adapters.adapter import read

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
    pictures = draw_stack(run.base, [own_adapter(run)], settings)
    for index, picture in enumerate(pictures):
        picture.save(run.folder / "pictures" / f"{index}.png")
    return pictures
