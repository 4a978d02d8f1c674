"""A LoHa or a LoKr as the LoRA that changes the very same weight by the very same amount."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from personalization.adapters.weight_deltas import LoHaDelta, LoKrDelta, LoRADelta, assembled


def as_factors(change: LoRADelta | LoHaDelta | LoKrDelta) -> tuple[Tensor, Tensor]:
    """(rank, in[, kh, kw]) and (out, rank[, 1, 1]) whose product is the change, scale included.

    Exact: the Hadamard product of two products of rank r is one of rank r * r, and a Kronecker
    product has the ranks of its factors multiplied.
    """
    if isinstance(change, LoRADelta):
        return change.down.float(), change.up.float() * change.scale
    if isinstance(change, LoHaDelta):
        up, down, kernel = _hadamard(change)
    else:
        up, down, kernel = _kronecker(change)
    down = down.reshape(-1, down.shape[1] // math.prod(kernel), *kernel)
    up = up.reshape(*up.shape, *[1] * len(kernel)) * change.scale
    return down.float().contiguous(), up.float().contiguous()


def _hadamard(change: LoHaDelta) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Row by row and column by column, the products of the factors' entries (Khatri and Rao)."""
    a, b, c, d = (t.double() for t in (change.w1_a, change.w1_b, change.w2_a, change.w2_b))
    if change.t1 is not None and change.t2 is not None:
        # The core goes to the inner factor: (rank, rank, k) x (rank, in) -> (rank, in * k)
        b = torch.einsum("rskl,si->rikl", change.t1.double(), b).flatten(1)
        d = torch.einsum("rskl,si->rikl", change.t2.double(), d).flatten(1)
        a, c = a.T, c.T
    up, down = torch.einsum("or,os->ors", a, c).flatten(1), torch.einsum("ri,si->rsi", b, d)
    kernel = change.t1.shape[2:] if change.t1 is not None else ()
    return up, down.flatten(0, 1), tuple(kernel)


def _kronecker(change: LoKrDelta) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The singular value decomposition of a Kronecker product is that of its factors."""
    first, second = (assembled(factors).double() for factors in (change.w1, change.w2))
    (up1, down1), (up2, down2) = _halves(first), _halves(second.flatten(1))
    return _kron(up1, up2), _kron(down1, down2), tuple(second.shape[2:])


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """`torch.kron` of matrices, which fails on the strides that a decomposition can have."""
    return (a[:, None, :, None] * b[None, :, None, :]).flatten(2).flatten(0, 1)


def _halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = max(1, int((values > 1e-10 * values.max()).sum()))
    root = values[:kept].sqrt()
    return left[:, :kept] * root, root[:, None] * right[:kept]
