"""The UNet's training: latent diffusion on cached latents, conditioned on captions drawn afresh.

v-prediction (Salimans & Ho 2022), t drawn logit-normal (Esser et al. 2024), captions dropped in a
tenth of the samples for guidance (Ho & Salimans 2022), an exponential average of the weights. The
first part runs on latents averaged over 2 x 2, three times as many samples a second: what goes
where is learned there, and refined at full size.
"""

from __future__ import annotations

import signal
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from . import parallel, pictures
from .anatomy import TRAIN_TIMESTEPS, make_scheduler
from .checkpoints import load_state, save_state
from .muon import optimizers
from .schedules import warmup_hold_decay
from .text import tokens, training_caption

CAPTIONS = 4  # kept ready for each scene
HALF_GAIN = 1.05  # averaging takes some of the latents' deviation away


@dataclass(frozen=True)
class UnetPlan:
    """How the UNet is trained; a step is one batch."""

    steps: int
    half_steps: int  # so many of them, the first ones, on latents of half size
    batch: int = 32
    lr: float = 1.5e-3
    warmup: int = 100
    decay: int = 600
    empty: float = 0.1
    t_mean: float = 0.2
    t_std: float = 1.1
    average: float = 0.998
    text_lr: float = 3e-4  # for the text encoder; 0 freezes it
    seed: int = 0
    finish: int | None = None  # end so many steps from the checkpoint, the rate falling all the way
    save_every: int = 100


@dataclass(frozen=True)
class UnetData:
    """latents: (n, 2, 4, 32, 32) fp16, mean and std; captions: (n, CAPTIONS, 32) token numbers;
    empty: (32,) the empty caption; scale: the autoencoder's scaling factor."""

    latents: Tensor
    captions: Tensor
    empty: Tensor
    scale: float

    def to(self, device: str) -> UnetData:
        """The same on another device."""
        return replace(
            self,
            latents=self.latents.to(device),
            captions=self.captions.to(device),
            empty=self.empty.to(device),
        )


def caption_table(tokenizer: CLIPTokenizer, seed: int, count: int) -> Tensor:
    """CAPTIONS captions for each of the first `count` scenes: (count, CAPTIONS, 32), int16."""
    table = []
    for start in range(0, count, 1000):
        texts = []
        for number in range(start, min(start + 1000, count)):
            scene, rng = pictures.scene_at(seed, number), np.random.default_rng([seed, 5, number])
            texts += [training_caption(scene, rng) for _ in range(CAPTIONS)]
        table.append(tokens(tokenizer, texts).short())
    return torch.cat(table).view(count, CAPTIONS, -1)


@cache
def alpha_bars(device: torch.device) -> Tensor:
    """alpha_bar at every timestep, on that device."""
    return make_scheduler().alphas_cumprod.to(device)


