"""Any change but DoRA's and a full fine-tune's as the factors of a LoRA that does the very same."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from personalization.adapters.weight_deltas import (
    DifferenceDelta,
    LoHaDelta,
    LoKrDelta,
    LoRADelta,
    assembled,
)
from personalization.errors import AdapterError

MAX_NUMBERS = 2**29  # of one layer's factors: four times what the largest layer of a base has
Factors = tuple[Tensor, Tensor, tuple[int, ...]]  # up, down, kernel


def as_factors(
    change: LoRADelta | LoHaDelta | LoKrDelta | DifferenceDelta,
) -> tuple[Tensor, Tensor]:
    """(rank, in[, kh, kw]) and (out, rank[, 1, 1]) whose product is the change, scale included.

    Exact: the Hadamard product of two products of rank r is one of rank r * r, and a Kronecker
    product has the ranks of its factors multiplied. Where that is more than the weight has, the
    whole change is one factor and the other an identity. Raises `AdapterError` for what takes more
    numbers than any layer has.
    """
    if isinstance(change, LoRADelta):
        return change.down.float(), change.up.float() * change.scale
    up, down, kernel = _factors(change)
    down = down.reshape(-1, down.shape[1] // math.prod(kernel), *kernel)
    up = up.reshape(*up.shape, *[1] * len(kernel))
    return down.float().contiguous(), up.float().contiguous()


def check_size(numbers: int) -> None:
    """Raise `AdapterError` for a layer that takes more numbers than any base's."""
    if numbers > MAX_NUMBERS:
        raise AdapterError(
            f"A layer of the adapter takes {numbers:,} numbers as it is laid out, and "
            f"{MAX_NUMBERS:,} are the most that any base's has. Its rank is too high for use here.",
            field="adapter",
        )


def _factors(change: LoHaDelta | LoKrDelta | DifferenceDelta) -> Factors:
    out, into = change.size
    directions = _directions(change)
    if isinstance(change, DifferenceDelta) or directions > min(out, into):
        check_size(out * into)
        return _whole(change)
    check_size(directions * (out + into))
    up, down, kernel = _hadamard(change) if isinstance(change, LoHaDelta) else _kronecker(change)
    return up * change.scale, down, kernel


def _directions(change: LoHaDelta | LoKrDelta | DifferenceDelta) -> int:
    """The rank that the factors show."""
    if isinstance(change, LoHaDelta):
        return change.w1_b.shape[0] * change.w2_b.shape[0]
    if isinstance(change, LoKrDelta):
        return _inner(change.w1) * _inner(change.w2)
    return change.rank


def _inner(factors: tuple[Tensor, ...]) -> int:
    shape = factors[0].shape if len(factors) == 1 else factors[1].shape[:1]
    return min(shape[0], math.prod(shape[1:]) or 1)


def _whole(change: LoHaDelta | LoKrDelta | DifferenceDelta) -> Factors:
    """The change itself beside an identity on its smaller side."""
    out, into = change.size
    matrix = change.delta(torch.zeros(out, into, dtype=torch.float64))
    kernel = _kernel(change)
    if out <= into:
        return torch.eye(out, dtype=matrix.dtype), matrix, kernel
    return matrix, torch.eye(into, dtype=matrix.dtype), kernel


def _kernel(change: LoHaDelta | LoKrDelta | DifferenceDelta) -> tuple[int, ...]:
    if isinstance(change, LoHaDelta):
        return tuple(change.t1.shape[2:]) if change.t1 is not None else ()
    last = change.w2[-1] if isinstance(change, LoKrDelta) else change.difference
    return tuple(last.shape[2:])


def _hadamard(change: LoHaDelta) -> Factors:
    """Row by row and column by column, the products of the factors' entries (Khatri and Rao)."""
    a, b, c, d = (t.double() for t in (change.w1_a, change.w1_b, change.w2_a, change.w2_b))
    if change.t1 is not None and change.t2 is not None:
        # The core goes to the inner factor: (rank, rank, k) x (rank, in) -> (rank, in * k)
        b = torch.einsum("rskl,si->rikl", change.t1.double(), b).flatten(1)
        d = torch.einsum("rskl,si->rikl", change.t2.double(), d).flatten(1)
        a, c = a.T, c.T
    up, down = torch.einsum("or,os->ors", a, c).flatten(1), torch.einsum("ri,si->rsi", b, d)
    return up, down.flatten(0, 1), _kernel(change)


def _kronecker(change: LoKrDelta) -> Factors:
    """The singular value decomposition of a Kronecker product is that of its factors."""
    first, second = (assembled(factors).double() for factors in (change.w1, change.w2))
    (up1, down1), (up2, down2) = _halves(first), _halves(second.flatten(1))
    up = _kron(up1, up2)[slice(*change.rows or (None,))]
    return up, _kron(down1, down2), tuple(second.shape[2:])


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """`torch.kron` of matrices, which fails on the strides that a decomposition can have."""
    return (a[:, None, :, None] * b[None, :, None, :]).flatten(2).flatten(0, 1)


def _halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = max(1, int((values > 1e-10 * values.max()).sum()))
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]
