"""What a recipe takes on a base: memory, work, time, the size of the file.

`estimate` computes it from the architecture on torch's meta device (`bases.work`), before anything
is loaded; `outlook` is what the page says of a run on the base in use; `fitting` is the recipe that
its memory allows. Where a base's pace has been measured, its time goes by that; on a CPU by how
fast this one is (`bases.speed`), on a GPU by its data sheet.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from personalization.bases import counts, memory
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.base import Base, TextEncoder
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.loading import precision
from personalization.bases.work import Load, Work, encoding, forward, on_meta
from personalization.bases.work import step as training_step
from personalization.errors import RecipeError
from personalization.methods import installed
from personalization.recipe import LearnedEmbedding, Prior, Recipe
from personalization.sampling import pace
from personalization.training import previews
from personalization.training.annotations import PER_PHOTO
from personalization.training.presets import SMALLER
from personalization.training.prior import SHIPPED_COUNT

# Seconds that a CPU takes to dispatch a layer, there and back, and an adapter's on it: what a step
# of few pictures takes at the least, however fast the card. Fitted to eleven recipes on one H200
# (docs/BENCHMARKS.md), which they meet within a quarter.
DISPATCH, DISPATCH_ADAPTER = 1.9e-4, 5.5e-4
SMALLEST = "bk-sdm-tiny"  # of the bases for photographs
PHOTOS = 5  # that a run is taken to have, for the time that they are encoded in
START = 6.0  # seconds before the first step and after the last, measured on the pocket


@dataclass(frozen=True)
class Estimate:
    """Bytes, but where it says otherwise, of one step with all weights on the device."""

    weights: int  # of the base, in the precision that it is kept in
    trained: int  # numbers
    layers: int  # modules that an adapter changes; 0 for the others
    masters: int  # float32 copies of what is trained
    gradients: int
    optimizer: int  # two moments
    activations: int
    work: Work  # of a step
    dispatch: float  # seconds of a step that a CPU dispatches, while a GPU waits or computes
    file: int  # of the adapter, as written
    precision: torch.dtype

    @property
    def flops(self) -> float:
        """Of a step."""
        return self.work.flops

    @property
    def memory(self) -> int:
        """All of it, and what CUDA takes for itself, or Python on a CPU."""
        parts = (self.weights, self.masters, self.gradients, self.optimizer, self.activations)
        return int(sum(parts) + memory.CONTEXT)

    def seconds(self, device: str) -> float | None:
        """Of a step on a device of that name; None where its speed is not known."""
        return pace.seconds(device, self.work, self.dispatch, self.precision)

    def check(self, free: int, smaller: Sequence[str] = ()) -> None:
        """Raise `RecipeError` where `free` bytes are too few; `smaller` says what would fit."""
        if self.memory > free:
            remedies = smaller or (
                "a LoRA in place of a full fine-tune",
                "a smaller batch",
                "gradient checkpointing",
                "a smaller base",
            )
            raise RecipeError(
                f"This takes about {self.memory / memory.GIB:.1f} GiB, and "
                f"{free / memory.GIB:.1f} GiB are free. Take {_either(remedies)}.",
                field="method",
            )


def _either(remedies: Sequence[str]) -> str:
    *first, last = remedies
    return f"{', '.join(first)}, or {last}" if first else last


@dataclass
class _Blueprint:
    """What methods ask of a base, without one."""

    spec: BaseSpec
    modules: dict[str, nn.Module]
    text_encoders: tuple[TextEncoder, ...]


def estimate(spec: BaseSpec, recipe: Recipe, kept_in: torch.dtype = torch.bfloat16) -> Estimate:
    """Of `recipe` on a base kept in that precision, from its architecture."""
    single = what_counts(spec, recipe)
    row = counts.kept(step_key(spec, single, kept_in))
    counted = Counted(**row) if row else count_step(spec, single, kept_in)  # type: ignore[arg-type]
    recomputed = recipe.gradient_checkpointing
    teacher = recipe.prior is not None and recipe.prior.kind == "adapter_off"
    # Frozen weights make the way back about as long as the way there; the teacher goes there alone.
    passes = 1.5 if recomputed else 1.0
    dispatch = DISPATCH * counted.denoiser_layers * (passes + teacher / 2)
    dispatch += DISPATCH_ADAPTER * counted.layers * passes + DISPATCH * counted.text_layers
    if _apart(recipe):  # as many launches once more
        dispatch *= 2
    work = counted.work
    if teacher:  # on half of the batch
        work += work * (1 / (3 if recomputed else 2) / 2)
    return Estimate(
        weights=memory.weights(spec.architecture, kept_in),
        trained=counted.trained,
        layers=counted.layers,
        masters=4 * counted.trained,
        gradients=4 * counted.trained,
        optimizer=8 * counted.trained,
        activations=counted.activations,
        work=work,
        dispatch=dispatch,
        file=counted.file,
        precision=kept_in,
    )


@dataclass(frozen=True)
class Counted:
    """Of one step, by running it on the meta device."""

    trained: int  # numbers
    layers: int  # modules that an adapter changes
    file: int  # bytes of the adapter
    activations: int  # bytes
    denoiser_layers: int
    text_layers: int  # of encoders that read the prompts anew; 0 where they are not trained
    convolution: float  # the step's `Work`
    linear: float
    attention: float
    kernels: float

    @property
    def work(self) -> Work:
        """There and back, of the denoiser and of encoders that read the prompts anew."""
        return Work(self.convolution, self.linear, self.attention, self.kernels)


def what_counts(spec: BaseSpec, recipe: Recipe) -> Recipe:
    """The recipe of one step, without all that changes neither what is computed nor kept."""
    method = replace(recipe.method, learning_rate=1.0)
    if isinstance(method, LearnedEmbedding):
        method = replace(method, initializer_token="")
    else:
        method = replace(method, text_learning_rate=1.0)
    return Recipe(
        method,
        steps=1,
        batch_size=recipe.batch_size,
        prior=Prior(recipe.prior.kind) if recipe.prior else None,
        gradient_checkpointing=recipe.gradient_checkpointing,
        resolution=recipe.size(spec.size),
    )


def step_key(spec: BaseSpec, single: Recipe, kept_in: torch.dtype) -> str:
    """Under which a step is kept in `counts`: by what it is of, and by a hash of all of that."""
    all_of_it = f"{single.to_json()} {spec.targets} {spec.text_targets}"
    digest = hashlib.sha256(all_of_it.encode()).hexdigest()[:12]
    precision_name = str(kept_in).removeprefix("torch.")
    of = f"{spec.architecture} {precision_name} {single.resolution}px {single.method_name}"
    return f"step {of} {digest}"


def _apart(recipe: Recipe) -> bool:
    """Whether a step takes two forwards: of photos as they are, and of square class images."""
    prior = recipe.prior
    return recipe.framing != "crop" and prior is not None and prior.kind == "images"


@lru_cache(maxsize=64)
def count_step(spec: BaseSpec, single: Recipe, kept_in: torch.dtype) -> Counted:
    """What `what_counts` has left of a recipe, counted now."""
    batch = single.batch_size * (2 if single.prior else 1)  # subject and class in one forward
    recomputed = single.gradient_checkpointing
    with on_meta(spec.architecture, kept_in) as parts, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT: that the meta device holds no values
        blueprint = _blueprint(spec, parts)
        denoiser = parts[ARCHITECTURES[spec.architecture].denoiser]
        layers = _layers(denoiser)
        text_layers = sum(_layers(encoder.model) for encoder in blueprint.text_encoders)
        with installed(blueprint, None, single) as method:
            size = method.size()
            trains_text = method.trains_text
            load = Load(single.resolution, batch, trains_text, recomputed, kept_in)
            anew = [encoder.model for encoder in blueprint.text_encoders if trains_text]
            step = training_step(spec.architecture, denoiser, load, anew)
    return Counted(
        trained=size.trained,
        layers=size.layers,
        file=size.file,
        activations=step.activations,
        denoiser_layers=layers,
        text_layers=text_layers if trains_text else 0,
        **asdict(step.work),
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
    step: float | None = None  # seconds of one


def outlook(base: Base, recipe: Recipe, to_draw: int | None = None) -> Outlook:
    """What `recipe` takes on a base that is loaded.

    to_draw: pictures of the class that a run begins with, where that is known (`prior.to_draw`);
    None: as many as of a class whose pictures come with the base.
    """
    return outlook_on(base.spec, recipe, base.device, to_draw)


def outlook_on(
    spec: BaseSpec, recipe: Recipe, device: torch.device, to_draw: int | None = None
) -> Outlook:
    """What `recipe` takes on a base that may not be loaded."""
    cost = estimate(spec, recipe, precision(spec, device))
    samples = recipe.batch_size * (2 if recipe.prior else 1)
    times = recipe.steps // recipe.preview_every if recipe.preview_every else 0
    size = recipe.size(spec.size)
    preview = pace.previewed(spec, device, previews.steps(spec), size) or 0.0
    drawn = pace.picture(spec, device, spec.sampling, size) or 0.0
    of_class = _class_images(spec, recipe) if to_draw is None else to_draw
    drawing = times * previews.COUNT * preview + of_class * drawn
    looks = PHOTOS * PER_PHOTO if recipe.annotate else 0
    if known := pace.PACES.get((spec.architecture, device.type)):
        sample = known.weights if recipe.trains_weights else known.word
        seconds = START + (recipe.steps * samples + looks / 3) * sample + drawing
        return Outlook(seconds, cost.memory, cost.file, samples * sample)
    name = pace.device_name(device)
    step = cost.seconds(name)
    if step is None:
        return Outlook(None, cost.memory, cost.file)
    photos = (
        pace.seconds(name, encoding(spec.architecture, size) * PHOTOS, 0.0, cost.precision) or 0.0
    )
    look = pace.seconds(name, forward(spec.architecture, size), 0.0, cost.precision) or 0.0
    seconds = START + photos + looks * look + recipe.steps * step + drawing
    return Outlook(seconds, cost.memory, cost.file, step)


def _class_images(spec: BaseSpec, recipe: Recipe) -> int:
    """Pictures of the class that are drawn before the first step, if it is one of the base's."""
    prior = recipe.prior
    asked = prior.images if prior and prior.kind == "images" else 0
    if prior and prior.bits == 8 and spec.small and recipe.size(spec.size) == spec.size:
        return max(0, asked - SHIPPED_COUNT)  # the others come with it
    return asked


