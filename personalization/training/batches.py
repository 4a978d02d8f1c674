"""The batch of step n: a pure function of (seed, n).

Nothing here keeps state, so a run cut into slices draws what the run in one piece draws.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

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

    def __getitem__(self, part: slice) -> Batch:
        """Those samples alone."""
        return Batch(**{field.name: getattr(self, field.name)[part] for field in fields(self)})


@dataclass(frozen=True)
class Batches:
    """All batches of a run, by the number of the step.

    Photos come in epochs, each a permutation of its own, so that all are seen equally often.
    The noise levels are stratified: one in each of `size` equal parts of [0, 1), which lowers the
    variance of the gradient at no cost (low-discrepancy sampling as in Kingma et al. 2021, I.1).
    """

    seed: int
    size: int  # samples in each
    photos: int  # how many there are to draw from
    prompts: int  # likewise
    shape: tuple[int, ...]  # (channels, h, w) of a latent
    stream: str = "subject"  # batches of different streams have nothing to do with each other

    def at(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        generator = generator_at(self.seed, step, self.stream)
        size, shape = self.size, (self.size, *self.shape)
        offset = torch.rand((), generator=generator)
        strata = torch.randperm(size, generator=generator)
        return Batch(
            photos=torch.tensor([self._photo(step * size + i) for i in range(size)]),
            prompts=torch.randint(self.prompts, (size,), generator=generator),
            mirrored=torch.rand(size, generator=generator) < 0.5,
            posterior_noise=torch.randn(shape, generator=generator),
            noise=torch.randn(shape, generator=generator),
            u=((strata + offset) / size).clamp(max=1 - 1e-6),
        )

    def _photo(self, position: int) -> int:
        """The photo at this place of all epochs, one after the other."""
        epoch, place = divmod(position, self.photos)
        generator = generator_at(self.seed, self.stream, "epoch", epoch)
        return int(torch.randperm(self.photos, generator=generator)[place])


def generator_at(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