def signal_and_noise(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at whole timesteps, shaped (n, 1, 1, 1)."""
    alphas = alpha_bars(timesteps.device)[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


def v_loss(
    unet: UNet2DConditionModel, latents: Tensor, hidden: Tensor, noise: Tensor, t: Tensor
) -> Tensor:
    """Squared error of the predicted velocity a * noise - s * latents, one value a sample."""
    a, s = signal_and_noise(t)
    noisy = a * latents + s * noise
    predicted = unet(noisy, t, encoder_hidden_states=hidden).sample
    return (predicted - (a * noise - s * latents)).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Batch:
    """latents (b, 4, h, h), captions (b, 32), noise like latents, timesteps (b,)."""

    latents: Tensor
    captions: Tensor
    noise: Tensor
    timesteps: Tensor


def batch_at(step: int, plan: UnetPlan, data: UnetData) -> Batch:
    """This process's share of the batch of that step, a pure function of (seed, step, device).

    It is made where the data lies: a GPU that waits for noise from the CPU waits most of the time.
    """
    at = data.latents.device
    rng = torch.Generator(at).manual_seed(plan.seed * 7_919 + step)
    b = plan.batch

    def rand() -> Tensor:
        return torch.rand(b, generator=rng, device=at)

    rows = torch.randint(len(data.latents), (b,), generator=rng, device=at)
    mean, std = data.latents[rows].float().unbind(1)
    deviation = torch.randn(mean.shape, generator=rng, device=at)
    latents = (mean + std * deviation) * data.scale
    if step < plan.half_steps:
        latents = F.avg_pool2d(latents, 2) * HALF_GAIN
    said = torch.randint(CAPTIONS, (b,), generator=rng, device=at)
    captions = torch.where(
        (rand() < plan.empty)[:, None], data.empty.long(), data.captions[rows, said].long()
    )
    uniform = rand()
    normal = torch.randn(b, generator=rng, device=at)
    middle = torch.sigmoid(normal * plan.t_std + plan.t_mean)
    where = torch.where(rand() < 0.15, uniform, middle)
    t = (where * TRAIN_TIMESTEPS).long().clamp(0, TRAIN_TIMESTEPS - 1)
    noise = torch.randn(latents.shape, generator=rng, device=at)
    mine = slice(parallel.rank(), None, parallel.world())
    return Batch(
        latents[mine].contiguous(memory_format=torch.channels_last),
        captions[mine],
        noise[mine].contiguous(memory_format=torch.channels_last),
        t[mine],
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

    def __init__(self, plan: UnetPlan, first: int, last: int):
        self.plan, self.first, self.last = plan, first, last
        self.started = time.time()
        self.totals: Tensor | None = None  # losses and samples by quarter of t, where they arise

    def add(self, step: int, timesteps: Tensor, losses: Tensor) -> None:
        """Count that step's losses in, one a sample; every 25 steps print and begin anew."""
        seen = torch.stack([losses.detach().float(), torch.ones_like(losses)])
        if self.totals is None:
            self.totals = seen.new_zeros(2, 4)
        self.totals.index_add_(1, timesteps * 4 // TRAIN_TIMESTEPS, seen)
        if step % 25 != 24 or parallel.rank():
            return
        pace = (step + 1 - self.first) * self.plan.batch / (time.time() - self.started)
        means = " ".join(
            f"{m:.3f}" for m in (self.totals[0] / self.totals[1].clamp(min=1)).tolist()
        )
        print(
            f"unet: step {step + 1} of {self.last}, {(step + 1) * self.plan.batch} samples, "
            f"loss by quarter of t {means}, {pace:.1f} samples/s",
            flush=True,
        )
        self.totals = None


def train(
    folder: Path,
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    data: UnetData,
    plan: UnetPlan,
    device: str,
) -> UNet2DConditionModel:
    """Train or continue; returns the averaged UNet. The checkpoint lies in `folder`."""
    unet = unet.to(device, memory_format=torch.channels_last).train()
    average = deepcopy(unet).eval().requires_grad_(False)
    text = text.to(device).requires_grad_(plan.text_lr > 0)
    text_average = deepcopy(text).requires_grad_(False)
    optims = optimizers(unet, plan.lr, weight_decay=0.01)
    peaks = [plan.lr] * len(optims)
    if plan.text_lr:
        optims += optimizers(text, plan.text_lr)
        peaks += [plan.text_lr] * (len(optims) - len(peaks))
    modules = {"unet": unet, "average": average, "text": text, "text_average": text_average}
    path = folder / "unet.pt"
    first = load_state(path, modules, optims)
    last, decay = plan.steps, plan.decay
    if plan.finish is not None:
        last, decay = first + plan.finish, plan.finish
    stop, progress = Stop(), Progress(plan, first, last)
    data = data.to(device)
    weights = [weight for part in (unet, text) for weight in part.parameters()]
    averaged = [weight for part in (average, text_average) for weight in part.parameters()]
    trained = [weight for weight in weights if weight.requires_grad]
    for step in range(first, last):
        batch = batch_at(step, plan, data)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            hidden = text(batch.captions).last_hidden_state
            losses = v_loss(unet, batch.latents, hidden, batch.noise, batch.timesteps)
        losses.mean().backward()
        stopping = parallel.average_gradients(trained, stop.asked)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optim, peak in zip(optims, peaks, strict=True):
            for group in optim.param_groups:
                group["lr"] = peak * warmup_hold_decay(step, last, plan.warmup, decay)
            optim.step()
            optim.zero_grad(set_to_none=True)
        keep = min(plan.average, (step + 1) / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 1 - keep)
        progress.add(step, batch.timesteps, losses)
        due = step % plan.save_every == plan.save_every - 1 or step == last - 1 or stopping
        if due and parallel.rank() == 0:
            save_state(path, step + 1, modules, optims)
        if stopping:
            raise SystemExit(f"unet: stopped at step {step + 1}; the same command continues.")
    return average