def fitting(
    spec: BaseSpec, recipe: Recipe, free: int | None, kept_in: torch.dtype = torch.bfloat16
) -> Recipe:
    """`recipe`, with gradient checkpointing where it does not fit into `free` bytes without.

    The weights count, so what they hold already is free. Raises `RecipeError` where nothing helps,
    with what would fit.
    """
    if free is None or estimate(spec, recipe, kept_in).memory <= free:
        return recipe
    smaller = replace(recipe, gradient_checkpointing=True)
    cost = estimate(spec, smaller, kept_in)
    if cost.memory > free:
        cost.check(free, _remedies(spec, smaller, free, kept_in))
    return smaller


def quicker(
    base: Base, recipe: Recipe, purpose: Literal["word", "subject"]
) -> tuple[dict[int, float], dict[str, float]]:
    """Seconds with photos of fewer pixels, by their size; and on a smaller base, by its title."""
    sizes: dict[int, float] = {}
    for other in smaller_crops(base.spec, recipe):
        if seconds := outlook(base, other).seconds:
            sizes[other.resolution] = seconds
    small = CATALOG[SMALLEST]
    if base.spec.architecture == SMALLEST or base.device.type != "cpu" or base.spec.small:
        return sizes, {}
    least = replace(small.recipes[purpose], resolution=min(sizes, default=recipe.resolution))
    seconds = outlook_on(small, least, base.device).seconds
    title = f"{small.title} with photos of {least.size(small.size)} px"
    return sizes, {title: seconds} if seconds else {}


def smaller_crops(spec: BaseSpec, recipe: Recipe) -> list[Recipe]:
    """The recipe with photos of fewer pixels, the largest first."""
    now = recipe.size(spec.size)
    return [replace(recipe, resolution=size) for size in SMALLER if size < now]


def _remedies(spec: BaseSpec, recipe: Recipe, free: int, kept_in: torch.dtype) -> tuple[str, ...]:
    """What would fit into `free` bytes, where something of this base does."""
    for other in smaller_crops(spec, recipe):
        if estimate(spec, other, kept_in).memory <= free:
            return (f"photos of {other.resolution} px",)
    return ()
