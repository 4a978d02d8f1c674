"""What runs on the GPU, and nothing else does: on ZeroGPU in a worker's process that is lent for
seconds, elsewhere on the one thread that computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import spaces  # before torch

from personalization.adapters.adapter import read
from personalization.errors import PersonalizationError
from personalization.stacking.stack import Stack
from personalization.training.run import Run

from .compute import alone
from .lending import for_pictures
from .loaded import ON_ZERO, base, compute, spec_of
from .long_work import drawing_seconds
from .session import workspaces

if TYPE_CHECKING:
    from personalization.adapters.extraction import Extracted
    from personalization.evaluation.report import Report
    from personalization.evaluation.ways import Spectrum
    from personalization.events import Event, Finished, SliceEnded, Stage
    from personalization.sampling.guides import Guides
    from personalization.sampling.picture_record import Picture
    from personalization.sampling.settings import Settings, Start
    from personalization.sampling.sweep import Grid, Sweep
    from personalization.stacking.bake import Merged
SLICE = int(os.environ.get("PERSONALIZATION_SLICE", "60"))  # seconds of one allocation on ZeroGPU
MARGIN = 10  # of these, to load, to save and to leave
PART = 15  # seconds of a report off ZeroGPU: between two parts others have their turn
UNKNOWN = 5.0  # seconds of a picture, where the card's speed is not known
# Seconds that a report may take, about; on ZeroGPU they are the visitor's.
REPORT = int(os.environ.get("PERSONALIZATION_REPORT", "30" if ON_ZERO else "60"))


def _there(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where it computes: ZeroGPU's worker is a process; elsewhere it is a thread."""
    return function if ON_ZERO else alone(compute, function)


@contextmanager
def in_words() -> Iterator[None]:
    """A sentence leaves ZeroGPU's worker only as a `gr.Error`."""
    try:
        yield
    except PersonalizationError as error:
        if ON_ZERO:
            raise gr.Error(str(error)) from error
        raise


@_there
@spaces.GPU(duration=lambda _folder, seconds, _stop=None: (seconds or SLICE - MARGIN) + MARGIN)
def gpu_train(
    folder: Path, seconds: int | None, stop: Callable[[], bool] | None = None
) -> Iterator[Event]:
    """One slice of a run; `stop` ends it where it is computed in this process."""
    from personalization.training.loop import train

    with in_words():
        run = Run.open(folder)
        cache = workspaces().cache
        yield from train(base(run.base), run, seconds=seconds, stop=stop, cache=cache)


@_there
@spaces.GPU(duration=2 * MARGIN)
def gpu_finish(folder: Path) -> Finished:
    """An adapter of a run's last checkpoint."""
    from personalization.training.loop import finish

    with in_words():
        run = Run.open(folder)
        return finish(base(run.base), run)


@_there
@spaces.GPU(duration=lambda _folder, part: part + MARGIN)
def gpu_measure(folder: Path, part: int) -> Iterator[Stage | SliceEnded | Report]:
    """One part of a finished run's report, of about `part` seconds."""
    from personalization.evaluation.evaluate import reporting

    with in_words():
        run = Run.open(folder)
        yield from reporting(base(run.base), run, seconds=REPORT, part=part)


@_there
@spaces.GPU(duration=lambda _folder, _without, seconds, _stop=None: (seconds or SLICE) + MARGIN)
def gpu_spectrum(
    folder: Path,
    without: tuple[str, ...],
    seconds: int | None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Event | Report | Spectrum]:
    """One slice of every way of teaching a finished run's photos; `stop` as in `gpu_train`."""
    from personalization.evaluation import ways

    with in_words():
        run, part = Run.open(folder), ways.Slice(seconds, PART, stop)
        runs, missing = ways.queue(base(run.base), run, without)
        yield from ways.teaching(
            base(run.base), run, runs, missing, report_seconds=REPORT, slice=part
        )


def _drawing(
    name: str,
    stack: Stack,
    settings: Sequence[Settings],
    _start: Start | None = None,
    guides: Guides | None = None,
) -> int:
    """Seconds to ask for; what guides a picture is loaded first."""
    spec = spec_of(name)
    each = [(drawing_seconds(spec, one, stack), one.count) for one in settings]
    known = sum((seconds or UNKNOWN * stack.passes) * count for seconds, count in each)
    guided = guides and (guides.reference or guides.structure)
    return for_pictures(known, MARGIN) + (MARGIN if guided else 0)


@_there
@spaces.GPU(duration=_drawing)
def gpu_draw(
    name: str,
    stack: Stack,
    settings: Sequence[Settings],
    start: Start | None = None,
    guides: Guides | None = None,
) -> list[Picture]:
    """Pictures with a stack on the base of that name."""
    from personalization.sampling.generate import draw
    from personalization.sampling.guides import NO_GUIDES
    from personalization.stacking.application import applied

    guides = guides or NO_GUIDES
    with in_words(), applied(base(name), stack):
        drawn = [
            draw(base(name), each, stack=stack, start=start, guides=guides) for each in settings
        ]
        return [picture for pictures in drawn for picture in pictures]


@_there
@spaces.GPU(duration=60)
def gpu_extract(name: str, fine_tune: Path, rank: int) -> Extracted:
    """A full fine-tune's file as a LoRA."""
    from personalization.adapters.extraction import extract

    with in_words():
        return extract(base(name), read(fine_tune), rank)


def _sweeping(name: str, plan: Sweep) -> int:
    """Seconds to ask for: as of so many drawings."""
    cells = tuple(cell.settings for row in plan.rows() for cell in row)
    return _drawing(name, plan.stack, cells, None, plan.guides)


@_there
@spaces.GPU(duration=_sweeping)
def gpu_sweep(name: str, plan: Sweep) -> Grid:
    """The same picture along one or two settings."""
    from personalization.sampling.sweep import sweep

    with in_words():
        return sweep(base(name), plan)


@_there
@spaces.GPU(duration=30)
def gpu_merge(name: str, stack: Stack, title: str) -> Merged:
    """The stack as one adapter."""
    from personalization.stacking.bake import merged

    with in_words():
        return merged(base(name), stack, title=title)
