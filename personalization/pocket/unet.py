"""The UNet's training: latent diffusion on cached latents, conditioned on captions drawn afresh.

v-prediction (Salimans & Ho 2022), t drawn logit-normal (Esser et al. 2024), captions dropped in a
tenth of the samples for guidance (Ho & Salimans 2022), an exponential average of the weights. The
first part runs on latents averaged over 2 x 2, three times as many samples a second: what goes
where is learned there, and refined at full size.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from . import parallel
from .anatomy import TRAIN_TIMESTEPS, make_scheduler
from .checkpoints import load_state, save_state
from .dataset import CAPTIONS
from .latents import TrainingSet
from .muon import optimizers
from .schedules import Course, Steps, averaging, course, hold_then_fall

HALF_GAIN = 1.05  # averaging takes some of the latents' deviation away
GROWTH = 4  # once in so many steps a file of pictures is taken in, if one is drawn
AHEAD = 3  # steps that the host may be ahead of a GPU


@dataclass(frozen=True)
class UnetPlan:
    """How the UNet is trained; a step is one batch."""

    steps: int
    half_steps: int  # so many of them, the first ones, on latents of half size
    finish: int | None = None  # so many steps from where the checkpoint is, instead
    seconds: float | None = None  # or so long, by the clock
    batch: int = 32
    lr: float = 1.5e-3
    text_lr: float = 3e-4  # for the text encoder; 0 freezes it
    warmup: int = 100
    fall: float = 0.1  # the last share, in which the rates fall in a line to nothing
    average: float = 0.08  # the horizon of the averaged weights, as a share of all steps
    empty: float = 0.1
    t_mean: float = 0.2
    t_std: float = 1.1
    seed: int = 0
    save_every: int = 100
    compile: bool = False  # by torch.compile: minutes first, then half as fast again on a GPU

    def course(self, first: int) -> Course:
        """From the checkpoint's step to the end."""
        if self.finish is not None:
            return Steps(first, first + self.finish)
        return course(first, self.steps, self.seconds)


@dataclass(frozen=True)
class UnetData:
    """Pictures as latents with their captions; empty: (32,) the empty caption; scale: the
    autoencoder's scaling factor."""

    pictures: TrainingSet
    empty: Tensor
    scale: float


@cache
def alpha_bars(device: torch.device) -> Tensor:
    """alpha_bar at every timestep, on that device."""
    return make_scheduler().alphas_cumprod.to(device)


