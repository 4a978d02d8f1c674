"""How far two adapters are from each other in what they do to a base."""

from __future__ import annotations

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import TEXTUAL_INVERSION, deltas_of, learned_rows
from personalization.adapters.weight_deltas import DoRADelta, WeightDelta, without_magnitude


def difference(a: Adapter, b: Adapter) -> float:
    """How far b's changes are from a's: the largest relative error over modules and words.

    Infinite where one changes what the other does not. A word that lies in a file of its own is
    not missed in the other's.
    """
    first, second = deltas_of(a), deltas_of(b)
    rows_a, rows_b = learned_rows(a), learned_rows(b)
    if TEXTUAL_INVERSION not in (a.description.method, b.description.method) and not rows_b:
        rows_a = {}
    if first.keys() != second.keys() or rows_a.keys() != rows_b.keys():
        return float("inf")
    errors = [_distance(rows_a[name], rows_b[name]) for name in rows_a]
    errors += [_between(delta, second[key]) for key, delta in first.items()]
    return max(errors, default=0.0)


def _between(a: WeightDelta, b: WeightDelta) -> float:
    if a.size != b.size or isinstance(a, DoRADelta) != isinstance(b, DoRADelta):
        return float("inf")
    zero = torch.zeros(a.size, dtype=torch.float64)
    error = _distance(without_magnitude(a).delta(zero), without_magnitude(b).delta(zero))
    if isinstance(a, DoRADelta) and isinstance(b, DoRADelta):
        return max(error, _distance(a.magnitude.flatten(), b.magnitude.flatten()))
    return error


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).norm() / a.norm().clamp(min=1e-30))
