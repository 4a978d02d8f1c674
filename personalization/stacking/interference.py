"""How much adapters get into each other's way, and weights with which they do less.

Everything here is reckoned from low-rank factors: no base is needed, and no delta is formed.
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
from personalization.adapters.adapter_deltas import deltas_of
from personalization.adapters.module_keys import ModuleKey
from personalization.stacking.merge import factors, thin_svd
from personalization.stacking.stack import Stack


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
    decomposed = [
        {place: _Decomposed(*pair, thin_svd(*pair)) for place, pair in _factors_of(adapter).items()}
        for adapter in adapters
    ]
    pairs = itertools.combinations(range(len(decomposed)), 2)
    return {(i, j): _overlap(decomposed[i], decomposed[j]) for i, j in pairs}


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


def suggest(stack: Stack) -> tuple[float, ...]:
    """Weights with which the sum changes the base no more than the strongest adapter alone would.

    All weights are lowered by one factor, so that their balance stays, until the norm of the
    weighted sum, over all layers, is at most that of the largest single adapter at its recommended
    strength. Weights that keep to it already are given back as they are, and so are those of
    learned words, which have no half and add to no sum.
    """
    if not stack.slots:
        return ()
    table = gram([slot.adapter for slot in stack.slots])
    squares = table.diagonal().tolist()
    weights = torch.tensor([slot.weight for slot in stack.slots], dtype=torch.float64)
    strengths = [abs(slot.adapter.description.strength) for slot in stack.slots]
    bound = max(s * math.sqrt(square) for s, square in zip(strengths, squares, strict=True))
    size = math.sqrt(max(0.0, float(weights @ table @ weights)))
    factor = min(1.0, bound / size) if size else 1.0
    return tuple(
        round(float(weight) * (factor if square else 1.0), 3)
        for weight, square in zip(weights, squares, strict=True)
    )


class _Decomposed(NamedTuple):
    """One layer's change: its factors and their SVD."""

    up: Tensor
    down: Tensor
    svd: tuple[Tensor, Tensor, Tensor]

    @property
    def size(self) -> float:
        """The change's Frobenius norm."""
        return float(self.svd[1].double().norm())


def _overlap(
    first: Mapping[ModuleKey, _Decomposed], second: Mapping[ModuleKey, _Decomposed]
) -> Overlap:
    layers: list[LayerOverlap] = []
    inner_product = shared = sizes = 0.0
    for place, a in first.items():
        b = second.get(place)
        if b is None or not (size := a.size * b.size):
            continue
        inner, part = _inner(a.up, a.down, b.up, b.down), _shared(a.svd, b.svd)
        layers.append(LayerOverlap(place, inner / size, part))
        inner_product, shared, sizes = inner_product + inner, shared + part * size, sizes + size
    if not layers:
        return Overlap((), 0.0, 0.0)
    norms = [math.hypot(*(a.size for a in side.values())) for side in (first, second)]
    return Overlap(tuple(layers), inner_product / math.prod(norms), shared / sizes)


def _factors_of(adapter: Adapter) -> dict[ModuleKey, tuple[Tensor, Tensor]]:
    return {place: factors(change) for place, change in deltas_of(adapter).items()}


def _inner(up_a: Tensor, down_a: Tensor, up_b: Tensor, down_b: Tensor) -> float:
    """<up_a down_a, up_b down_b> without forming either."""
    left, right = up_a.double().T @ up_b.double(), down_a.double() @ down_b.double().T
    return float((left * right).sum())


def _shared(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> float:
    """The mean squared cosine of the principal angles, over what is read and what is written."""
    smaller = min(len(a[1]), len(b[1]))
    written, read = (a[0].T @ b[0]).square().sum(), (a[2] @ b[2].T).square().sum()
    return float(written + read) / (2 * smaller)
