"""The weights of a stack: what each parameter of a base becomes.

    slots -> parts by layer -> shares, what a merge leaves of each -> W0 + sum of w * share

Shares are the costly step, and the weights count in them by sign and order alone. So they are kept
in `Base.cache`, and moving a slider adds up again what is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import match_modules
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta, WeightDelta
from personalization.bases.base import Base
from personalization.cache import BoundedCache
from personalization.errors import AdapterError
from personalization.stacking import merge
from personalization.stacking.stack import Slot, Stack

Values = dict[nn.Parameter, Tensor]


@dataclass(frozen=True)
class Part:
    """One adapter's change of one layer, and how much of it.

    `key` tells the adapter from others: what the cache holds of it is found by this.
    """

    slot: Slot
    key: Hashable
    change: WeightDelta
    weight: float


@dataclass(frozen=True)
class Layer:
    """A parameter that the stack changes, where it stands in the base, and what changes it."""

    parameter: nn.Parameter
    place: ModuleKey
    parts: tuple[Part, ...]

    @property
    def is_text(self) -> bool:
        """Whether it is a text encoder's."""
        return self.place.component.startswith("text_encoder")

    @property
    def weights(self) -> tuple[float, ...]:
        """How much of each part."""
        return tuple(part.weight for part in self.parts)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What tells it from a layer of another place or with other adapters."""
        return self.place, *(part.key for part in self.parts)

    @property
    def is_low_rank(self) -> bool:
        """Whether the factors of the parts' changes do not depend on the parameter's values."""
        return not any(isinstance(part.change, DoRADelta) for part in self.parts)


@dataclass(frozen=True)
class Factored:
    """The combination of a layer's parts as up (out, r) @ down (r, in * kernel).

    `lost` is the square of what the rank cut off, `size` that of the whole.
    """

    up: Tensor
    down: Tensor
    lost: float
    size: float


def layers(base: Base, stack: Stack) -> list[Layer]:
    """What the stack changes. Raises `AdapterError` for an adapter that does not fit the base."""
    by_parameter: dict[nn.Parameter, Layer] = {}
    for slot in stack.active:
        key = _key(slot.adapter)
        for parameter, (place, change) in _matches(base, slot, key).items():
            if weight := slot.weight_at(place):
                others = by_parameter[parameter].parts if parameter in by_parameter else ()
                part = Part(slot, key, change, weight)
                by_parameter[parameter] = Layer(parameter, place, (*others, part))
    return list(by_parameter.values())


def values(base: Base, layers: Sequence[Layer], stack: Stack) -> Values:
    """What each parameter becomes, of its own dtype; the last ones asked for are in the cache."""
    key = tuple((layer.key, layer.weights) for layer in layers)
    return base.cache.get(
        ("values", stack.combine, stack.density, stack.rank, key),
        lambda: _values(base.cache, layers, stack),
        lambda made: _bytes(made.values()),
    )


def per_step_variants(base: Base, layers: Sequence[Layer], stack: Stack) -> list[Values]:
    """The denoiser's weights with each adapter alone, of those that change it."""
    variants = []
    for slot in stack.active:
        alone = [_alone(layer, slot) for layer in layers if not layer.is_text]
        if changed := [layer for layer in alone if layer.parts]:
            variants.append(values(base, changed, stack))
    return variants


def factored(base: Base, layer: Layer, stack: Stack, rank: int) -> Factored:
    """The combination of the layer's parts, cut at `rank`; 0 for the adapters' own added up."""
    if stack.combine == "sum" and layer.is_low_rank:
        up, down, ranks = _side_by_side(layer)
        up = up * _by_column(layer, ranks, like=up)
        if not rank:
            return Factored(up, down, 0.0, float(((up.T @ up) * (down @ down.T)).sum()))
        left, singular, right = merge.thin_svd(up, down)
    else:
        delta = _delta(base.cache, layer, stack).flatten(1)
        left, singular, right = torch.linalg.svd(delta, full_matrices=False)
    rank = rank or sum(part.change.rank for part in layer.parts)
    squares = singular.double().square()
    up, down = left[:, :rank] * singular[:rank], right[:rank]
    return Factored(up, down, float(squares[rank:].sum()), float(squares.sum()))


def _alone(layer: Layer, slot: Slot) -> Layer:
    parts = tuple(part for part in layer.parts if part.slot is slot)
    return Layer(layer.parameter, layer.place, parts)


def _matches(
    base: Base, slot: Slot, key: Hashable
) -> dict[nn.Parameter, tuple[ModuleKey, WeightDelta]]:
    """Which parameters the adapter changes, and how."""
    return base.cache.get(
        ("matches", key),
        lambda: match_modules(base.modules, slot.adapter, slot.name),
        lambda _: _bytes(slot.adapter.tensors.values()),
    )


def _key(adapter: Adapter) -> Hashable:
    """What tells adapters apart that change different things, or differently much."""
    description = adapter.description
    return adapter.sha256, description.method, description.alpha, description.rank


def _values(cache: BoundedCache, layers: Sequence[Layer], stack: Stack) -> Values:
    # Without inference mode: its tensors could not take part where gradients are wanted later.
    with torch.inference_mode(False), torch.no_grad():
        values = {
            layer.parameter: _delta(cache, layer, stack)
            .add_(layer.parameter)
            .to(layer.parameter.dtype)
            for layer in layers
        }
    _check_finite(values, layers)
    return values


