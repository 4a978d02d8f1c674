"""What a slice holds in memory: nothing that the run's folder could not give again."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.formats import diffusers_metadata
from personalization.bases.base import Base
from personalization.errors import RunError
from personalization.events import Checkpointed, Finished, Preview, StepDone
from personalization.methods import Method
from personalization.recipe import FIXED_BATCH_EVERY, Recipe
from personalization.training import previews, prior, processes
from personalization.training.objective import Objective
from personalization.training.run import LossRow, Run, State
from personalization.training.timing import WINDOW, TimeLeft
from personalization.training.trainable import Trainable

REPORT_EVERY = 10  # steps between two looks at the loss on CUDA, where each look is a sync


class Session:
    """A method installed in a base, as far as the run has come."""

    def __init__(self, base: Base, run: Run, method: Method):
        self.base = base
        self.run = run
        self.recipe = run.recipe
        self.method = method
        self.trainable = Trainable(method, run.recipe, base.device)
        self.timing = time_left(base, run.recipe)
        self.step = 0
        self.spent = run.state.seconds
        self.mark = time.monotonic()  # when the last part ended
        self.pending: list[tuple[int, Tensor]] = []  # losses, on the device until looked at
        self.fixed_batch_losses: list[float] = []

    # From and to the folder

    def restore(self) -> None:
        """Continue from the last checkpoint, or start."""
        if checkpoint := self.run.load_checkpoint():
            tensors, self.step, self.spent = checkpoint
            self.trainable.restore(tensors, self.step)

    def continue_log(self) -> None:
        """Forget the steps that will be done again, remember what was seen up to here."""
        self.run.truncate_log(self.step)
        rows = [row for row in self.run.losses() if row.step <= self.step]
        self.fixed_batch_losses = [
            row.fixed_batch_loss for row in rows if row.fixed_batch_loss is not None
        ]
        self.timing.remember(row.seconds for row in rows[-WINDOW:])
        self.mark = time.monotonic()

    def checkpoint(self) -> Checkpointed:
        """Write what has been learned. Raises `RunError` where that is no number."""
        if self.step == 0:
            return Checkpointed(0)
        self.mark = time.monotonic()
        tensors = self.trainable.tensors()
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise self._diverged(self.step)  # the loss would say so one step too late
        self.run.save_checkpoint(tensors, self.step, self.spent, self._memory())
        self.timing.record("checkpoint", self._since_mark())
        return Checkpointed(self.step)

    def finish(self) -> Finished:
        """Write the adapter: the run's only way to be finished."""
        run = self.run
        if not run.writes:
            return Finished(self.step, run.adapter_path, self.spent, self.step < self.recipe.steps)
        export = self.method.export()
        adapter = Adapter(
            self._description(export.method, export.rank, export.alpha), export.tensors
        )
        adapter.save(run.adapter_path, metadata=diffusers_metadata(adapter))
        run.set_state(State("finished", self.step, self.spent, memory=run.state.memory))
        return Finished(self.step, run.adapter_path, self.spent, self.step < self.recipe.steps)

    # A step, and what comes after it

    def advance(self, objective: Objective) -> Iterator[StepDone]:
        """One optimizer step."""
        losses = objective.losses(self.step)
        self.trainable.descend(losses.sum(), self.step)
        self.step += 1
        self.pending.append((self.step, processes.total(losses)))
        look = self.recipe.stop_early and self.step % FIXED_BATCH_EVERY == 0
        every = REPORT_EVERY if self.base.device.type == "cuda" else 1
        # What comes after a step is timed apart from it.
        due = [n for n in (self.recipe.checkpoint_every, self.recipe.preview_every) if n]
        if look or len(self.pending) >= every or any(self.step % n == 0 for n in due):
            yield from self.flush(objective if look else None)

    def flush(self, fixed_batch: Objective | None = None) -> Iterator[StepDone]:
        """See the losses that are still on the device, and log them; look at the fixed batch."""
        rows = list(self._rows())
        if fixed_batch:
            loss = fixed_batch.fixed_batch_loss()
            rows[-1] = replace(rows[-1], fixed_batch_loss=loss)
            self.fixed_batch_losses.append(loss)
            self.timing.record("look", self._since_mark())
        self.run.log(rows)
        for row in rows:
            left = self.timing.left(self.step)
            yield StepDone(row.step, self.recipe.steps, row.loss, row.prior_loss, row.seconds, left)

    def preview(self) -> Preview:
        """The fixed prompts at their fixed seeds."""
        if not self.run.writes:
            return Preview(self.step, ())
        self.mark = time.monotonic()
        paths = previews.draw(
            self.base, self.run, self.step, with_class_noun=self.method.uses_class_noun
        )
        seconds = self._since_mark()
        self.timing.record("preview", seconds)
        self.spent += seconds
        return Preview(self.step, paths)

    def margin(self) -> float:
        """Seconds that one more step and the way out may need."""
        slowest = self.timing.slowest
        steps = 2 + len(self.pending)  # those that the device has not done yet, too
        due = self.recipe.preview_every and (self.step + 1) % self.recipe.preview_every == 0
        preview = 1.5 * slowest("preview", 0.0) if due else 0.0
        return steps * slowest("step", 0.0 if self.timing.seen("step") else 1.0) + (
            2 * slowest("checkpoint", 0.5) + preview
        )

    def _rows(self) -> Iterator[LossRow]:
        """Of the steps that wait. Raises `RunError` where a loss is no number."""
        values = [(step, losses.tolist()) for step, losses in self.pending]  # waits for the device
        self.pending.clear()
        seconds = self._since_mark() / max(1, len(values))
        for step, losses in values:
            if not all(map(math.isfinite, losses)):
                raise self._diverged(step)
            self.timing.record("step", seconds)
            self.spent += seconds
            yield LossRow(step, losses[0], losses[1] if len(losses) > 1 else None, seconds)

    def _since_mark(self) -> float:
        """Seconds since the last part ended; another begins."""
        now = time.monotonic()
        seconds, self.mark = now - self.mark, now
        return seconds

    def _memory(self) -> int | None:
        """Bytes of the GPU that the run has held at most, over all slices."""
        if self.base.device.type != "cuda":
            return None
        return max(torch.cuda.max_memory_allocated(), self.run.state.memory or 0)

    def _diverged(self, step: int) -> RunError:
        """The run has failed, and its last checkpoint is from before that."""
        state = self.run.state
        self.run.set_state(replace(state, status="failed", error=f"no number at step {step}"))
        return RunError(
            f"The loss stopped being a number at step {step}: the learning rate of "
            f"{self.recipe.method.learning_rate:g} is too high for this base. "
            f"The run is kept up to step {state.step}; start again with a third of it.",
            field="learning rate",
        )

    def _description(self, method: str, rank: int, alpha: float) -> Description:
        concept, spec = self.run.concept, self.base.spec
        packages = ("torch", "diffusers", "transformers", "peft")
        return Description(
            method=method,
            family=spec.family,
            base=spec.name,
            fingerprint=self.base.fingerprint,
            placeholder_token=concept.placeholder_token,
            class_noun=concept.class_noun,
            kind=concept.kind,
            rank=rank,
            alpha=alpha,
            title=concept.name,
            recipe=json.loads(self.recipe.to_json()) | {"steps done": self.step},
            software={name: version(name) for name in packages}
            | {"python": platform.python_version()},
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )


def time_left(base: Base, recipe: Recipe) -> TimeLeft:
    """What the run still takes, its parts guessed from each other by their forward passes."""
    guided = 2 * base.spec.sampling.steps
    return TimeLeft(
        recipe,
        previews=2 * previews.COUNT * previews.steps(base.spec),
        class_images=prior.PER_BATCH * guided,
    )
