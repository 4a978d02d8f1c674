"""Runs between the tabs and the GPU: taken a slice further, measured, shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from personalization.adapters.adapter import read
from personalization.bases import best_device
from personalization.data.concept import Kind, class_prompt
from personalization.errors import HubError, PersonalizationError, RunError
from personalization.events import Finished, SliceEnded, Stage
from personalization.recipe import Recipe
from personalization.sampling.picture_record import Picture
from personalization.stacking.stack import Stack
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from .gpu import (
    MARGIN,
    PART,
    REPORT,
    SLICE,
    gpu_finish,
    gpu_measure,
    gpu_train,
)
from .html import trigger
from .lending import for_pictures, granted
from .loaded import ON_ZERO, base, spec_of
from .long_work import LONG
from .run_queue import Job, RunQueue, What
from .session import workspaces
from .shares import never, shared
from .spectrum_work import SpectrumView, spectrum_slice
from .stacks import draw_with, stack_of

if TYPE_CHECKING:
    from personalization.evaluation.report import Report
    from personalization.events import Event
    from personalization.training.estimate import Outlook
    from personalization.training.presets import Purpose

_FRAMES = ("a photo of {}", "a photo of {} in the snow", "{} on the moon", "a sketch of {}")


def pieces_of(name: str, text: str) -> list[str]:
    """How the base of that name reads a text today: its tokens, without their end-of-word mark."""
    tokenizer = base(name).text_encoders[0].own_tokenizer
    return [piece.removesuffix("</w>") for piece in tokenizer.tokenize(text)]


def train_slice(run: Run, stopped: Callable[[], bool] = never) -> Iterator[Event]:
    """One slice, as long as its machine allows, and others who wait for it."""
    if not ON_ZERO:
        yield from shared(lambda enough: gpu_train(run.folder, None, enough), stopped)
        return
    whole = _whole(run)
    seconds = SLICE - MARGIN
    if whole is not None:
        left = whole * (1 - run.state.step / run.recipe.steps)
        seconds = min(seconds, round(1.3 * left) + 10)
    yield from granted(lambda lent: gpu_train(run.folder, lent), seconds, MARGIN)


@cache
def run_queue() -> RunQueue:
    """The process's one."""
    return RunQueue(work)


def enqueue(workspace: Workspace, run: Run, what: What, *, then_measure: bool = True) -> Job:
    """Ask the app to learn, to finish or to measure. Raises `RunError` where the queue is full."""
    job = Job.of(
        workspace, run, what, report_seconds(run) if what == "measure" else seconds_left(run)
    )
    job.then_measure = then_measure
    return run_queue().add(job)


def awaited(job: Job, every: float) -> Iterator[Job]:
    """The job, every so many seconds, until it is over; who leaves cancels it.

    Raises `RunError` where it did not do what it was to do.
    """
    try:
        while not job.over.wait(every):
            yield job
    finally:
        if not job.over.is_set():
            run_queue().cancel(job)
    if error := run_queue().error(job.run):
        raise RunError(error)
    if job.stopped.is_set():
        raise RunError("The run was cancelled. What it has learned is kept: continue it.")


def check_here(run: Run) -> None:
    """Raise `RunError` for a run that is being learned elsewhere."""
    if is_away(run):
        raise RunError(
            "This run is on Hugging Face Jobs. Wait until it is back, or cancel the job first."
        )


def is_away(run: Run) -> bool:
    """Whether it is being learned on Hugging Face Jobs."""
    from personalization.sharing.jobs import Sent

    return Sent.of(run) is not None


def seconds_left(run: Run) -> float | None:
    """What it still takes to learn, where it can be told."""
    with suppress(PersonalizationError):
        whole = _whole(run)
        return whole and whole * (1 - run.state.step / run.recipe.steps)
    return None


def _whole(run: Run) -> float | None:
    """Seconds of all of it, with the pictures of its class that are still to be drawn."""
    return prospect(run.base, run.recipe, run.concept.class_prompt()).seconds


def prospect(name: str, recipe: Recipe, class_prompt: str | None) -> Outlook:
    """What a run takes that keeps that class; None: one whose pictures come with the base."""
    from personalization.training.estimate import outlook
    from personalization.training.prior import to_draw

    pictures = None
    if class_prompt is not None:
        pictures = to_draw(base(name), recipe, class_prompt, workspaces().cache)
    return outlook(base(name), recipe, pictures)


def foreseen(name: str, recipe: Recipe, kind: Kind, noun: str) -> Outlook:
    """What a run would take here by that recipe, made to fit; `noun` may not be named yet.

    Raises `RecipeError` for what has no room here.
    """
    from personalization.training.start import fitted

    about = class_prompt(kind, noun.strip()) if noun.strip() else None
    return prospect(name, fitted(base(name), recipe, shared=ON_ZERO), about)


def showing_seconds(name: str, recipe: Recipe) -> float | None:
    """What a run's first pictures take after it, about; None where it is not known."""
    from personalization.sampling import generate, pace

    spec, here = spec_of(name), base(name).device
    few = min(generate.FEW, spec.sampling.steps)
    steps = few if pace.is_slow(spec, here) else spec.sampling.steps
    each = pace.previewed(spec, here, steps, recipe.size(spec.size))
    return each and len(_FRAMES) * each