def _check_finite(values: Values, layers: Sequence[Layer]) -> None:
    """Raise `AdapterError` where a weight is more than the base's precision holds."""
    finite = [values[layer.parameter].isfinite().all() for layer in layers]
    for layer, is_finite in zip(layers, finite, strict=True):
        if not is_finite:
            names = " and ".join(dict.fromkeys(f"“{part.slot.name}”" for part in layer.parts))
            precision = str(layer.parameter.dtype).removeprefix("torch.")
            raise AdapterError(
                f"{names} changes {layer.place} by more than {precision} holds, in which this base "
                "is computed: its pictures would be black. Lower the weight, or take it out.",
                field="weight",
            )


def _delta(cache: BoundedCache, layer: Layer, stack: Stack) -> Tensor:
    """The combination of the parts, of the parameter's shape, in float32 or finer."""
    if stack.combine == "svd":
        return _svd(cache, layer, stack.rank)
    if stack.combine in ("ties", "dare") or (stack.combine == "orthogonal" and layer.parts[1:]):
        return merge.weighted_sum(_shares(cache, layer, stack), layer.weights)
    return merge.weighted_sum(_deltas(cache, layer), layer.weights)


def _shares(cache: BoundedCache, layer: Layer, stack: Stack) -> list[Tensor]:
    """What TIES, DARE or orthogonal merging leaves of each delta."""
    order = merge.heaviest_first(layer.weights)
    signs = tuple(weight >= 0 for weight in layer.weights)
    depends_on: Hashable = {
        "ties": (stack.density, signs),
        "dare": stack.density,
        "orthogonal": order,
    }[stack.combine]

    def make() -> list[Tensor]:
        deltas = _deltas(cache, layer)
        if stack.combine == "ties":
            return merge.ties_shares(deltas, layer.weights, stack.density)
        if stack.combine == "dare":
            return merge.dare_shares(deltas, stack.density, _generator(layer.place))
        spaces = [_spaces(cache, layer, part) for part in layer.parts]
        return merge.orthogonal_shares(deltas, order, spaces)

    return cache.get((stack.combine, *layer.key, depends_on), make, _bytes)


def _generator(place: ModuleKey) -> torch.Generator:
    """DARE's: by the place's name, so that no two layers drop alike, whatever their order."""
    return torch.Generator().manual_seed(zlib.crc32(f"0 {place}".encode()))


def _deltas(cache: BoundedCache, layer: Layer) -> list[Tensor]:
    """Each part's change at weight 1."""
    return [_change(cache, layer, part) for part in layer.parts]


def _change(cache: BoundedCache, layer: Layer, part: Part) -> Tensor:
    return cache.get(
        ("delta", layer.place, part.key),
        lambda: part.change.delta(layer.parameter),
        lambda delta: delta.nbytes,
    )


def _svd(cache: BoundedCache, layer: Layer, rank: int) -> Tensor:
    """The strongest directions of the sum, from the QR of all factors at weight 1."""
    rank = rank or max(part.change.rank for part in layer.parts)
    if not layer.is_low_rank:
        return merge.svd(_deltas(cache, layer), layer.weights, rank)

    def make() -> tuple[list[Tensor], list[int]]:
        up, down, ranks = _side_by_side(layer)
        return [*torch.linalg.qr(up), *torch.linalg.qr(down.T)], ranks

    (q_up, r_up, q_down, r_down), ranks = cache.get(
        ("svd", *layer.key), make, lambda made: _bytes(made[0])
    )
    weighted = r_up * _by_column(layer, ranks, like=r_up)
    left, singular, right = merge.svd_between(q_up, weighted, q_down, r_down)
    return ((left[:, :rank] * singular[:rank]) @ right[:rank]).reshape(layer.parameter.shape)


def _side_by_side(layer: Layer) -> tuple[Tensor, Tensor, list[int]]:
    """up (out, sum of ranks) and down (sum of ranks, in * kernel) at weight 1; each one's rank."""
    pairs = [merge.factors(part.change, layer.parameter) for part in layer.parts]
    ups, downs = zip(*pairs, strict=True)
    return torch.cat(ups, 1), torch.cat(downs), [len(down) for down in downs]


def _by_column(layer: Layer, ranks: Sequence[int], like: Tensor) -> Tensor:
    """The weight of each column of `_side_by_side`'s up."""
    weights = [w for w, rank in zip(layer.weights, ranks, strict=True) for _ in range(rank)]
    return torch.tensor(weights, dtype=like.dtype, device=like.device)


def _spaces(cache: BoundedCache, layer: Layer, part: Part) -> tuple[Tensor, Tensor]:
    """What it writes to and what it reads from, for `merge.orthogonal_shares`."""

    def make() -> tuple[Tensor, Tensor]:
        up, down = merge.factors(part.change, layer.parameter)
        up, into = (m / m.norm(dim=0).clamp(min=1e-30) for m in (up, down.T))
        return merge.orthonormal(up, 1e-4), merge.orthonormal(into, 1e-4)

    return cache.get(("spaces", layer.place, part.key), make, _bytes)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
