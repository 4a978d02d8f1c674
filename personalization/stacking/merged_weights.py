"""The effective weights of a stack: what each parameter of a base becomes.

    slots -> parts by parameter -> shares, what a merge leaves of each -> W0 + sum of w * share

Shares are the costly step, and the weights count in them by sign and order alone. So they are cache
(`Base.cache`), and moving a slider adds up again what is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.adapters.weight_deltas import DoRADelta, ModuleKey, WeightDelta, match_modules
from personalization.bases.base import Base
from personalization.cache import BoundedCache
from personalization.stacking import merge

if TYPE_CHECKING:
    from personalization.stacking.stack import Slot, Stack

Values = dict[nn.Parameter, Tensor]


@dataclass(frozen=True)
class Part:
    """One adapter's share in one layer, and how much of it."""

    slot: Slot
    key: Hashable  # of the adapter: what is cache for it is found by this
    place: ModuleKey
    change: WeightDelta
    weight: float

    @property
    def is_text(self) -> bool:
        return self.place.component.startswith("text_encoder")


Layers = dict[nn.Parameter, list[Part]]


def layers(base: Base, stack: Stack) -> Layers:
    """The parts of each parameter that the stack changes.

    Raises `AdapterError` for an adapter that does not fit the base.
    """
    found: Layers = {}
    for slot in stack.active:
        key = _key(slot.adapter)
        for parameter, (place, change) in _places(base, slot, key).items():
            if weight := slot.weight_at(place):
                found.setdefault(parameter, []).append(Part(slot, key, place, change, weight))
    return found


def per_step_variants(stack: Stack, every: Layers) -> list[Layers]:
    """Each adapter's own share in the denoiser, of those that have one."""
    found: list[Layers] = []
    for slot in stack.active:
        turn = {
            parameter: [part for part in parts if part.slot is slot]
            for parameter, parts in every.items()
            if not parts[0].is_text
        }
        found.append({parameter: parts for parameter, parts in turn.items() if parts})
    return [turn for turn in found if turn]


def values(base: Base, every: Layers, stack: Stack) -> Values:
    """What each parameter becomes, of its own dtype; the last ones asked for are cache."""
    key = tuple((p.place, p.key, p.weight) for parts in every.values() for p in parts)
    return base.cache.get(
        ("values", stack.combine, stack.density, stack.rank, stack.seed, key),
        lambda: _values(base.cache, every, stack),
        lambda made: sum(value.nbytes for value in made.values()),
    )


def factored(
    base: Base, parameter: Tensor, parts: Sequence[Part], stack: Stack, rank: int
) -> tuple[Tensor, Tensor, float, float]:
    """up and down of the combination, the square of what was cut off, and that of the whole."""
    low = not any(isinstance(part.change, DoRADelta) for part in parts)
    if stack.combine == "sum" and low:
        up, down, widths = _side_by_side(parameter, parts)
        up = up * _by_column(parts, widths, like=up)
        if not rank:
            return up, down, 0.0, float(((up.T @ up) * (down @ down.T)).sum())
        left, found, right = merge.thin_svd(up, down)
    else:
        delta = _delta(base.cache, parameter, parts, stack).flatten(1)
        left, found, right = torch.linalg.svd(delta, full_matrices=False)
    rank = rank or sum(part.change.rank for part in parts)
    squares = found.double().square()
    up, down = left[:, :rank] * found[:rank], right[:rank]
    return up, down, float(squares[rank:].sum()), float(squares.sum())


def _places(
    base: Base, slot: Slot, key: Hashable
) -> dict[nn.Parameter, tuple[ModuleKey, WeightDelta]]:
    """Which parameters the adapter changes, and how."""
    return base.cache.get(
        ("places", key),
        lambda: match_modules(base.modules, slot.adapter, slot.name),
        lambda _: sum(tensor.nbytes for tensor in slot.adapter.tensors.values()),
    )


def _key(adapter: Adapter) -> Hashable:
    """What tells adapters apart that change different things, or differently much."""
    description = adapter.description
    return adapter.sha256, description.method, description.alpha, description.rank


def _values(cache: BoundedCache, every: Layers, stack: Stack) -> Values:
    # Without inference mode: its tensors could not take part where gradients are wanted later.
    with torch.inference_mode(False), torch.no_grad():
        return {
            parameter: (_delta(cache, parameter, parts, stack).add_(parameter)).to(parameter.dtype)
            for parameter, parts in every.items()
        }


