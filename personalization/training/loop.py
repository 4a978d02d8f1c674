"""The loop, once: a generator of events over a run's folder.

A step is a function of its number (`batches`), and the checkpoint holds the trainable tensors, the
optimizer's and the number. So a run cut into slices is the run in one piece, bit for bit on a CPU,
and an allocation that ends, a cancel, a kill and a full disk are all the same case: continue.
"""

from __future__ import annotations

import errno
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.formats import diffusers_metadata
from personalization.bases.base import Base, Conditioning, Posterior
from personalization.data import masks
from personalization.data.photos import crop
from personalization.errors import RunError
from personalization.events import (
    Checkpointed,
    Event,
    Finished,
    Preview,
    SliceEnded,
    Stage,
    StepDone,
)
from personalization.methods import Method, installed
from personalization.recipe import FIXED_BATCH_EVERY, Recipe
from personalization.sampling import generate
from personalization.training import prior
from personalization.training.batches import batch_at
from personalization.training.run import LossRow, Run, State
from personalization.training.timing import WINDOW, Clock, TimeLeft

PREVIEWS = 3  # pictures each time
PREVIEW_STEPS = 12  # of the sampler: a preview is looked at, not kept
REPORT_EVERY = 10  # steps between two looks at the loss on CUDA, where each look is a sync


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
    clock = Clock(seconds)
    run.clear_stop()

    def stopping() -> bool:
        return run.stop_requested or bool(stop and stop())

    with run.locked(), base.lock:
        if run.state.status == "finished":
            yield Finished(run.state.step, run.adapter_path, run.state.seconds, False)
            return
        try:
            yield from _slice(base, run, clock, stopping, cache or run.folder / "cache")
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
        checkpoint = run.load_checkpoint()
        if checkpoint is None:
            raise RunError("Nothing has been learned yet: the run ended before its first step.")
        with installed(base, run.concept, run.recipe) as method:
            session = _Session(base, run, method)
            session.restore(checkpoint)
            return _export(session, stopped_early=session.step < run.recipe.steps)


