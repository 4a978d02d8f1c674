"""Ways to make one change of a weight out of several, and how much several meet in it.

Each merge is a pure function of one layer's deltas, matrices or tensors of one shape, and their
weights. A weight may be negative; ranks may differ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter
from personalization.adapters.weight_deltas import (
    DoRADelta,
    FullDelta,
    ModuleKey,
    WeightDelta,
    as_factors,
    deltas_of,
    without_magnitude,
)
from personalization.errors import AdapterError

COMBINATIONS: dict[str, str] = {
    "sum": "Adds them up. For one or two adapters, or any that change different things.",
    "svd": "Adds them up and keeps the strongest directions. For many adapters whose sum is noisy.",
    "ties": "Keeps each one's largest changes and, where they pull apart, the majority's. "
    "For several adapters of one kind.",
    "dare": "Drops changes at random and scales up the rest. For those that wash each other out.",
    "orthogonal": "Takes from each what a heavier one changes already. "
    "For two subjects that blend into one.",
    "switch": "One adapter at each step, in turn. For many subjects in one picture.",
    "composite": "Every adapter at each step, their predictions averaged. "
    "For many subjects in one picture; takes as many times longer.",
}
IN_TIME = ("switch", "composite")  # combined while sampling, not in the weights


def weighted_sum(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum of w_i * delta_i (task arithmetic, Ilharco et al. 2022, arXiv 2212.04089)."""
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total.add_(delta, alpha=weight)
    return total


def svd(deltas: Sequence[Tensor], weights: Sequence[float], rank: int) -> Tensor:
    """The matrix of `rank` that is nearest to the weighted sum (Eckart and Young 1936)."""
    total = weighted_sum(deltas, weights)
    left, values, right = torch.linalg.svd(total.flatten(1), full_matrices=False)
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(total.shape)


def ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """TIES (Yadav et al. 2023, arXiv 2306.01708): trim, elect a sign, average those that agree.

    The `density` (0 to 1) of each delta's largest entries is kept; the sign of each entry is that
    of the sum; what has another sign is left out. The mean is over the adapters that agree, so two
    alike count once. A negative weight turns its delta round before the election.
    """
    return weighted_sum(ties_shares(deltas, weights, density), weights)