def signal_and_noise(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at whole timesteps, shaped (n, 1, 1, 1)."""
    alphas = alpha_bars(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


def v_loss(unet: Any, latents: Tensor, hidden: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Squared error of the predicted velocity a * noise - s * latents, one value a sample."""
    a, s = signal_and_noise(t)
    noisy = a * latents + s * noise
    (predicted,) = unet(noisy, t, encoder_hidden_states=hidden, return_dict=False)
    return (predicted.float() - (a * noise - s * latents)).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Batch:
    """latents (b, 4, h, h), captions (b, 32), noise like latents, timesteps (b,)."""

    latents: Tensor
    captions: Tensor
    noise: Tensor
    timesteps: Tensor


def batch_at(step: int, plan: UnetPlan, data: UnetData) -> Batch:
    """This process's share of the batch of that step, a function of (seed, step), of the device and
    of what is drawn so far.

    It is made where the data lies: a GPU that waits for noise from the CPU waits most of the time.
    """
    pictures, b = data.pictures, plan.batch
    at = pictures.device
    rng = torch.Generator(at).manual_seed(plan.seed * 7_919 + step)

    def rand() -> Tensor:
        return torch.rand(b, generator=rng, device=at)

    rows = torch.randint(len(pictures), (b,), generator=rng, device=at)
    mean, std = pictures.latents[rows].float().unbind(1)
    latents = (mean + std * torch.randn(mean.shape, generator=rng, device=at)) * data.scale
    if step < plan.half_steps:
        latents = F.avg_pool2d(latents, 2) * HALF_GAIN
    versions = torch.randint(CAPTIONS, (b,), generator=rng, device=at)
    captions = pictures.captions[rows, versions].long()
    captions = torch.where((rand() < plan.empty)[:, None], data.empty, captions)
    uniform, normal = rand(), torch.randn(b, generator=rng, device=at)
    middle = torch.sigmoid(normal * plan.t_std + plan.t_mean)
    t = (torch.where(rand() < 0.15, uniform, middle) * TRAIN_TIMESTEPS).long()
    noise = torch.randn(latents.shape, generator=rng, device=at)
    mine = slice(parallel.rank(), None, parallel.world())
    return Batch(
        latents[mine].contiguous(memory_format=torch.channels_last),
        captions[mine],
        noise[mine].contiguous(memory_format=torch.channels_last),
        t[mine].clamp(0, TRAIN_TIMESTEPS - 1),
    )


class Stop:
    """Becomes true at SIGTERM or SIGINT, so that training ends with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


class Progress:
    """Says now and then how low the loss is, by quarter of t, and how fast it goes."""

    def __init__(self, plan: UnetPlan, first: int, device: torch.device) -> None:
        self.plan, self.first, self.started = plan, first, time.time()
        self.totals = torch.zeros(2, 4, device=device)  # losses and samples by quarter of t

    def add(self, step: int, timesteps: Tensor, losses: Tensor) -> None:
        """Count that step's losses in, one a sample; every 25 steps print and begin anew."""
        counted = torch.stack([losses.detach().float(), torch.ones_like(losses)])
        self.totals.index_add_(1, timesteps * 4 // TRAIN_TIMESTEPS, counted)
        if step % 25 != 24 or parallel.rank():
            return
        pace = (step + 1 - self.first) * self.plan.batch / (time.time() - self.started)
        means = (self.totals[0] / self.totals[1].clamp(min=1)).tolist()
        print(
            f"unet: step {step + 1}, {(step + 1) * self.plan.batch} samples, loss by quarter of t "
            f"{' '.join(f'{mean:.3f}' for mean in means)}, {pace:.1f} samples/s",
            flush=True,
        )
        self.totals.zero_()


class Lead:
    """Keeps the host few steps ahead of a GPU, so that the clock is the GPU's."""

    def __init__(self, device: torch.device) -> None:
        self.events: deque[torch.cuda.Event] | None = deque() if device.type == "cuda" else None

    def step(self) -> None:
        """Wait for the step before the last AHEAD."""
        if self.events is None:
            return
        event = torch.cuda.Event()
        event.record()
        self.events.append(event)
        if len(self.events) > AHEAD:
            self.events.popleft().synchronize()


def weights_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """All their parameters."""
    return [weight for module in modules for weight in module.parameters()]


class Pupil:
    """UNet and text encoder with their averages and optimizers."""

    def __init__(
        self, unet: UNet2DConditionModel, text: CLIPTextModel, plan: UnetPlan, device: torch.device
    ) -> None:
        self.device = device
        self.unet = unet.to(device, memory_format=torch.channels_last).train()
        self.text = text.to(device).requires_grad_(plan.text_lr > 0)
        self.average = deepcopy(self.unet).eval().requires_grad_(False)
        self.text_average = deepcopy(self.text).requires_grad_(False)
        self.optims = [
            (optim, rate)
            for module, rate, decay in ((unet, plan.lr, 0.01), (text, plan.text_lr, 0.0))
            if rate
            for optim in optimizers(module, rate, weight_decay=decay)
        ]
        self.weights = weights_of((self.unet, self.text))
        self.averaged = weights_of((self.average, self.text_average))
        self.trained = [weight for weight in self.weights if weight.requires_grad]
        self.forward: Any = torch.compile(unet, dynamic=False) if plan.compile else unet

    def load(self, path: Path) -> int:
        """Take the checkpoint, if there is one; the number of steps done."""
        return load_state(path, self.modules, [optim for optim, _ in self.optims])

    def save(self, path: Path, steps: int) -> None:
        """Write the checkpoint."""
        save_state(path, steps, self.modules, [optim for optim, _ in self.optims])

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By their names in the checkpoint."""
        names = ("unet", "average", "text", "text_average")
        return {name: getattr(self, name) for name in names}

    def backward(self, batch: Batch) -> Tensor:
        """The gradients of one batch; its losses, one a sample."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden = self.text(batch.captions).last_hidden_state
            losses = v_loss(self.forward, batch.latents, hidden, batch.noise, batch.timesteps)
        losses.mean().backward()
        return losses

    def update(self, factor: float, keep: float) -> None:
        """Apply the gradients, at that factor of the rates, and average."""
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optim, rate in self.optims:
            for group in optim.param_groups:
                group["lr"] = rate * factor
            optim.step()
            optim.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.weights, 1 - keep)

    def warm_up(self, batch: Batch) -> None:
        """Compile, without learning: the clock has not begun."""
        self.backward(batch)
        for weight in self.trained:
            weight.grad = None


def train(
    folder: Path, unet: UNet2DConditionModel, text: CLIPTextModel, data: UnetData, plan: UnetPlan
) -> UNet2DConditionModel:
    """Train or continue, where the data lies; returns the averaged UNet.

    The checkpoint lies in `folder`.
    """
    device, path, stop = data.pictures.device, folder / "unet.pt", Stop()
    pupil = Pupil(unet, text, plan, device)
    step = first = pupil.load(path)
    if plan.compile:
        pupil.warm_up(batch_at(step, plan, data))
    way, progress, lead = plan.course(first), Progress(plan, first, device), Lead(device)
    while (gone := parallel.agreed(way.progress(step), device)) < 1:
        if step % GROWTH == 0:
            data.pictures.grow()
        batch = batch_at(step, plan, data)
        losses = pupil.backward(batch)
        stopping = parallel.average_gradients(pupil.trained, stop.asked)
        keep = averaging(step - way.first, gone, plan.average)
        pupil.update(
            min(1.0, (step + 1) / plan.warmup) * hold_then_fall(gone, plan.fall),
            min(keep, (step + 1) / (step + 20)),
        )
        progress.add(step, batch.timesteps, losses)
        lead.step()
        step += 1
        if (step % plan.save_every == 0 or stopping) and parallel.rank() == 0:
            pupil.save(path, step)
        if stopping:
            raise SystemExit(f"unet: stopped at step {step}; the same command continues.")
    if parallel.rank() == 0 and step > first:
        pupil.save(path, step)
    return pupil.average