def beside_it(name: str, purpose: Purpose) -> float | None:
    """Seconds of a run by the base's own recipe, with the pictures of two runs' ends.

    Of the last pictures what is asked for, since by that a day is checked; None: not known.
    """
    from personalization.sampling import pace
    from personalization.training.estimate import outlook

    spec = spec_of(name)
    run = outlook(base(name), spec.recipes[purpose]).seconds
    picture = pace.picture(spec, base(name).device, spec.sampling)
    if run is None or picture is None:
        return None
    drawn = len(_FRAMES) * picture
    return run + drawn + for_pictures(drawn, MARGIN)


def report_seconds(run: Run) -> float:
    """What a finished run's report takes, about; `REPORT` where that cannot be told."""
    from personalization.evaluation.evaluate import expected_seconds

    with suppress(PersonalizationError):
        word = not run.recipe.trains_weights
        told = expected_seconds(spec_of(run.base), best_device(), word=word, seconds=REPORT)
        return told or REPORT
    return REPORT


def work(job: Job) -> None:
    """All of a job, whoever looks: to its end, or until it is stopped."""
    workspace, run = job.workspace, job.run
    if job.what == "measure":
        _measure(job)
        return
    if job.what == "spectrum":
        _spectrum(job)
        return
    run.clear_stop()  # what ended an earlier job
    if job.what == "show":  # learned elsewhere
        _shown(job)
        return
    done = gpu_finish(run.folder) if job.what == "finish" else _learn(job)
    if done is None:
        run.stop()  # a slice forgets it as it begins
        return
    job.view.take(done)
    keep_adapter(workspace, run, done)
    _shown(job)


def _shown(job: Job) -> None:
    """The first pictures of what is learned, and its report after them."""
    show_off(job.run, job.stopped.is_set)
    job.run.clear_stop()
    if job.then_measure and (seconds := report_seconds(job.run)) <= LONG:  # else it is asked for
        run_queue().add(Job.of(job.workspace, job.run, "measure", seconds))


def _learn(job: Job) -> Finished | None:
    """Slice after slice; None where it is stopped."""
    while not job.stopped.is_set():
        for event in train_slice(job.run, job.stopped.is_set):
            if isinstance(event, Finished):
                return event
            if not isinstance(event, SliceEnded):  # others have their turn, or it is stopped
                job.view.take(event)
    return None


def _measure(job: Job) -> None:
    """Part after part, between which others have their turn."""
    from personalization.evaluation.report import Report

    while not job.stopped.is_set():
        for event in measure_part(job.workspace, job.run):
            if isinstance(event, Report):
                return
            if isinstance(event, Stage):
                job.stage = event
                job.view.seconds_left = job.pace.take(event)
        job.pace.done = None


def check_spectrum(workspace: Workspace, run: Run, without: tuple[str, ...]) -> None:
    """Raise `RunError` where there is no such way, or `WorkspaceError` where there is no room."""
    from personalization.evaluation import ways

    ways.check(run, without)
    workspace.make_room(ways.disk(base(run.base), run, without))


def enqueue_spectrum(workspace: Workspace, run: Run, without: tuple[str, ...]) -> Job:
    """Ask the app for every way but those. Raises also `RunError` where the queue is full."""
    check_spectrum(workspace, run, without)
    view = SpectrumView.of(run, without)
    job = Job.of(workspace, run, "spectrum", view.seconds_left)
    job.spectrum, job.without = view, without
    return run_queue().add(job)


def _spectrum(job: Job) -> None:
    """Every way, slice after slice, between which others have their turn."""
    from personalization.evaluation.ways import Spectrum

    assert job.spectrum
    job.run.clear_stop()  # what ended an earlier job
    while not job.stopped.is_set():
        for event in spectrum_slice(job.run, job.without, job.stopped.is_set):
            job.spectrum.take(event)
            job.view.seconds_left = job.spectrum.seconds_left
            if isinstance(event, Spectrum):
                job.workspace.library.renew(job.run.adapter_path)
                return


def measure_part(
    workspace: Workspace, run: Run, each: float | None = None, left: int = 0
) -> Iterator[Stage | SliceEnded | Report]:
    """One part of the report, as long as its machine allows; at its end the library knows.

    `each` is what a picture takes and `left` how many there are, where that has been seen.
    """
    from personalization.bases import encoders
    from personalization.evaluation.report import Report

    part = PART
    if ON_ZERO:
        with suppress(HubError):  # fetched here and now, not in the allocation; else it says why
            encoders.encoder_pair(spec_of(run.base))
        part = min(SLICE - MARGIN, round(1.3 * each * left) + 5 if each else REPORT)
    for event in granted(lambda lent: gpu_measure(run.folder, lent), part, MARGIN):
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
    return [frame.format(words) for frame in _FRAMES]


def show_off(run: Run, stopped: Callable[[], bool] = never) -> list[Picture]:
    """Draw a finished run's showcase, and keep it in the run's folder; `stopped` between batches.

    Where a picture takes minutes, a batch is one: who has left, or had enough, waits for no more.
    """
    from personalization.sampling.generate import per_batch, quick

    loaded = base(run.base)
    usual = quick(loaded, size=run.recipe.resolution)
    settings = [replace(usual, prompt=p, seed=run.recipe.seed) for p in showcase(run)]
    batch = len(settings) if ON_ZERO else per_batch(loaded)  # there the card is lent once for all
    pictures: list[Picture] = []
    while len(pictures) < len(settings) and not stopped():
        of_it = settings[len(pictures) : len(pictures) + batch]
        for picture in draw_with(run.base, own_stack(run), of_it):
            picture.save(run.folder / "pictures" / f"{len(pictures)}.png")
            pictures.append(picture)
    return pictures
