"""The loop, once: a generator of events over a run's folder.

A step is a function of its number (`batches`), and the checkpoint holds the trainable tensors, the
optimizer's and the number. So a run cut into slices is the run in one piece, bit for bit on a CPU,
and an allocation that ends, a cancel, a kill and a full disk are all the same case: continue.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from personalization.bases.base import Base
from personalization.errors import RunError, is_out_of_memory
from personalization.events import Event, Finished, Looked, SliceEnded, Stage
from personalization.methods import installed
from personalization.recipe import Recipe
from personalization.training import previews, processes
from personalization.training.annotations import looking
from personalization.training.cores import Cores, shared_cores
from personalization.training.objective import Objective
from personalization.training.prior import PER_BATCH, ClassImages, class_images
from personalization.training.run import Run
from personalization.training.session import Session, time_left
from personalization.training.timing import Clock


def train(
    base: Base,
    run: Run,
    *,
    seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
    cache: Path | None = None,
) -> Iterator[Event]:
    """Train one slice of `run`; ends with `SliceEnded` or `Finished`.

    `seconds` is what the slice may take in all, the last checkpoint included; `stop()` ends it
    after the step at hand, as `run.stop()` does. Class images lie in `cache`, shared by content.
    Raises `RunError` when the loss is no number or the disk is full; the last checkpoint stays.
    """
    end = _End(run, Clock(seconds), stop)
    run.clear_stop()
    with run.locked(), base.lock:
        if run.state.status == "finished":
            yield Finished(run.state.step, run.adapter_path, run.state.seconds, False)
            return
        try:
            yield from _slice(base, run, end, cache or run.folder / "cache")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"The memory is full. The run is kept up to step {run.state.step}: close what else "
                "needs memory, then continue; or teach anew with smaller photos or a smaller base."
            ) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise RunError(
                f"The disk is full. The run is kept up to step {run.state.step}: "
                "delete old runs or adapters, then continue."
            ) from error


def finish(base: Base, run: Run) -> Finished:
    """Make an adapter of the last checkpoint, as it is. Raises `RunError` before the first."""
    with run.locked(), base.lock:
        if not run.checkpoint_path.exists():
            raise RunError("Nothing has been learned yet: the run ended before its first step.")
        with installed(base, run.concept, run.recipe) as method:
            session = Session(base, run, method)
            session.restore()
            return session.finish()


@dataclass(frozen=True)
class _End:
    """When the slice ends: its time is over, or somebody stops it."""

    run: Run
    clock: Clock
    stop: Callable[[], bool] | None

    def before(self, seconds: float) -> bool:
        """Whether it comes before that many seconds have passed, as the first process sees it."""
        return processes.agreed(self.before_here(seconds))

    def before_here(self, seconds: float) -> bool:
        """Whether it does as this process sees it."""
        stopped = self.run.stop_requested or bool(self.stop and self.stop())
        return stopped or self.clock.out_of_time(seconds)


def _slice(base: Base, run: Run, end: _End, cache: Path) -> Iterator[Event]:
    if images := class_images(base, run, cache):
        if run.writes:
            yield from _class_images(run, images, end)
        if processes.agreed(images.missing() > 0):
            yield SliceEnded(run.state.step, run.recipe.steps)
            return
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with installed(base, run.concept, run.recipe) as method, _recomputing(base, run.recipe):
        session = Session(base, run, method)
        seen = yield from looking(base, run)
        run.keep_contents(seen.contents)
        objective = Objective(base, run, seen, method, cache)
        session.restore()
        session.continue_log()
        if looked := previews.seen(base, run, objective.subject):
            yield Looked(looked)
        with shared_cores(base.device) as cores:
            yield from _steps(session, objective, end, cores)


def _class_images(run: Run, images: ClassImages, end: _End) -> Iterator[Stage]:
    """Draw those that are missing, as far as the slice goes."""
    timing = time_left(images.base, run.recipe)
    record = partial(timing.record, "class images")
    for stage in images.draw(end.before_here, record):
        batches = -(-(stage.total - stage.done) // PER_BATCH)
        left = timing.left(run.state.step, batches)
        yield replace(stage, seconds_left=left or None)


def _steps(session: Session, objective: Objective, end: _End, cores: Cores) -> Iterator[Event]:
    """Step, preview, save; at the end of the slice save, at that of the run make the adapter."""
    recipe = session.recipe
    while session.step < recipe.steps and not recipe.settled(session.fixed_batch_losses):
        if end.before(session.margin()):
            yield from session.flush()
            yield session.checkpoint()
            yield SliceEnded(session.step, recipe.steps)
            return
        cores.fit()
        yield from session.advance(objective)
        if recipe.preview_every and session.step % recipe.preview_every == 0:
            yield session.preview()
        if session.step % recipe.checkpoint_every == 0 and session.step < recipe.steps:
            yield session.checkpoint()
    yield from session.flush()
    yield session.checkpoint()
    yield session.finish()


@contextmanager
def _recomputing(base: Base, recipe: Recipe) -> Iterator[None]:
    """Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) of the denoiser, if asked for."""
    denoiser: Any = base.denoiser
    if recipe.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if recipe.gradient_checkpointing:
            denoiser.disable_gradient_checkpointing()
