"""What a recipe takes on a base of the catalog: memory, work, time, the size of the file.

Computed from the architecture on torch's meta device (`bases.memory`), so that it can be said
before anything is loaded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from personalization.bases import memory
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.base import TextEncoder
from personalization.bases.spec import CATALOG, BaseSpec
from personalization.errors import RecipeError
from personalization.methods import low_rank
from personalization.methods.full import FullMethod
from personalization.recipe import Full, LowRank, Recipe, Word

# Dense bfloat16, FLOP a second: FIELD.md section 5, and the data sheet of the L4.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12}
SHARE = 0.2  # of the peak: peers reach 0.08 to 0.35 (FIELD.md section 5)


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
                "a smaller batch, or a smaller base.",
                field="method",
            )


@dataclass
class _Blueprint:
    """What methods ask of a base, without one."""

    spec: BaseSpec
    modules: dict[str, nn.Module]
    text_encoders: tuple[TextEncoder, ...]


@lru_cache(maxsize=64)
def estimate(name: str, recipe: Recipe) -> Estimate:
    """Of `recipe` on the catalog's base `name`, whose architecture must be known."""
    spec = CATALOG[name]
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
        word = method if isinstance(method, Word) else getattr(method, "word", None)
        installed: Any = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT: that the meta device holds no values
            if isinstance(method, LowRank):
                # A word beside the adapter is a few thousand numbers; its tokens are not read.
                installed = low_rank.LowRankMethod(base, None, replace(method, word=None), 0)  # type: ignore[arg-type]
            elif isinstance(method, Full):
                installed = FullMethod(base, method)
        if installed:
            for group in installed.groups():
                trained |= group.parameters
        layers = sum(name.endswith(low_rank.FIRST) for name in trained)
        text = word is not None or getattr(method, "text_encoder", False)
        step = memory.step(spec.architecture, denoiser, spec.size, batch, text_trained=text)
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
        flops=step.flops,
        file=(2 if isinstance(method, Full) else 4) * numbers,
    )