def _slice(
    base: Base, run: Run, clock: Clock, stopping: Callable[[], bool], cache: Path
) -> Iterator[Event]:
    recipe = run.recipe
    steps = recipe.steps

    def out_of_time(needed: float) -> bool:
        return stopping() or clock.out_of_time(needed)

    if recipe.prior and recipe.prior.kind == "images":
        prompt, count = run.concept.class_prompt(), recipe.prior.images
        timing = _timing(base, recipe)

        def record(seconds: float) -> None:
            timing.record("class images", seconds)

        for stage in prior.draw_class(base, prompt, count, cache, out_of_time, record):
            batches = -(-(stage.total - stage.done) // prior.PER_BATCH)
            left = timing.left(run.state.step, batches)
            yield replace(stage, seconds_left=left or None)
        if prior.class_latents(base, prompt, count, cache) is None:
            yield SliceEnded(run.state.step, steps)
            return
    yield Stage("photos", 0, 1)
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with installed(base, run.concept, recipe) as method, _recomputing(base, recipe):
        session = _Session(base, run, method)
        session.prepare(cache)
        session.restore(run.load_checkpoint())
        session.continue_log()
        yield Stage("photos", 1, 1)
        while session.step < steps and not recipe.settled(session.fixed_batch_losses):
            if out_of_time(session.margin()):
                yield from session.flush()
                yield session.checkpoint()
                yield SliceEnded(session.step, steps)
                return
            yield from session.advance()
            if recipe.preview_every and session.step % recipe.preview_every == 0:
                yield session.preview()
            if session.step % recipe.checkpoint_every == 0 and session.step < steps:
                yield session.checkpoint()
        yield from session.flush()
        yield session.checkpoint()
        yield _export(session, stopped_early=session.step < steps)


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


class _Session:
    """What a slice holds in memory: nothing that the folder could not give again."""

    def __init__(self, base: Base, run: Run, method: Method):
        self.base = base
        self.run = run
        self.recipe = run.recipe
        self.method = method
        self.step = 0
        self.spent = run.state.seconds
        self.timing = _timing(base, self.recipe)
        self.mark = time.monotonic()  # when the last part ended
        self.pending: list[tuple[int, Tensor]] = []  # on the device until looked at
        self.fixed_batch_losses: list[float] = []
        self.parameters: dict[str, nn.Parameter] = {}
        groups: list[dict[str, Any]] = []
        for group in method.groups():
            self.parameters |= group.parameters
            groups.append({"params": list(group.parameters.values()), "lr": group.learning_rate})
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(
            groups, weight_decay=self.recipe.weight_decay, fused=base.device.type != "mps"
        )

    def prepare(self, cache: Path) -> None:
        """Encode what does not change: the photos' posteriors, the prompts, the class."""
        concept, recipe, base = self.run.concept, self.recipe, self.base
        self.posterior = encode_photos(base, self.run, flip=recipe.flip)
        height, width = self.posterior.mean.shape[-2:]
        weights = masks.weights(concept.photos, base.spec.size, (height, width), recipe.background)
        # (2, photos, 1, h, w): as they are, then mirrored.
        self.weights = None if weights is None else torch.stack([weights, weights.flip(-1)])
        self.prompts = list(concept.prompts(with_class_noun=self.method.uses_class_noun))
        self.captions = [
            concept.caption(i, with_class_noun=self.method.uses_class_noun)
            for i in range(len(concept.photos))
        ]
        texts = list(dict.fromkeys([*self.prompts, *filter(None, self.captions)]))
        self.encoded: dict[str, Conditioning] = {}
        if not self.method.trains_text:
            with torch.no_grad():
                encoded = base.encode_prompts(texts)
            self.encoded = {text: encoded[i : i + 1] for i, text in enumerate(texts)}
        if recipe.prior:
            self.class_prompt = concept.class_prompt()
            # Before the first step nothing has changed; a teacher must see exactly the base.
            teaches = recipe.prior.kind == "adapter_off"
            with torch.no_grad(), self.method.adapters_disabled() if teaches else nullcontext():
                self.class_conditioning = base.encode_prompts([self.class_prompt])
            if recipe.prior.kind == "images":
                latents = prior.class_latents(base, self.class_prompt, recipe.prior.images, cache)
                assert latents is not None  # drawn before the method was installed
                self.class_latents = latents.to(base.device)

    def restore(self, checkpoint: tuple[dict[str, Tensor], int, float] | None) -> None:
        """Continue from a checkpoint, or start."""
        if checkpoint is None:
            return
        tensors, self.step, self.spent = checkpoint
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                # In the parameter's own memory layout: fused AdamW pairs elements by address.
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(tensors[f"{key}/{name}"])
                    for key in ("exp_avg", "exp_avg_sq")
                } | {"step": torch.tensor(float(self.step), device=self._step_device(parameter))}

    def continue_log(self) -> None:
        """Forget the steps that will be done again, remember what was seen up to here."""
        self.run.truncate_log(self.step)
        rows = self.run.losses()
        self.fixed_batch_losses = [
            row.fixed_batch_loss for row in rows if row.fixed_batch_loss is not None
        ]
        self.timing.remember(row.seconds for row in rows[-WINDOW:])
        self.mark = time.monotonic()

    def _step_device(self, parameter: nn.Parameter) -> torch.device:
        # Fused AdamW keeps its counter beside the parameter.
        return parameter.device if parameter.is_cuda else torch.device("cpu")

    def checkpoint(self) -> Checkpointed:
        if self.step == 0:
            return Checkpointed(0)
        self.mark = time.monotonic()
        tensors = {}
        for name, parameter in self.parameters.items():
            # Empty where no gradient has come yet, as for a layer whose output nobody reads.
            state = self.optimizer.state.get(parameter, {})
            tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
            for key in ("exp_avg", "exp_avg_sq"):
                moment = state[key] if key in state else torch.zeros_like(parameter)
                tensors[f"{key}/{name}"] = moment.detach().cpu().contiguous()
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise self.diverged(self.step)  # the loss would say so one step too late
        self.run.save_checkpoint(tensors, self.step, self.spent, self.memory())
        self.timing.record("checkpoint", self.since_mark())
        return Checkpointed(self.step)

    def memory(self) -> int | None:
        """Bytes of the GPU that the run has held at most, over all slices."""
        if self.base.device.type != "cuda":
            return None
        return max(torch.cuda.max_memory_allocated(), self.run.state.memory or 0)

    def diverged(self, step: int) -> RunError:
        """The run has failed, and its last checkpoint is from before that."""
        state = self.run.state
        self.run.set_state(replace(state, status="failed", error=f"no number at step {step}"))
        return RunError(
            f"The loss stopped being a number at step {step}: the learning rate of "
            f"{self.recipe.method.learning_rate:g} is too high for this base. "
            f"The run is kept up to step {state.step}; start again with a third of it.",
            field="learning rate",
        )

    def margin(self) -> float:
        """Seconds that one more step and the way out may need."""
        slowest = self.timing.slowest
        steps = 2 + len(self.pending)  # those that the device has not done yet, too
        due = self.recipe.preview_every and (self.step + 1) % self.recipe.preview_every == 0
        preview = 1.5 * slowest("preview", 0.0) if due else 0.0
        return steps * slowest("step", 0.0 if self.timing.seen("step") else 1.0) + (
            2 * slowest("checkpoint", 0.5) + preview
        )

    def since_mark(self) -> float:
        """Seconds since the last part ended; another begins."""
        now = time.monotonic()
        seconds, self.mark = now - self.mark, now
        return seconds

    def advance(self) -> Iterator[StepDone]:
        """One optimizer step."""
        factor = self.recipe.learning_rate_factor(self.step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        losses = self.losses(self.step)
        losses.sum().backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step()
        self.step += 1
        self.pending.append((self.step, losses.detach()))
        look = self.recipe.stop_early and self.step % FIXED_BATCH_EVERY == 0
        every = REPORT_EVERY if self.base.device.type == "cuda" else 1
        # What comes after a step is timed apart from it.
        due = [n for n in (self.recipe.checkpoint_every, self.recipe.preview_every) if n]
        if look or len(self.pending) >= every or any(self.step % n == 0 for n in due):
            yield from self.flush(look=look)

    def fixed_batch_loss(self) -> float:
        """The loss on the batch of a step that is never trained on: step -1."""
        with torch.no_grad():
            return self.losses(-1)[0].item()

    def losses(self, step: int) -> Tensor:
        """(1,) or (2,): the subject's loss and, weighted, the class's, at `step`."""
        recipe, base = self.recipe, self.base
        batch = batch_at(
            recipe.seed,
            step,
            recipe.batch_size,
            photos=len(self.run.concept.photos),
            prompts=len(self.prompts),
            shape=tuple(self.posterior.mean.shape[2:]),
        )
        device = base.device
        mirrored = (batch.mirrored & recipe.flip).long()
        latents = self.posterior[mirrored.to(device), batch.photos.to(device)].sample(
            batch.posterior_noise.to(device)
        )
        texts = [
            self.captions[photo] or self.prompts[phrasing]
            for photo, phrasing in zip(batch.photos.tolist(), batch.prompts.tolist(), strict=True)
        ]
        noise, u = batch.noise.to(device), batch.u.to(device)
        weights = None
        if self.weights is not None:
            weights = self.weights[mirrored, batch.photos].to(device)
        if not recipe.prior:
            conditioning = self.conditioning(texts)
            if weights is None:
                return base.loss(latents, conditioning, noise, u).mean().unsqueeze(0)
            prediction = base.predict(latents, conditioning, noise, u)
            errors = _errors(prediction, base.target(latents, noise, u), weights)
            return errors.mean().unsqueeze(0)

        again = batch_at(
            recipe.seed,
            step,
            recipe.batch_size,
            photos=len(self.class_latents) if recipe.prior.kind == "images" else 1,
            prompts=1,
            shape=tuple(latents.shape[1:]),
            stream="class",
        )
        class_noise, class_u = again.noise.to(device), again.u.to(device)
        size = recipe.batch_size
        if recipe.prior.kind == "images":
            class_latents = self.class_latents[again.photos.to(device)]
            target = base.target(class_latents, class_noise, class_u)
        else:
            # The teacher answers on the subject's own noisy latents: what must not change is
            # what the base says of them when it is asked for the class.
            class_latents = latents
            with torch.no_grad(), self.method.adapters_disabled():
                teacher = self.class_conditioning[[0] * size]
                target = base.predict(class_latents, teacher, class_noise, class_u)
        # Subject and class in one forward: half the launches, larger matrices.
        conditioning = self.conditioning(texts + [self.class_prompt] * size)
        prediction = base.predict(
            torch.cat([latents, class_latents]),
            conditioning,
            torch.cat([noise, class_noise]),
            torch.cat([u, class_u]),
        )
        target = torch.cat([base.target(latents, noise, u), target])
        if weights is not None:  # the class is kept everywhere
            weights = torch.cat([weights, torch.ones_like(weights)])
        errors = _errors(prediction, target, weights)
        return torch.stack([errors[:size].mean(), recipe.prior.weight * errors[size:].mean()])

    def conditioning(self, texts: list[str]) -> Conditioning:
        """Encoded anew where the method trains the text side, looked up where it does not."""
        distinct = list(dict.fromkeys(texts))
        index = [distinct.index(text) for text in texts]
        if self.method.trains_text:
            return self.base.encode_prompts(distinct)[index]
        known = self.encoded | (
            {self.class_prompt: self.class_conditioning} if self.recipe.prior else {}
        )
        return Conditioning.cat([known[text] for text in texts])

    def flush(self, *, look: bool = False) -> Iterator[StepDone]:
        """See the losses that are still on the device, and log them; `look` at the fixed batch."""
        rows = []
        values = [(step, losses.tolist()) for step, losses in self.pending]  # waits for the device
        seconds = self.since_mark() / max(1, len(values))
        for step, losses in values:
            if not all(map(_is_number, losses)):
                raise self.diverged(step)
            rows.append(LossRow(step, losses[0], losses[1] if len(losses) > 1 else None, seconds))
            self.timing.record("step", seconds)
            self.spent += seconds
        if look:
            fixed_batch_loss = self.fixed_batch_loss()
            rows[-1] = replace(rows[-1], fixed_batch_loss=fixed_batch_loss)
            self.fixed_batch_losses.append(fixed_batch_loss)
            self.timing.record("look", self.since_mark())
        self.pending.clear()
        self.run.log(rows)
        for row in rows:
            yield StepDone(
                row.step,
                self.recipe.steps,
                row.loss,
                row.prior_loss,
                row.seconds,
                self.timing.left(self.step),
            )

    def preview(self) -> Preview:
        """The fixed prompts at their fixed seeds."""
        self.mark = time.monotonic()
        prompts = preview_prompts(self.run, with_class_noun=self.method.uses_class_noun)
        seeds = [self.recipe.seed + i for i in range(len(prompts))]
        pictures = generate.draw_each(self.base, prompts, seeds, steps=PREVIEW_STEPS)
        paths = []
        for index, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
            record = {"prompt": prompt, "seed": seeds[index], "step": self.step}
            path = self.run.preview_path(self.step, index)
            paths.append(generate.Picture(picture, record).save(path))
        seconds = self.since_mark()
        self.timing.record("preview", seconds)
        self.spent += seconds
        return Preview(self.step, tuple(paths))


def _timing(base: Base, recipe: Recipe) -> TimeLeft:
    guided = 2 * base.spec.sampling.steps
    return TimeLeft(
        recipe,
        previews=2 * PREVIEWS * PREVIEW_STEPS,
        class_images=prior.PER_BATCH * guided,
    )


def _errors(prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """(batch,): the mean squared error of each sample, weighted by place."""
    errors = (prediction - target).square()
    return (errors if weights is None else errors * weights).flatten(1).mean(1)


def preview_prompts(run: Run, *, with_class_noun: bool) -> list[str]:
    """What the previews show: the concept alone, twice elsewhere."""
    concept = run.concept
    words = concept.name if with_class_noun else concept.placeholder_token
    if concept.kind == "style":
        return [f"a {thing}, {words} style" for thing in ("cat", "house", "flower")]
    return [
        concept.prompts(with_class_noun=with_class_noun)[0],
        f"a photo of {words} in the snow",
        f"a photo of {words} on the beach",
    ]


def encode_photos(base: Base, run: Run, *, flip: bool) -> Posterior:
    """The photos' posteriors, (1 or 2, photos, channels, h, w): as they are, then mirrored."""
    size = base.spec.size
    crops = [crop(photo, size) for photo in run.concept.photos]
    pixels = torch.stack([_pixels(image) for image in crops])
    sides = [pixels, pixels.flip(-1)] if flip else [pixels]
    encoded = [
        [base.encode_images(side[i : i + 4]) for i in range(0, len(side), 4)] for side in sides
    ]
    return Posterior(
        torch.stack([torch.cat([part.mean for part in parts]) for parts in encoded]),
        torch.stack([torch.cat([part.std for part in parts]) for parts in encoded]),
    )


def _pixels(image: object) -> Tensor:
    """(3, height, width) in [-1, 1]."""
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def _is_number(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _export(session: _Session, *, stopped_early: bool) -> Finished:
    """Write the adapter: the run's only way to be finished."""
    run, base = session.run, session.base
    export = session.method.export()
    concept = run.concept
    description = Description(
        method=export.method,
        family=base.spec.family,
        base=base.spec.name,
        fingerprint=base.fingerprint,
        placeholder_token=concept.placeholder_token,
        class_noun=concept.class_noun,
        kind=concept.kind,
        rank=export.rank,
        alpha=export.alpha,
        title=concept.name,
        recipe=_shareable(run.recipe) | {"steps done": session.step},
        software={name: version(name) for name in ("torch", "diffusers", "transformers", "peft")}
        | {"python": platform.python_version()},
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    adapter = Adapter(description, export.tensors)
    adapter.save(run.adapter_path, metadata=diffusers_metadata(adapter))
    run.set_state(State("finished", session.step, session.spent, memory=run.state.memory))
    return Finished(session.step, run.adapter_path, session.spent, stopped_early)


def _shareable(recipe: Recipe) -> dict[str, object]:
    import json

    return json.loads(recipe.to_json())
