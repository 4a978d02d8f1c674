"""Ways to make one change of a weight out of several.

Each merge is a pure function of one layer's deltas, matrices or tensors of one shape, and their
weights. A weight may be negative; ranks may differ. Every merge but SVD's is the weighted sum of
shares, what it leaves of each delta: they are the costly part, and do not change while a weight
moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from personalization.adapters.low_rank_factors import as_factors, check_size
from personalization.adapters.weight_deltas import (
    DoRADelta,
    FullDelta,
    WeightDelta,
    without_magnitude,
)
from personalization.errors import AdapterError


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
    nearest: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
    return nearest.reshape(total.shape)


def ties_shares(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> list[Tensor]:
    """TIES (Yadav et al. 2023, arXiv 2306.01708): trim, elect a sign, average those that agree.

    The `density` (0 to 1) of each delta's largest entries stays; the sign of each entry is that of
    the sum; what has another sign is left out. The mean is over the adapters that agree, so two
    alike count once. Of the weights only the signs count: a negative one turns its delta round
    before the election.
    """
    turned = [
        delta if weight >= 0 else -delta for delta, weight in zip(deltas, weights, strict=True)
    ]
    trimmed = torch.stack([_largest(delta, density) for delta in turned])
    signs = torch.where(trimmed.sum(0) >= 0, 1, -1)
    agree = trimmed.sign() == signs
    shares = trimmed * agree / agree.sum(0).clamp(min=1)
    return [s if weight >= 0 else -s for s, weight in zip(shares, weights, strict=True)]


def dare_shares(
    deltas: Sequence[Tensor], density: float, generator: torch.Generator
) -> list[Tensor]:
    """DARE (Yu et al. 2023, arXiv 2311.03099): drop entries at random, scale up the rest.

    Each entry stays with probability `density`, above 0, and is divided by it. The generator is one
    of the CPU, so that every device drops the same.
    """
    masks = [
        torch.bernoulli(torch.full(d.shape, density, dtype=d.dtype), generator=generator)
        for d in deltas
    ]
    return [d * mask.to(d.device) / density for d, mask in zip(deltas, masks, strict=True)]


def orthogonal_shares(
    deltas: Sequence[Tensor], order: Sequence[int], spaces: Sequence[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """What is left of each delta without what lies in the space of those that weigh more.

    order: the deltas' numbers, the heaviest first. spaces: for each delta, orthonormal bases of
    what it writes to, (out, r), and of what it reads from, (in, r): what its factors span. With U
    and V those of all heavier deltas together, delta becomes delta - U U' delta V V', the nearest
    one without any part from those inputs to those outputs: all are then orthogonal to each other,
    and the heaviest is as it was. Gram and Schmidt's idea, on spaces in place of vectors.
    """
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
    rank = int((values > values.max() * 10 * torch.finfo(values.dtype).eps).sum())
    return q_up @ left[:, :rank], values[:rank], right[:rank] @ q_down.T


def orthonormal(columns: Tensor, least: float) -> Tensor:
    """A basis of the columns' span, without those that earlier ones leave shorter than `least`."""
    q: Tensor
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
    return _smaller(up.flatten(1), down.flatten(1))


def _smaller(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same by no more directions than the layer has: a stranger's file may claim any rank."""
    (out, rank), into = up.shape, down.shape[1]
    if rank <= min(out, into):
        return up, down
    check_size(out * into)
    whole = up @ down
    one = torch.eye(min(out, into), dtype=whole.dtype, device=whole.device)
    return (one, whole) if out <= into else (whole, one)


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
