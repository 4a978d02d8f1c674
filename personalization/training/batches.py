"""The batch of step n: a pure function of (seed, n).

Nothing here keeps state, so a run cut into slices draws what the run in one piece draws.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What chance decides in one step, for `size` samples. On the CPU."""

    photos: Tensor  # (size,) int64: index into the photos
    prompts: Tensor  # (size,) int64: index into the phrasings
    mirrored: Tensor  # (size,) bool
    posterior_noise: Tensor  # (size, channels, h, w): the autoencoder's
    noise: Tensor  # (size, channels, h, w): the diffusion's
    u: Tensor  # (size,) in [0, 1): the noise level, uniform and stratified over the batch


def generator_at(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def batch_at(
    seed: int,
    step: int,
    size: int,
    *,
    photos: int,
    prompts: int,
    shape: tuple[int, ...],
    stream: str = "subject",
) -> Batch:
    """The batch of `step` (from 0). `shape`: (channels, h, w) of a latent.

    Photos come in epochs, each a permutation of its own, so that all are seen equally often.
    The noise levels are stratified: one in each of `size` equal parts of [0, 1), which lowers the
    variance of the gradient at no cost (low-discrepancy sampling as in Kingma et al. 2021, I.1).
    """
    generator = generator_at(seed, step, stream)
    offset = torch.rand((), generator=generator)
    strata = torch.randperm(size, generator=generator)
    return Batch(
        photos=torch.tensor(
            [_in_epoch(seed, stream, step * size + i, photos) for i in range(size)]
        ),
        prompts=torch.randint(prompts, (size,), generator=generator),
        mirrored=torch.rand(size, generator=generator) < 0.5,
        posterior_noise=torch.randn((size, *shape), generator=generator),
        noise=torch.randn((size, *shape), generator=generator),
        u=((strata + offset) / size).clamp(max=1 - 1e-6),
    )


def _in_epoch(seed: int, stream: str, position: int, count: int) -> int:
    epoch, place = divmod(position, count)
    return int(torch.randperm(count, generator=generator_at(seed, stream, "epoch", epoch))[place])
