"""What a recipe takes on a base: memory, work, time, the size of the file.

`estimate` computes it from the architecture on torch's meta device (`bases.memory`), before
anything is loaded; `outlook` is what the page says of a run on the base in use; `fitting` is the
recipe that its memory allows. The pocket, which is too small to count, goes by passes measured.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from personalization.bases import memory
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.base import Base, TextEncoder
from personalization.bases.catalog import BaseSpec
from personalization.errors import RecipeError
from personalization.methods import low_rank
from personalization.methods.full import FullMethod
from personalization.recipe import Full, LearnedEmbedding, LowRank, Recipe

# Dense bfloat16, FLOP a second, as NVIDIA's data sheets have it.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}
SHARE = 0.2  # of the peak: the example scripts reach 0.08 to 0.35
# Seconds before the first step and after the last, and of one pass of one picture forward and back,
# measured on the pocket.
_PACE = {"cpu": (6.0, 0.050), "mps": (6.0, 0.010), "cuda": (6.0, 0.004)}
_DRAWING = 8  # such passes that a picture of the pocket's costs
_PREVIEWS = 3  # pictures of one preview
_HEADER = {"word": 1_600, "low_rank": 24_000}  # bytes of a file that are not numbers


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
    file: int  # of the adapter

    @property
    def memory(self) -> int:
        """All of it, and what CUDA takes for itself."""
        parts = (self.weights, self.masters, self.gradients, self.optimizer, self.activations)
        return int(sum(parts) + memory.CONTEXT)

    def seconds(self, device: str) -> float | None:
        """Of a step on a device of that name; None where its speed is not known."""
        peak = next((peak for name, peak in PEAKS.items() if name in device), None)
        return self.flops / (peak * SHARE) if peak else None

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


@lru_cache(maxsize=64)
def estimate(spec: BaseSpec, recipe: Recipe) -> Estimate:
    """Of `recipe` on a base whose architecture is known."""
    assert spec.architecture is not None
    described = ARCHITECTURES[spec.architecture]
    batch = recipe.batch_size * (2 if recipe.prior else 1)  # subject and class in one forward
    method = recipe.method
    with memory.on_meta(spec.architecture) as parts:
        modules = {n: m for n, m in parts.items() if n != "vae" and n != "text_encoder_3"}
        encoders = tuple(TextEncoder(n, m, None) for n, m in modules.items() if "text" in n)
        base: Any = _Blueprint(spec, modules, encoders)
        denoiser = parts[described.denoiser]
        trained: dict[str, Tensor] = {}
        word = (
            method
            if isinstance(method, LearnedEmbedding)
            else getattr(method, "learned_embedding", None)
        )
        installed: Any = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT: that the meta device holds no values
            if isinstance(method, LowRank):
                # A word beside the adapter is a few thousand numbers; its tokens are not read.
                installed = low_rank.LowRankMethod(
                    base,
                    None,  # type: ignore[arg-type]
                    replace(method, learned_embedding=None),
                    0,
                )
            elif isinstance(method, Full):
                installed = FullMethod(base, method)
        if installed:
            for group in installed.groups():
                trained |= group.parameters
        layers = sum(name.endswith(low_rank.FIRST) for name in trained)
        text = word is not None or getattr(method, "text_encoder", False)
        step = memory.step(
            spec.architecture,
            denoiser,
            spec.size,
            batch,
            text_trained=text,
            recomputed=recipe.gradient_checkpointing,
        )
    flops = step.flops
    if recipe.prior and recipe.prior.kind == "adapter_off":
        # The teacher's forward on half of the batch. Frozen weights make the way back about as
        # long as the way there.
        flops += step.flops / (3 if recipe.gradient_checkpointing else 2) / 2
    numbers = sum(t.numel() for t in trained.values())
    if word:
        models: list[Any] = [encoder.model for encoder in encoders]
        numbers += word.vectors * sum(m.get_input_embeddings().weight.shape[-1] for m in models)
    return Estimate(
        weights=memory.weights(spec.architecture),
        trained=numbers,
        layers=layers,
        masters=4 * numbers,
        gradients=4 * numbers,
        optimizer=8 * numbers,
        activations=step.activations,
        flops=flops,
        file=(2 if isinstance(method, Full) else 4) * numbers,
    )


@dataclass(frozen=True)
class Outlook:
    """Of a whole run, as far as it can be told beforehand; None where it cannot."""

    seconds: float | None
    memory: int | None  # bytes, the base included
    file: int | None  # bytes


def outlook(base: Base, recipe: Recipe) -> Outlook:
    """What `recipe` takes on a base that is loaded."""
    size = _file(base, recipe)
    pictures = recipe.steps // recipe.preview_every * _PREVIEWS if recipe.preview_every else 0
    if recipe.prior and recipe.prior.kind == "images":
        pictures += recipe.prior.images
    seen = recipe.batch_size * (2 if recipe.prior else 1)
    start, forward = _PACE.get(base.device.type, _PACE["cuda"])
    if base.spec.architecture is None:
        passes = 1.0 if isinstance(recipe.method, LearnedEmbedding) else 1.2
        work = recipe.steps * seen * passes + pictures * _DRAWING
        return Outlook(start + forward * work, None, size)
    said = estimate(base.spec, recipe)
    one = said.seconds(_device_name(base.device))
    if one is None:
        return Outlook(None, said.memory, size or said.file)
    # A step passes forwards and backwards; a picture, twice forwards a step for its guidance.
    drawing = base.spec.sampling.steps * one / seen
    return Outlook(start + recipe.steps * one + pictures * drawing, said.memory, size or said.file)


def fitting(spec: BaseSpec, recipe: Recipe, free: int | None) -> Recipe:
    """`recipe`, with gradient checkpointing where it does not fit into `free` bytes without.

    The weights count, so what they hold already is free. Raises `RecipeError` where nothing helps.
    """
    if spec.architecture is None or free is None or estimate(spec, recipe).memory <= free:
        return recipe
    smaller = replace(recipe, gradient_checkpointing=True)
    estimate(spec, smaller).check(free)
    return smaller


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _file(base: Base, recipe: Recipe) -> int | None:
    """Bytes of the file, by the modules of a base that is loaded."""
    method = recipe.method
    models: list[Any] = [encoder.model for encoder in base.text_encoders]
    widths = [model.get_input_embeddings().weight.shape[-1] for model in models]
    rows = (
        sum(4 * recipe.learned_embedding.vectors * width for width in widths)
        if recipe.learned_embedding
        else 0
    )
    if isinstance(method, LearnedEmbedding):
        return _HEADER["word"] + rows
    if isinstance(method, Full):
        texts = {encoder.name for encoder in base.text_encoders if not method.text_encoder}
        trained = [module for name, module in base.modules.items() if name not in texts]
        return 2 * sum(p.numel() for module in trained for p in module.parameters())
    if method.kind == "lokr":  # by how a width divides into two
        return None
    total = _HEADER["low_rank"] + rows
    pairs = 2 if method.kind == "loha" else 1
    for name, module in base.modules.items():
        is_text = name.startswith("text_encoder")
        if is_text and not method.text_encoder:
            continue
        targets = base.spec.text_targets if is_text else method.targets or base.spec.targets
        for path, layer in module.named_modules():
            if path.endswith(targets) and hasattr(layer, "weight"):
                total += 4 * pairs * method.rank * sum(layer.weight.shape[:2])
    return total