def ties_shares(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> list[Tensor]:
    """What TIES leaves of each delta; of the weights only the signs count.

    Every merge here but SVD's is the weighted sum of such shares. They are the costly part, and do
    not change while a weight moves.
    """
    turned = [
        delta if weight >= 0 else -delta for delta, weight in zip(deltas, weights, strict=True)
    ]
    trimmed = torch.stack([_largest(delta, density) for delta in turned])
    signs = torch.where(trimmed.sum(0) >= 0, 1, -1)
    agree = trimmed.sign() == signs
    shares = trimmed * agree / agree.sum(0).clamp(min=1)
    return [s if weight >= 0 else -s for s, weight in zip(shares, weights, strict=True)]


def dare(
    deltas: Sequence[Tensor], weights: Sequence[float], density: float, generator: torch.Generator
) -> Tensor:
    """DARE (Yu et al. 2023, arXiv 2311.03099): drop entries at random, scale up the rest, add.

    Each entry is kept with probability `density`, above 0, and divided by it. The generator is one
    of the CPU, so that every device drops the same.
    """
    return weighted_sum(dare_shares(deltas, density, generator), weights)


def dare_shares(
    deltas: Sequence[Tensor], density: float, generator: torch.Generator
) -> list[Tensor]:
    """What DARE leaves of each delta."""
    kept = [
        torch.bernoulli(torch.full(d.shape, density, dtype=d.dtype), generator=generator).to(
            d.device
        )
        for d in deltas
    ]
    return [d * k / density for d, k in zip(deltas, kept, strict=True)]


def orthogonal(
    deltas: Sequence[Tensor], weights: Sequence[float], spaces: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """The sum after each delta has lost what lies in the space of those that weigh more.

    spaces: for each delta, orthonormal bases of what it writes to, (out, r), and of what it reads
    from, (in, r): what its factors span. With U and V those of all heavier deltas together, delta
    becomes delta - U U' delta V V', the nearest one without any part from those inputs to those
    outputs: all are then orthogonal to each other, and the heaviest is as it was. Gram and
    Schmidt's idea, on spaces in place of vectors.
    """
    return weighted_sum(orthogonal_shares(deltas, heaviest_first(weights), spaces), weights)


def orthogonal_shares(
    deltas: Sequence[Tensor], order: Sequence[int], spaces: Sequence[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """What `orthogonal` leaves of each delta, the heaviest first in `order`."""
    shares = list(deltas)
    u, v = (space[:, :0] for space in spaces[order[0]])
    for i in order:
        delta = deltas[i].flatten(1)
        shares[i] = (delta - u @ (u.T @ delta @ v) @ v.T).reshape(deltas[i].shape)
        u, v = (_widened(basis, new) for basis, new in zip((u, v), spaces[i], strict=True))
    return shares


def heaviest_first(weights: Sequence[float]) -> tuple[int, ...]:
    """The numbers of the weights, that of the largest first."""
    return tuple(sorted(range(len(weights)), key=lambda i: -abs(weights[i])))


def thin_svd(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The SVD of up @ down, without forming it and without the directions that are but rounding.

    up: (out, r), down: (r, in) -> (out, k), (k,), (k, in) with k <= r.
    """
    return svd_between(*torch.linalg.qr(up), *torch.linalg.qr(down.T))


def svd_between(
    q_up: Tensor, r_up: Tensor, q_down: Tensor, r_down: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same of (q_up r_up) (q_down r_down)', with orthonormal columns in both q."""
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    kept = int((values > values.max() * 10 * torch.finfo(values.dtype).eps).sum())
    return q_up @ left[:, :kept], values[:kept], right[:kept] @ q_down.T


def orthonormal(columns: Tensor, least: float) -> Tensor:
    """A basis of the columns' span, without those that earlier ones leave shorter than `least`."""
    q, r = torch.linalg.qr(columns)
    long = r.diagonal().abs() > least
    return q if bool(long.all()) else q[:, long]


def factors(change: WeightDelta, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """up (out, r) and down (r, in * kernel) of a change as matrices, in float32 or finer.

    A DoRA's change depends on W0: with `weight` it is taken apart; without it, the low-rank part
    alone is given, and what the magnitudes add is left out. A full fine-tune has no such factors:
    raises `AdapterError`.
    """
    if isinstance(change, FullDelta):
        raise AdapterError(
            "A full fine-tune changes every weight, in no small number of directions. "
            "Extract it as a LoRA first, and use that.",
            field="adapter",
        )
    if isinstance(change, DoRADelta) and weight is not None:
        left, values, right = torch.linalg.svd(change.delta(weight).flatten(1), full_matrices=False)
        return left[:, : change.rank] * values[: change.rank], right[: change.rank]
    down, up = as_factors(without_magnitude(change))
    if weight is not None:
        down, up = (t.to(weight.device) for t in (down, up))
    return up.flatten(1), down.flatten(1)


@dataclass(frozen=True)
class LayerOverlap:
    """How much two adapters share in one layer.

    cosine: of the two deltas, -1 to 1; what the sum gains or loses in size. shared: of the smaller
    adapter's directions, the part (0 to 1) that the other uses as well, the mean of what they read
    from and what they write to; two random ones of rank r in n dimensions share about r / n.
    """

    place: ModuleKey
    cosine: float
    shared: float


@dataclass(frozen=True)
class Overlap:
    """Two adapters' overlap, layer by layer and, weighted by size, as a whole."""

    layers: tuple[LayerOverlap, ...]
    cosine: float
    shared: float

    @property
    def words(self) -> str:
        """What it means, in a sentence."""
        if not self.layers:
            return "They change different layers and do not meet."
        if self.cosine < -0.1:
            return "They pull against each other: each will weaken the other."
        if self.cosine > 0.5:
            return "They change nearly the same: together they count almost double. Lower both."
        if self.cosine > 0.1 or self.shared > 0.5:
            return "They use some of the same directions: expect them to blend. Lower one of them."
        return "They hardly touch each other."


def overlap(a: Adapter, b: Adapter) -> Overlap:
    """How much `a` and `b` get into each other's way, at weight 1 each; no base is needed.

    Of a DoRA only the low-rank part counts: the rest depends on the base. A learned word overlaps
    with nothing.
    """
    return overlaps([a, b])[0, 1]


def overlaps(adapters: Sequence[Adapter]) -> dict[tuple[int, int], Overlap]:
    """`overlap` of every pair i < j, each adapter taken apart once."""
    apart = [
        {place: _Apart(*pair, thin_svd(*pair)) for place, pair in _factors_of(adapter).items()}
        for adapter in adapters
    ]
    pairs = itertools.combinations(range(len(apart)), 2)
    return {(i, j): _overlap(apart[i], apart[j]) for i, j in pairs}


class _Apart(NamedTuple):
    """One layer's change: its factors and their SVD."""

    up: Tensor
    down: Tensor
    svd: tuple[Tensor, Tensor, Tensor]

    @property
    def size(self) -> float:
        return float(self.svd[1].double().norm())


def _overlap(first: Mapping[ModuleKey, _Apart], second: Mapping[ModuleKey, _Apart]) -> Overlap:
    layers: list[LayerOverlap] = []
    product, shared, both = 0.0, 0.0, 0.0
    for place, a in first.items():
        b = second.get(place)
        if b is None or not (size := a.size * b.size):
            continue
        inner = _inner(a.up, a.down, b.up, b.down)
        part = _shared(a.svd, b.svd)
        layers.append(LayerOverlap(place, inner / size, part))
        product, shared, both = product + inner, shared + part * size, both + size
    if not layers:
        return Overlap((), 0.0, 0.0)
    whole = math.prod(math.hypot(*(a.size for a in side.values())) for side in (first, second))
    return Overlap(tuple(layers), product / whole, shared / both)


def gram(adapters: Sequence[Adapter]) -> Tensor:
    """(k, k) in float64: the inner products of the adapters' deltas, summed over all layers."""
    parts = [_factors_of(adapter) for adapter in adapters]
    table = torch.zeros(len(parts), len(parts), dtype=torch.float64)
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[: i + 1]):
            table[i, j] = table[j, i] = sum(
                _inner(*a[place], *b[place]) for place in a if place in b
            )
    return table


def _factors_of(adapter: Adapter) -> dict[ModuleKey, tuple[Tensor, Tensor]]:
    return {place: factors(change) for place, change in deltas_of(adapter).items()}


def _largest(delta: Tensor, density: float) -> Tensor:
    """The density * n entries of the largest magnitude; the others become zero."""
    count = int(density * delta.numel())
    if count >= delta.numel():
        return delta
    if not count:
        return torch.zeros_like(delta)
    size = delta.abs()
    least = size.flatten().kthvalue(delta.numel() - count + 1).values
    return delta * (size >= least)


def _widened(basis: Tensor, new: Tensor) -> Tensor:
    """An orthonormal basis of what both span; what of `new` is in `basis` already adds nothing."""
    rest = new - basis @ (basis.T @ new)
    rest = rest - basis @ (basis.T @ rest)  # what rounding left of it in the first
    return torch.cat([basis, orthonormal(rest, 1e-4)], 1)


def _inner(up_a: Tensor, down_a: Tensor, up_b: Tensor, down_b: Tensor) -> float:
    """<up_a down_a, up_b down_b> without forming either."""
    left, right = up_a.double().T @ up_b.double(), down_a.double() @ down_b.double().T
    return float((left * right).sum())


def _shared(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> float:
    """The mean squared cosine of the principal angles, over what is read and what is written."""
    smaller = min(len(a[1]), len(b[1]))
    written, read = (a[0].T @ b[0]).square().sum(), (a[2] @ b[2].T).square().sum()
    return float(written + read) / (2 * smaller)
