"""What keeps the class (Ruiz et al. 2022, section 3.3): pictures of it, or the base as a teacher.

The pictures are what the untouched base draws. They are kept by content (base, prompt, settings,
seed), so that nobody pays twice for the same class; those of the pocket's own classes come with it
(`pocket.class_images`), laid out as a cache is. They stay latents: they are what training needs,
and decoding them to encode them again would cost time and blur them. Where the recipe keeps a value
in 8 bits, that is so of those that come with it and of those drawn here, and it makes no
difference to a run which of them it had.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from personalization.bases.base import Base
from personalization.bases.catalog import ASSETS
from personalization.cache import ON_DISK, trim
from personalization.events import Stage
from personalization.files import write_atomically
from personalization.methods import Method
from personalization.recipe import Recipe
from personalization.sampling import generate
from personalization.training import processes
from personalization.training.batches import Batches, Pool
from personalization.training.examples import Samples
from personalization.training.run import Run

PER_BATCH = 8
SHIPPED = ASSETS / "pocket-class-images"
SHIPPED_COUNT = 24  # of each of the pocket's classes: as many as its recipe asks for of a creature


@dataclass(frozen=True)
class ClassImages:
    """`count` latents of `prompt` as the untouched base draws it, in batches.

    Batch b has seeds of its own, so that the pictures do not depend on how the work was cut.
    """

    base: Base
    prompt: str
    count: int
    cache: Path  # shared by all runs
    limit: int = ON_DISK  # bytes of the cache
    size: int = 0  # pixels to a side; 0: the base's own
    bits: int = 8  # of a value: 8, or 32 as they are drawn
    shipped: Path = SHIPPED  # where some lie already

    @property
    def key(self) -> str:
        """Everything that decides what they are but their number."""
        spec = self.base.spec
        size = self.size or spec.size
        key = f"{self.base.fingerprint}|{self.prompt}|{size}|{spec.sampling}|{PER_BATCH}"
        key += f"|{self.bits if self.bits < 32 else 1}"  # 1: those of 0.1 and 0.2 go on to serve
        return hashlib.sha256(key.encode()).hexdigest()[:24]

    @property
    def paths(self) -> list[Path]:
        """The file of each batch: the one that is shipped, or the cache's."""
        drawn, shipped = self.cache / self.key, self.shipped / self.key
        names = [f"{b:04d}.safetensors" for b in range(-(-self.count // PER_BATCH))]
        return [(shipped if (shipped / name).exists() else drawn) / name for name in names]

    def missing(self) -> int:
        """Batches that are still to be drawn."""
        return sum(not path.exists() for path in self.paths)

    def draw(
        self, out_of_time: Callable[[float], bool], record: Callable[[float], None]
    ) -> Iterator[Stage]:
        """Draw what is missing, batch by batch.

        `out_of_time(seconds)` says whether that many seconds are too many for this slice; then it
        returns early, and the next slice goes on. `record(seconds)` is told of each batch drawn.
        """
        slowest = 0.0
        self.cache.mkdir(exist_ok=True)
        for b, path in enumerate(self.paths):
            if path.exists():
                if path.is_relative_to(self.cache):
                    path.touch()  # used: others go first where the cache is full
            else:
                if out_of_time(slowest):
                    return
                started = time.monotonic()
                seeds = [b * PER_BATCH + i for i in range(PER_BATCH)]
                prompts = [self.prompt] * PER_BATCH
                latents = generate.draw_latents(self.base, prompts, seeds, self.size)
                kept = packed(latents) if self.bits == 8 else {"latents": latents.contiguous()}
                write_atomically(path, save_tensors(kept))
                seconds = time.monotonic() - started
                record(seconds)
                slowest = max(slowest, seconds)
                trim(self.cache, self.limit, spare=self.paths)
            yield Stage("class images", min(self.count, (b + 1) * PER_BATCH), self.count)

    def latents(self) -> Tensor:
        """(count, channels, h, w), once all are drawn."""
        parts = [unpacked(load_tensors(path.read_bytes())) for path in self.paths]
        return torch.cat(parts)[: self.count]


def packed(latents: Tensor) -> dict[str, Tensor]:
    """(count, channels, h, w) in 8 bits a value: steps of a 127th of its channel's largest."""
    step = latents.abs().amax((0, 2, 3), keepdim=True) / 127
    return {"latents": (latents / step).round().to(torch.int8), "step": step}


def unpacked(kept: dict[str, Tensor]) -> Tensor:
    """What `packed`, or an earlier version, has kept."""
    return kept["latents"] * kept["step"] if "step" in kept else kept["latents"]


class Preservation(Protocol):
    """What the class is held to."""

    prompt: str
    weight: float  # lambda of the paper

    def at(self, step: int, subject: Samples) -> tuple[Samples, Tensor]:
        """As many samples of the class as `subject` has, and what `predict` is to say of them."""
        ...


def class_images(base: Base, run: Run, cache: Path) -> ClassImages | None:
    """Those that the run's recipe asks for, drawn or not; None where it asks for none."""
    return _asked_for(base, run.recipe, run.concept.class_prompt(), cache)


def to_draw(base: Base, recipe: Recipe, prompt: str, cache: Path) -> int:
    """How many pictures of the class a run would have to draw before its first step."""
    images = _asked_for(base, recipe, prompt, cache)
    return PER_BATCH * images.missing() if images else 0


def _asked_for(base: Base, recipe: Recipe, prompt: str, cache: Path) -> ClassImages | None:
    prior = recipe.prior
    if not prior or prior.kind != "images":
        return None
    size, bits = recipe.resolution, prior.bits
    return ClassImages(base, prompt, prior.images, cache, size=size, bits=bits)


def preservation(base: Base, run: Run, method: Method, cache: Path) -> Preservation | None:
    """What the run's recipe asks for, None where that is nothing; class images are drawn before."""
    recipe = run.recipe
    if not recipe.prior:
        return None
    if images := class_images(base, run, cache):
        return _Images(images, recipe.batch_size, recipe.seed, recipe.prior.weight)
    return _Teacher(base, method, run.concept.class_prompt(), recipe, recipe.prior.weight)


class _Images:
    """Pictures of the class, at noise levels of their own."""

    def __init__(self, images: ClassImages, size: int, seed: int, weight: float):
        self.base = images.base
        self.prompt = images.prompt
        self.weight = weight
        self.latents = images.latents().to(self.base.device)
        self.share = processes.share(size)
        pool = Pool(images.count, tuple(self.latents.shape[1:]))
        self.batches = Batches(seed, size, (pool,), 1, stream="class")
        side = float(images.size or images.base.spec.size)
        self.sizes = torch.tensor([side, side, 0, 0, side, side], device=images.base.device)

    def at(self, step: int, subject: Samples) -> tuple[Samples, Tensor]:
        batch, device = self.batches.at(step)[self.share], self.base.device
        latents = self.latents[batch.photos.to(device)]
        noise, u = batch.noise.to(device), batch.u.to(device)
        sizes = None if subject.sizes is None else self.sizes.expand(len(subject), -1)
        samples = Samples(latents, [self.prompt] * len(subject), noise, u, sizes=sizes)
        return samples, self.base.target(latents, noise, u)


class _Teacher:
    """The base without its adapter, asked for the class.

    It answers on the subject's own noisy latents: what must not change is what the base says of
    them when it is asked for the class.
    """

    def __init__(self, base: Base, method: Method, prompt: str, recipe: Recipe, weight: float):
        self.base = base
        self.method = method
        self.prompt = prompt
        self.seed, self.size = recipe.seed, recipe.batch_size
        self.share = processes.share(recipe.batch_size)
        self.weight = weight
        # Before the first step nothing has changed: the teacher sees exactly the base.
        with torch.no_grad(), method.adapters_disabled():
            self.conditioning = base.encode_prompts([prompt])

    def at(self, step: int, subject: Samples) -> tuple[Samples, Tensor]:
        latents, size = subject.latents, len(subject)
        pools = (Pool(1, tuple(latents.shape[1:])),)
        batch = Batches(self.seed, self.size, pools, 1, stream="class").at(step)[self.share]
        noise, u = batch.noise.to(latents.device), batch.u.to(latents.device)
        with torch.no_grad(), self.method.adapters_disabled():
            conditioning = self.conditioning[[0] * size].told(subject.sizes)
            target = self.base.predict(latents, conditioning, noise, u)
        samples = Samples(latents, [self.prompt] * size, noise, u, sizes=subject.sizes)
        return samples, target
