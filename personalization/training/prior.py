"""What keeps the class: latents of pictures that the untouched base draws of it.

They are kept by content (base, prompt, settings, seed), so that nobody pays twice for the same
class. They stay latents: they are what training needs, and decoding them to encode them again
would cost time and blur them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from personalization.bases.base import Base
from personalization.events import Stage
from personalization.files import write_atomically
from personalization.sampling import generate

PER_BATCH = 8


def class_folder(base: Base, prompt: str, cache: Path) -> Path:
    """Where the class's latents lie, by everything that decides what they are but their number."""
    sampling = base.spec.sampling
    key = f"{base.fingerprint}|{prompt}|{base.spec.size}|{sampling}|{PER_BATCH}|1"
    return cache / hashlib.sha256(key.encode()).hexdigest()[:24]


def draw_class(
    base: Base,
    prompt: str,
    count: int,
    cache: Path,
    out_of_time: Callable[[float], bool],
    record: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Stage]:
    """Draw what is missing of `count` latents, batch by batch.

    `over(seconds)` says whether that many seconds are too many for this slice; then it returns
    early, and the next slice goes on. `took(seconds)` is told of each batch that is drawn. Batch b
    has seeds of its own, so that the pictures do not depend on how the work was cut.
    """
    folder = class_folder(base, prompt, cache)
    batches = -(-count // PER_BATCH)
    slowest = 0.0
    for b in range(batches):
        path = folder / f"{b:04d}.safetensors"
        if not path.exists():
            if out_of_time(slowest):
                return
            started = time.monotonic()
            seeds = [b * PER_BATCH + i for i in range(PER_BATCH)]
            latents = generate.draw_latents(base, [prompt] * PER_BATCH, seeds)
            write_atomically(path, save_tensors({"latents": latents.contiguous()}))
            seconds = time.monotonic() - started
            record(seconds)
            slowest = max(slowest, seconds)
        yield Stage("class images", min(count, (b + 1) * PER_BATCH), count)


def class_latents(base: Base, prompt: str, count: int, cache: Path) -> Tensor | None:
    """(count, channels, h, w), or None while some are missing."""
    folder = class_folder(base, prompt, cache)
    paths = [folder / f"{b:04d}.safetensors" for b in range(-(-count // PER_BATCH))]
    if not all(path.exists() for path in paths):
        return None
    parts = [load_tensors(path.read_bytes())["latents"] for path in paths]
    return torch.cat(parts)[:count]
