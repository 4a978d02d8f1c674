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

    pool: int  # whose photos these are
    photos: Tensor  # (size,) int64: index into the pool's photos
    prompts: Tensor  # (size,) int64: index into the phrasings
    mirrored: Tensor  # (size,) bool
    posterior_noise: Tensor  # (size, channels, h, w): the autoencoder's
    noise: Tensor  # (size, channels, h, w): the diffusion's
    u: Tensor  # (size,) in [0, 1): the noise level, uniform and stratified over the batch

    def __getitem__(self, part: slice) -> Batch:
        """Those samples alone."""
        chance = [field.name for field in fields(self) if field.name != "pool"]
        return Batch(self.pool, **{name: getattr(self, name)[part] for name in chance})


@dataclass(frozen=True)
class Pool:
    """Photos of one shape, of which batches are made."""

    photos: int
    shape: tuple[int, ...]  # (channels, h, w) of a latent


@dataclass(frozen=True)
class Batches:
    """All batches of a run, by the number of the step.

    Photos come in epochs, each a permutation of its own, so that all are seen equally often. Where
    they are of several shapes, a batch is of one: of as many steps as there are photos, a pool has
    as many as it has photos, and they lie as evenly as can be. So after n steps a pool has had its
    share of them, but for less than one; and after every epoch each photo was seen `size` times.
    The noise levels are stratified: one in each of `size` equal parts of [0, 1), which lowers the
    variance of the gradient at no cost (low-discrepancy sampling as in Kingma et al. 2021, I.1).
    """

    seed: int
    size: int  # samples in each
    pools: tuple[Pool, ...]
    prompts: int  # how many there are to draw from
    stream: str = "subject"  # batches of different streams have nothing to do with each other

    def at(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        pool, turn = self._turn(step)
        generator = generator_at(self.seed, step, self.stream)
        size, shape = self.size, (self.size, *self.pools[pool].shape)
        offset = torch.rand((), generator=generator)
        strata = torch.randperm(size, generator=generator)
        photos = self.pools[pool].photos
        return Batch(
            pool,
            photos=torch.tensor([self._photo(photos, turn * size + i) for i in range(size)]),
            prompts=torch.randint(self.prompts, (size,), generator=generator),
            mirrored=torch.rand(size, generator=generator) < 0.5,
            posterior_noise=torch.randn(shape, generator=generator),
            noise=torch.randn(shape, generator=generator),
            u=((strata + offset) / size).clamp(max=1 - 1e-6),
        )

    def _turn(self, step: int) -> tuple[int, int]:
        """Whose turn it is at `step`, and which of that pool's turns it is.

        Pool k has its turns of a round at (i + phase) / photos of it, by a phase of that round.
        """
        if len(self.pools) == 1:
            return 0, step
        everything = sum(pool.photos for pool in self.pools)
        number, place = divmod(step, everything)
        generator = generator_at(self.seed, self.stream, "round", number)
        phases = torch.rand(len(self.pools), generator=generator).tolist()
        turns = sorted(
            ((i + phase) / pool.photos, k, i)
            for k, (pool, phase) in enumerate(zip(self.pools, phases, strict=True))
            for i in range(pool.photos)
        )
        _, pool, turn = turns[place]
        return pool, number * self.pools[pool].photos + turn

    def _photo(self, photos: int, position: int) -> int:
        """The photo at this place of all epochs of a pool, one after the other."""
        epoch, place = divmod(position, photos)
        generator = generator_at(self.seed, self.stream, "epoch", epoch)
        return int(torch.randperm(photos, generator=generator)[place])


def generator_at(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
