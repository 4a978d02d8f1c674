"""What each weight of a base changes by.

    LoRADelta | LoHaDelta | LoKrDelta, DoRADelta around any; DifferenceDelta; FullDelta -> delta(W0)

A change is small, but for a full fine-tune's; its delta has the shape of the weight. Every change
is linear in its strength: a weight w asks for W0 + w * delta, also for DoRA, so that weight zero is
the base.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class WeightDelta(Protocol):
    """What one module's weight changes by."""

    @property
    def rank(self) -> int:
        """How many directions it has."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(out, in * kernel) of the weights that it fits; (0, 0) where its factors disagree."""
        ...

    def delta(self, weight: Tensor) -> Tensor:
        """weight: the pristine W0. Returns what to add, of its shape, in float32 or finer."""
        ...


@dataclass(frozen=True)
class LoRADelta:
    """scale * B A (LoRA, Hu et al. 2021, arXiv 2106.09685); a convolution's A has its kernel.

    down: (rank, in[, kh, kw]); up: (out, rank[, 1, 1]).
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """See `WeightDelta`."""
        return self.down.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        matrices = self.down.dim() > 1 and self.up.dim() > 1
        agree = matrices and self.up.shape[1:].numel() == self.rank
        return (self.up.shape[0], self.down[0].numel()) if agree else (0, 0)

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        down, up = _fine(weight, self.down), _fine(weight, self.up)
        return (up.flatten(1) @ down.flatten(1)).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class LoHaDelta:
    """scale * (A1 B1) o (A2 B2) (LoHa, Hyeon-Woo et al. 2021, arXiv 2108.06098).

    w1_a, w2_a: (out, rank); w1_b, w2_b: (rank, in * kh * kw). With the cores t1, t2 of a
    convolution, (rank, rank, kh, kw): w_a is (rank, out) and w_b (rank, in).
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    t1: Tensor | None
    t2: Tensor | None
    scale: float

    @property
    def rank(self) -> int:
        """See `WeightDelta`."""
        return self.w1_b.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        kernels = [None if core is None else core.shape[2:] for core in (self.t1, self.t2)]
        if kernels[0] != kernels[1]:
            return 0, 0
        first, second = (
            _assembled_size([t for t in factors if t is not None])
            for factors in ((self.w1_a, self.w1_b, self.t1), (self.w2_a, self.w2_b, self.t2))
        )
        return first if first == second else (0, 0)

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        first = assembled(_fine_all(weight, (self.w1_a, self.w1_b, self.t1)))
        second = assembled(_fine_all(weight, (self.w2_a, self.w2_b, self.t2)))
        return (first * second).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class LoKrDelta:
    """scale * W1 (x) W2 (LoKr, Yeh et al. 2023, arXiv 2309.14859), either factor itself a product.

    w1, w2: a matrix (w2 of a convolution has its kernel), or a pair of factors, or, for w2, a
    pair and a core (rank, rank, kh, kw). rows: the share that a weight has of the product, where
    the adapter is of a layer that stands for several; None for all of it.
    """

    w1: tuple[Tensor, ...]
    w2: tuple[Tensor, ...]
    rank: int
    scale: float
    rows: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        if any(factor.dim() != 2 for factor in self.w1):
            return 0, 0
        (out1, in1), (out2, in2) = (_assembled_size(f) for f in (self.w1, self.w2))
        start, end = self.rows or (0, out1 * out2)
        return end - start, in1 * in2

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        w1, w2 = (assembled(_fine_all(weight, factors)) for factors in (self.w1, self.w2))
        w1 = w1.reshape(*w1.shape, *[1] * (w2.dim() - w1.dim()))
        product = torch.kron(w1, w2.contiguous())[slice(*self.rows or (None,))]
        return product.mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class DoRADelta:
    """m * V / |V| - W0 with V = W0 + inner (DoRA, Liu et al. 2024, arXiv 2402.09353).

    magnitude: one value for each output, as PEFT and LyCORIS write it now; a matrix (1, in) is one
    for each input, as LyCORIS once did.
    """

    inner: WeightDelta
    magnitude: Tensor

    @property
    def rank(self) -> int:
        """See `WeightDelta`."""
        return self.inner.rank

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        out, into = self.inner.size
        agree = self._by_input or self.magnitude.numel() == out
        return (out, into) if agree else (0, 0)

    @property
    def _by_input(self) -> bool:
        return self.magnitude.dim() == 2 and self.magnitude.shape[0] == 1

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        directed = _fine(weight, weight) + self.inner.delta(weight)
        magnitude = _fine(weight, self.magnitude)
        axis = 1 if self._by_input else 0
        others = [i for i in range(weight.dim()) if i != axis]
        shape = [-1 if i == axis else 1 for i in range(weight.dim())]
        norm: Tensor = torch.linalg.vector_norm(directed, dim=others, keepdim=True)
        return directed * (magnitude.reshape(shape) / norm) - weight


@dataclass(frozen=True)
class DifferenceDelta:
    """W - W0 as it is, of a norm, a bias or whatever else has no small rank."""

    difference: Tensor

    @property
    def rank(self) -> int:
        """See `WeightDelta`."""
        return min(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        return self.difference.shape[0], self.difference[0].numel()

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        return _fine(weight, self.difference).reshape(weight.shape).clone()


@dataclass(frozen=True)
class FullDelta:
    """W - W0: the parameter W that a full fine-tune has in place of the base's."""

    trained: Tensor

    @property
    def rank(self) -> int:
        """See `WeightDelta`."""
        return min(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """See `WeightDelta`."""
        return self.trained.shape[0], self.trained[0].numel()

    def delta(self, weight: Tensor) -> Tensor:
        """See `WeightDelta`."""
        return _fine(weight, self.trained).reshape(weight.shape) - weight


def without_magnitude(change: WeightDelta) -> Any:
    """The change without its magnitude: LoRA, LoHa or LoKr."""
    return change.inner if isinstance(change, DoRADelta) else change


def _fine(weight: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` on the weight's device, in float32, or in float64 where the weight is."""
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return tensor.to(weight.device, dtype)


def _fine_all(weight: Tensor, tensors: Iterable[Tensor | None]) -> tuple[Tensor, ...]:
    return tuple(_fine(weight, tensor) for tensor in tensors if tensor is not None)


def assembled(factors: Sequence[Tensor]) -> Tensor:
    """One factor as it is, two multiplied, or two around a core (rank, rank, kh, kw)."""
    if len(factors) < 3:
        return factors[0] @ factors[1] if len(factors) == 2 else factors[0]
    a, b, core = factors
    return torch.einsum("rskl,ro,si->oikl", core, a, b)


def _assembled_size(factors: Sequence[Tensor]) -> tuple[int, int]:
    if any(factor.dim() < 2 for factor in factors):
        return 0, 0
    if len(factors) == 1:
        return factors[0].shape[0], factors[0][0].numel()
    a, b, *core = factors
    if a.dim() > 2 or b.dim() > 2:
        return 0, 0
    if not core:
        return (a.shape[0], b.shape[1]) if a.shape[1:] == b.shape[:1] else (0, 0)
    agree = core[0].shape[:2] == (a.shape[0], b.shape[0])
    return (a.shape[1], b.shape[1] * core[0][0, 0].numel()) if agree else (0, 0)
