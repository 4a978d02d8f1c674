"""What is trained beside the UNet while it stays as it is: the loop that these trainings share.

Whatever conditions a frozen UNet (a reference, a map) is a module of its own; the loss is the
UNet's, weighed towards the figure. Resumed from a checkpoint in the work folder; SIGTERM saves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModel

from .anatomy import TRAIN_TIMESTEPS
from .checkpoints import REPOSITORY, load_state, save_state
from .muon import optimizers
from .schedules import warmup_then_cosine
from .text import tokens
from .unet import Stop, signal_and_noise

FIGURE = 2.0  # how much more a cell of the figure counts than one of the place
SAY_EVERY = 25


@dataclass(frozen=True)
class FrozenPlan:
    """How long and how fast; a step is one batch."""

    steps: int
    batch: int = 32
    lr: float = 2e-3
    warmup: int = 50
    average: float = 0.99  # what the averaged weights keep of themselves each step
    t_mean: float = 0.3
    t_std: float = 1.1
    seed: int = 0
    save_every: int = 50

    def generator(self, step: int) -> torch.Generator:
        """The random numbers of that step."""
        return torch.Generator().manual_seed(self.seed * 7_919 + step + 1)


@dataclass(frozen=True)
class FrozenBase:
    """The published pocket, and the vision tower of its judge; nothing of them learns."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    tokenizer: CLIPTokenizer
    autoencoder: AutoencoderKL
    tower: CLIPVisionModel

    @classmethod
    def published(cls, assets: Path) -> FrozenBase:
        """As `assets` has it, in fp32."""
        pocket = assets / "pocket"
        unet = UNet2DConditionModel.from_pretrained(pocket, subfolder="unet").float()
        vae = AutoencoderKL.from_pretrained(pocket, subfolder="vae").float()
        for model in (unet, vae):
            model.to(memory_format=torch.channels_last)
        models: tuple[nn.Module, ...] = (
            unet,
            CLIPTextModel.from_pretrained(pocket, subfolder="text_encoder").float(),
            vae,
            CLIPVisionModel.from_pretrained(assets / "pocket-judge").float(),
        )
        for model in models:
            model.eval().requires_grad_(False)
        tokenizer = CLIPTokenizer.from_pretrained(pocket, subfolder="tokenizer")
        unet, text, vae, tower = models
        return cls(unet, text, tokenizer, vae, tower)

    @torch.no_grad()
    def hidden(self, captions: list[str]) -> Tensor:
        """(n, 32, 192)"""
        states: Tensor = self.text(tokens(self.tokenizer, captions)).last_hidden_state
        return states

    def sampled(self, posterior: Tensor, generator: torch.Generator) -> Tensor:
        """(n, 2, 4, 32, 32) mean and std to latents (n, 4, 32, 32), of the UNet's scale."""
        mean, std = posterior.float().unbind(1)
        scale: float = self.autoencoder.config.scaling_factor
        latents: Tensor = (mean + std * torch.randn(mean.shape, generator=generator)) * scale
        return latents.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Noised:
    """latents and noise (n, 4, 32, 32), timesteps (n,), what the UNet sees and should say of it."""

    timesteps: Tensor
    noisy: Tensor
    velocity: Tensor

    @classmethod
    def of(cls, latents: Tensor, plan: FrozenPlan, generator: torch.Generator) -> Noised:
        """Noise at times drawn logit-normal."""
        normal = torch.randn(len(latents), generator=generator)
        t = (torch.sigmoid(normal * plan.t_std + plan.t_mean) * TRAIN_TIMESTEPS).long()
        t = t.clamp(0, TRAIN_TIMESTEPS - 1)
        noise = torch.randn(latents.shape, generator=generator)
        a, s = signal_and_noise(t)
        return cls(t, a * latents + s * noise, a * noise - s * latents)

    def loss(self, predicted: Tensor, figures: Tensor) -> Tensor:
        """The squared error, a mean in which the figure's cells count more."""
        weights = 1 + FIGURE * figures.float()[:, None]
        return ((predicted - self.velocity).square() * weights).mean() / weights.mean()


def parser(doc: str | None, steps: int) -> argparse.ArgumentParser:
    """What these trainings are told; `steps` is how many by default."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--work", type=Path, default=REPOSITORY / "build" / "pocket")
    add("--assets", type=Path, default=REPOSITORY / "assets")
    add("--individuals", type=int, default=8000)
    add("--steps", type=int, default=steps)
    add("--batch", type=int, default=32)
    add("--lr", type=float, default=2e-3)
    add("--seed", type=int, default=0)
    return made


Module = TypeVar("Module", bound=nn.Module)


def train(path: Path, module: Module, plan: FrozenPlan, loss_of: Callable[[int], Tensor]) -> Module:
    """Train `module` or continue; the averaged copy, which `path` keeps beside it."""
    average = deepcopy(module).requires_grad_(False)
    optims = optimizers(module, plan.lr)
    modules, stop = {"module": module, "average": average}, Stop()
    first = load_state(path, modules, optims)
    started, recent = time.monotonic(), []
    weights: list[Tensor] = [*module.parameters()]
    averaged: list[Tensor] = [*average.parameters()]
    for step in range(first, plan.steps):
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = plan.lr * warmup_then_cosine(step, plan.steps, plan.warmup)
            optim.step()
            optim.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(averaged, weights, 1 - min(plan.average, (step + 1) / (step + 10)))
        recent.append(float(loss.detach()))
        if (step + 1) % SAY_EVERY == 0:
            pace = (step + 1 - first) * plan.batch / (time.monotonic() - started)
            mean = sum(recent) / len(recent)
            print(f"{path.stem}: step {step + 1}, loss {mean:.4f}, {pace:.1f}/s", flush=True)
            recent.clear()
        if stop.asked or (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            save_state(path, step + 1, modules, optims)
        if stop.asked:
            raise SystemExit(f"{path.stem}: stopped at step {step + 1}; the same command goes on.")
    return average
