"""What a recipe takes on a base: memory, work, time, the size of the file.

`estimate` computes it from the architecture on torch's meta device (`bases.memory`), before
anything is loaded; `outlook` is what the page says of a run on the base in use; `fitting` is the
recipe that its memory allows. Where a base's pace has been measured, its time goes by that.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from personalization.bases import memory
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.base import Base, TextEncoder
from personalization.bases.catalog import BaseSpec
from personalization.errors import RecipeError
from personalization.methods import installed
from personalization.recipe import Recipe
from personalization.training.previews import COUNT

# Dense bfloat16, FLOP a second, as NVIDIA's data sheets have it.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}
SHARE = 0.2  # of the peak: the example scripts reach 0.08 to 0.35
# Seconds that a CPU takes to dispatch a layer, there and back, and an adapter's on it: what a step
# of few pictures takes at the least, however fast the card. Fitted to eleven recipes on one H200
# (docs/BENCHMARKS.md), which they meet within a quarter.
DISPATCH, DISPATCH_ADAPTER = 1.9e-4, 5.5e-4
START = 6.0  # seconds before the first step and after the last, measured on the pocket


@dataclass(frozen=True)
class Pace:
    """Seconds for one picture, measured."""

    word: float  # forward and back, where a word is trained
    weights: float  # the same where weights are
    drawn: float


# By architecture and kind of device; others go by the peaks.
PACES = {
    ("pocket", "cpu"): Pace(0.050, 0.06, 0.400),
    ("pocket", "mps"): Pace(0.010, 0.012, 0.080),
    ("pocket", "cuda"): Pace(0.004, 0.0048, 0.032),
}


@dataclass(frozen=True)
class Estimate:
    """Bytes, but where it says otherwise, of one step with all weights on the device."""

    weights: int  # of the base, in bfloat16
    trained: int  # numbers
    layers: int  # modules that an adapter changes; 0 for the others
    masters: int  # float32 copies of what is trained
    gradients: int
    optimizer: int  # two moments
    activations: int
    flops: float  # of a step
    dispatch: float  # seconds of a step that a CPU dispatches, while a GPU waits or computes
    file: int  # of the adapter, as written

    @property
    def memory(self) -> int:
        """All of it, and what CUDA takes for itself."""
        parts = (self.weights, self.masters, self.gradients, self.optimizer, self.activations)
        return int(sum(parts) + memory.CONTEXT)

    def seconds(self, device: str) -> float | None:
        """Of a step on a device of that name; None where its speed is not known."""
        peak = next((peak for name, peak in PEAKS.items() if name in device), None)
        return max(self.flops / (peak * SHARE), self.dispatch) if peak else None

    def check(self, free: int) -> None:
        """Raise `RecipeError` where `free` bytes are too few."""
        if self.memory > free:
            raise RecipeError(
                f"This takes about {self.memory / memory.GIB:.1f} GiB, and "
                f"{free / memory.GIB:.1f} GiB are free. Take a LoRA in place of a full fine-tune, "
                "a smaller batch, gradient checkpointing, or a smaller base.",
                field="method",
            )


@dataclass
class _Blueprint:
    """What methods ask of a base, without one."""

    spec: BaseSpec
    modules: dict[str, nn.Module]
    text_encoders: tuple[TextEncoder, ...]


def estimate(spec: BaseSpec, recipe: Recipe) -> Estimate:
    """Of `recipe` on a base, from its architecture."""
    # What a step takes depends on nothing else: a recipe of more steps is not counted anew.
    return _estimate(
        spec,
        Recipe(
            recipe.method,
            steps=1,
            batch_size=recipe.batch_size,
            prior=recipe.prior,
            gradient_checkpointing=recipe.gradient_checkpointing,
        ),
    )


@lru_cache(maxsize=64)
def _estimate(spec: BaseSpec, recipe: Recipe) -> Estimate:
    batch = recipe.batch_size * (2 if recipe.prior else 1)  # subject and class in one forward
    recomputed = recipe.gradient_checkpointing
    teacher = recipe.prior is not None and recipe.prior.kind == "adapter_off"
    with memory.on_meta(spec.architecture) as parts, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT: that the meta device holds no values
        blueprint = _blueprint(spec, parts)
        denoiser = parts[ARCHITECTURES[spec.architecture].denoiser]
        layers = _layers(denoiser)
        text_layers = sum(_layers(encoder.model) for encoder in blueprint.text_encoders)
        with installed(blueprint, None, recipe) as method:
            size = method.size()
            load = memory.Load(spec.size, batch, method.trains_text, recomputed)
            step = memory.step(spec.architecture, denoiser, load)
    # Frozen weights make the way back about as long as the way there; the teacher goes there alone.
    passes = 1.5 if recomputed else 1.0
    dispatch = DISPATCH * layers * (passes + teacher / 2) + DISPATCH_ADAPTER * size.layers * passes
    if method.trains_text:
        dispatch += DISPATCH * text_layers
    flops = step.flops
    if teacher:  # on half of the batch
        flops += step.flops / (3 if recomputed else 2) / 2
    return Estimate(
        weights=memory.weights(spec.architecture),
        trained=size.trained,
        layers=size.layers,
        masters=4 * size.trained,
        gradients=4 * size.trained,
        optimizer=8 * size.trained,
        activations=step.activations,
        flops=flops,
        dispatch=dispatch,
        file=size.file,
    )


def _layers(module: nn.Module) -> int:
    """How many of its parts hold no others."""
    return sum(not list(part.children()) for part in module.modules())


def _blueprint(spec: BaseSpec, parts: dict[str, Any]) -> Any:
    """What methods ask of a base, without one: no tokenizers, and modules without weights."""
    # T5 learns nothing in any method; see `bases.flow`.
    modules = {n: m for n, m in parts.items() if n not in ("vae", "text_encoder_3")}
    encoders = tuple(TextEncoder(n, m, None) for n, m in modules.items() if "text" in n)
    return _Blueprint(spec, modules, encoders)


@dataclass(frozen=True)
class Outlook:
    """Of a whole run, as far as it can be told beforehand; None where it cannot."""

    seconds: float | None
    memory: int | None  # bytes, the base included
    file: int | None  # bytes


def outlook(base: Base, recipe: Recipe) -> Outlook:
    """What `recipe` takes on a base that is loaded."""
    cost = estimate(base.spec, recipe)
    samples = recipe.batch_size * (2 if recipe.prior else 1)
    pictures = recipe.steps // recipe.preview_every * COUNT if recipe.preview_every else 0
    if recipe.prior and recipe.prior.kind == "images":
        pictures += recipe.prior.images
    pace = PACES.get((base.spec.architecture, base.device.type))
    if pace:
        sample = pace.weights if recipe.trains_weights else pace.word
        seconds = START + recipe.steps * samples * sample + pictures * pace.drawn
        return Outlook(seconds, cost.memory, cost.file)
    step = cost.seconds(_device_name(base.device))
    if step is None:
        return Outlook(None, cost.memory, cost.file)
    # A step passes forwards and backwards; a picture, twice forwards a step for its guidance.
    drawn = base.spec.sampling.steps * step / samples
    return Outlook(START + recipe.steps * step + pictures * drawn, cost.memory, cost.file)


def fitting(spec: BaseSpec, recipe: Recipe, free: int | None) -> Recipe:
    """`recipe`, with gradient checkpointing where it does not fit into `free` bytes without.

    The weights count, so what they hold already is free. Raises `RecipeError` where nothing helps.
    """
    if free is None or estimate(spec, recipe).memory <= free:
        return recipe
    smaller = replace(recipe, gradient_checkpointing=True)
    estimate(spec, smaller).check(free)
    return smaller


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