def _delta(cache: BoundedCache, parameter: Tensor, parts: Sequence[Part], stack: Stack) -> Tensor:
    """The combination of the parts, of the parameter's shape, in float32 or finer."""
    weights = [part.weight for part in parts]
    if stack.combine == "svd":
        return _svd(cache, parameter, parts, stack.rank)
    if stack.combine in ("ties", "dare") or (stack.combine == "orthogonal" and len(parts) > 1):
        return merge.weighted_sum(_shares(cache, parameter, parts, stack), weights)
    return merge.weighted_sum(_deltas(cache, parameter, parts), weights)


def _shares(
    cache: BoundedCache, parameter: Tensor, parts: Sequence[Part], stack: Stack
) -> list[Tensor]:
    weights = [part.weight for part in parts]
    order = merge.heaviest_first(weights)
    counts: Hashable
    make: Callable[[], list[Tensor]]
    match stack.combine:
        case "ties":
            counts = stack.density, *(weight >= 0 for weight in weights)

            def make() -> list[Tensor]:
                return merge.ties_shares(_deltas(cache, parameter, parts), weights, stack.density)
        case "dare":
            counts = stack.density, stack.seed

            def make() -> list[Tensor]:
                # From the place's name: no two layers drop alike, and their order is of no matter.
                seed = zlib.crc32(f"{stack.seed} {parts[0].place}".encode())
                generator = torch.Generator().manual_seed(seed)
                deltas = _deltas(cache, parameter, parts)
                return merge.dare_shares(deltas, stack.density, generator)
        case _:
            counts = order

            def make() -> list[Tensor]:
                spaces = [_space(cache, parameter, part) for part in parts]
                return merge.orthogonal_shares(_deltas(cache, parameter, parts), order, spaces)

    return cache.get((stack.combine, *_who(parts), counts), make, _bytes)


def _deltas(cache: BoundedCache, parameter: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    return [_kept_delta(cache, parameter, part) for part in parts]


def _kept_delta(cache: BoundedCache, parameter: Tensor, part: Part) -> Tensor:
    return cache.get(
        ("delta", part.place, part.key),
        lambda: part.change.delta(parameter),
        lambda delta: delta.nbytes,
    )


def _svd(cache: BoundedCache, parameter: Tensor, parts: Sequence[Part], rank: int) -> Tensor:
    """The strongest directions of the sum, from the QR of all factors at weight 1."""
    rank = rank or max(part.change.rank for part in parts)
    if any(isinstance(part.change, DoRADelta) for part in parts):
        deltas = _deltas(cache, parameter, parts)
        return merge.svd(deltas, [part.weight for part in parts], rank)

    def make() -> tuple[list[Tensor], list[int]]:
        up, down, widths = _side_by_side(parameter, parts)
        return [*torch.linalg.qr(up), *torch.linalg.qr(down.T)], widths

    (q_up, r_up, q_down, r_down), widths = cache.get(
        ("svd", *_who(parts)), make, lambda made: _bytes(made[0])
    )
    weighted = r_up * _by_column(parts, widths, like=r_up)
    left, found, right = merge.svd_between(q_up, weighted, q_down, r_down)
    return ((left[:, :rank] * found[:rank]) @ right[:rank]).reshape(parameter.shape)


def _side_by_side(parameter: Tensor, parts: Sequence[Part]) -> tuple[Tensor, Tensor, list[int]]:
    """up (out, sum of ranks) and down (sum of ranks, in * kernel) at weight 1; each one's rank."""
    ups, downs = zip(*(merge.factors(part.change, parameter) for part in parts), strict=True)
    return torch.cat(ups, 1), torch.cat(downs), [len(down) for down in downs]


def _by_column(parts: Sequence[Part], widths: Sequence[int], like: Tensor) -> Tensor:
    """The weight of each column of `_side_by_side`'s up."""
    weights = [p.weight for p, width in zip(parts, widths, strict=True) for _ in range(width)]
    return torch.tensor(weights, dtype=like.dtype, device=like.device)


def _space(cache: BoundedCache, parameter: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    """What it writes to and what it reads from, for `merge.orthogonal_shares`."""

    def make() -> tuple[Tensor, Tensor]:
        up, down = merge.factors(part.change, parameter)
        up, into = (m / m.norm(dim=0).clamp(min=1e-30) for m in (up, down.T))
        return merge.orthonormal(up, 1e-4), merge.orthonormal(into, 1e-4)

    return cache.get(("space", part.place, part.key), make, _bytes)


def _who(parts: Sequence[Part]) -> tuple[Hashable, ...]:
    return parts[0].place, *(part.key for part in parts)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
