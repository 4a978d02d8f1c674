"""Merges equal plain matrices in float64, and PEFT's own functions where these can do them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from peft.utils import merge_utils
from torch import Tensor

from personalization.adapters.adapter_deltas import match_modules
from personalization.adapters.weight_deltas import LoRADelta
from personalization.bases.unet import UNetBase
from personalization.stacking import merge
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import random_adapters, tiny

WEIGHTS = (0.9, -0.6, 1.4)
RANKS = (2, 5, 3)


@pytest.fixture
def deltas() -> list[Tensor]:
    """Three of unequal rank, as float32."""
    noise = torch.Generator().manual_seed(0)
    return [
        torch.randn(24, rank, generator=noise) @ torch.randn(rank, 36, generator=noise)
        for rank in RANKS
    ]


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


@pytest.fixture(scope="module")
def slots() -> tuple[Slot, ...]:
    made = [
        random_adapters.make(rank=rank, alpha=alpha, seed=seed, targets=("to_k", "conv1"))
        for seed, (rank, alpha) in enumerate(zip(RANKS, (1.0, 5.0, 6.0), strict=True))
    ]
    return tuple(Slot(a, w) for a, w in zip([*made], WEIGHTS, strict=True))


def assert_close(value: Tensor, expected: Tensor | np.ndarray) -> None:
    expected = torch.as_tensor(expected)
    assert expected.dtype == torch.float64
    assert (value.double() - expected).norm() < 1e-5 * expected.norm()


def exact(slot: Slot, place: str) -> np.ndarray:
    """scale * B A in float64, flattened to a matrix."""
    a, b = (slot.adapter.tensors[f"{place}.lora_{x}.weight"].double().numpy() for x in "AB")
    scale = slot.adapter.description.alpha / a.shape[0]
    return scale * b.reshape(len(b), -1) @ a.reshape(len(a), -1)


def ties(deltas: list[Tensor], weights: Sequence[float], density: float) -> Tensor:
    return merge.weighted_sum(merge.ties_shares(deltas, weights, density), weights)


def dare(
    deltas: list[Tensor], weights: Sequence[float], density: float, generator: torch.Generator
) -> Tensor:
    return merge.weighted_sum(merge.dare_shares(deltas, density, generator), weights)


def orthogonal(
    deltas: list[Tensor], weights: Sequence[float], spaces: list[tuple[Tensor, Tensor]]
) -> Tensor:
    order = merge.heaviest_first(weights)
    return merge.weighted_sum(merge.orthogonal_shares(deltas, order, spaces), weights)


def reference_sum(matrices: list[np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    return sum(w * m for w, m in zip(weights, matrices, strict=True))


def reference_svd(matrices: list[np.ndarray], weights: tuple[float, ...], rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(reference_sum(matrices, weights), full_matrices=False)
    return u[:, :rank] @ np.diag(s[:rank]) @ v[:rank]


def reference_ties(
    matrices: list[np.ndarray], weights: tuple[float, ...], density: float
) -> np.ndarray:
    """Entry by entry, as the paper says it."""
    trimmed = []
    for matrix, weight in zip(matrices, weights, strict=True):
        flat = np.sign(weight) * matrix.ravel()
        kept = np.argsort(-np.abs(flat))[: int(density * flat.size)]
        trimmed.append(np.zeros_like(flat))
        trimmed[-1][kept] = flat[kept]
    result = np.zeros_like(trimmed[0])
    for i in range(result.size):
        sign = 1 if sum(t[i] for t in trimmed) >= 0 else -1
        agree = [abs(w) * t[i] for t, w in zip(trimmed, weights, strict=True) if sign * t[i] > 0]
        result[i] = sum(agree) / max(1, len(agree))
    return result.reshape(matrices[0].shape)


def reference_orthogonal(matrices: list[np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    """By explicit projectors onto the column and row spaces of the heavier ones."""
    order = sorted(range(len(matrices)), key=lambda i: -abs(weights[i]))
    total = np.zeros_like(matrices[0])
    for n, i in enumerate(order):
        kept = matrices[i]
        if n:
            heavier = [matrices[j] for j in order[:n]]
            outs, ins = np.hstack(heavier), np.vstack(heavier)
            out = outs @ np.linalg.pinv(outs, rcond=1e-5)
            kept = kept - out @ kept @ np.linalg.pinv(ins, rcond=1e-5) @ ins
        total += weights[i] * kept
    return total


def test_sum_and_svd_equal_numpy_in_float64(deltas: list[Tensor]) -> None:
    matrices = [delta.double().numpy() for delta in deltas]
    assert_close(merge.weighted_sum(deltas, WEIGHTS), reference_sum(matrices, WEIGHTS))
    for rank in (1, 4, 10, 99):
        assert_close(merge.svd(deltas, WEIGHTS, rank), reference_svd(matrices, WEIGHTS, rank))


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_equals_a_loop_over_entries_in_float64(deltas: list[Tensor], density: float) -> None:
    matrices = [delta.double().numpy() for delta in deltas]
    assert_close(ties(deltas, WEIGHTS, density), reference_ties(matrices, WEIGHTS, density))


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.9])
def test_ties_agrees_with_peft(deltas: list[Tensor], density: float) -> None:
    weights = tuple(abs(w) for w in WEIGHTS)  # PEFT elects signs before it looks at weights
    theirs = merge_utils.ties(deltas, torch.tensor(weights), density)
    assert torch.allclose(ties(deltas, weights, density), theirs, atol=1e-6)


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_dare_agrees_with_peft_at_the_same_seed(deltas: list[Tensor], density: float) -> None:
    ours = dare(deltas, WEIGHTS, density, torch.Generator().manual_seed(5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = merge_utils.dare_linear(deltas, torch.tensor(WEIGHTS), density)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_dare_keeps_the_mean() -> None:
    delta, generator = torch.ones(50, 50), torch.Generator().manual_seed(0)
    drawn = torch.stack([dare([delta], [1.0], 0.3, generator) for _ in range(40)])
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.02)
    assert drawn.unique().tolist() == pytest.approx([0.0, 1 / 0.3])


def test_orthogonal_leaves_the_heaviest_and_makes_all_orthogonal(deltas: list[Tensor]) -> None:
    matrices = [delta.double().numpy() for delta in deltas]
    spaces = []
    for delta, rank in zip(deltas, RANKS, strict=True):
        u, _, v = torch.linalg.svd(delta)
        spaces.append((u[:, :rank], v[:rank].T))
    whole = orthogonal(deltas, WEIGHTS, spaces)
    assert_close(whole, reference_orthogonal(matrices, WEIGHTS))
    heaviest = orthogonal(deltas, (0.0, 0.0, 1.0), spaces)
    assert torch.equal(heaviest, deltas[2])
    # The third is the heaviest, the first comes next: each share of the sum, one at a time.
    only_third = WEIGHTS[2] * deltas[2]
    with_first = orthogonal(
        [deltas[0], deltas[2]], (WEIGHTS[0], WEIGHTS[2]), [spaces[0], spaces[2]]
    )
    shares = [only_third, with_first - only_third, whole - with_first]
    for a, b in itertools.combinations(shares, 2):
        assert abs(float((a * b).sum())) < 1e-4 * float(a.norm() * b.norm())


def test_thin_svd_is_the_svd_without_what_is_only_rounding() -> None:
    up, down = torch.randn(30, 4), torch.randn(4, 20)
    left, values, right = merge.thin_svd(torch.cat([up, up], 1), torch.cat([down, down]))
    assert len(values) == 4
    assert torch.allclose((left * values) @ right, 2 * up @ down, atol=1e-4)
    assert torch.allclose(values, 2 * torch.linalg.svdvals(up @ down)[:4], rtol=1e-5)
    assert len(merge.thin_svd(torch.zeros(9, 3), torch.randn(3, 8))[1]) == 0


@pytest.mark.parametrize("combine", ["sum", "svd", "ties", "dare", "orthogonal"])
def test_effective_weights_equal_a_float64_reference(
    base: UNetBase, slots: tuple[Slot, ...], combine: str
) -> None:
    stack = Stack(slots, combine, density=0.4, rank=4)
    pristine = {
        weight: (str(place), weight.detach().double().numpy())
        for weight, (place, _) in match_modules(base.modules, slots[0].adapter).items()
    }
    assert any(weight.dim() == 4 for weight in pristine)
    with applied(base, stack):
        for weight, (place, before) in pristine.items():
            matrices = [exact(slot, place) for slot in slots]
            changed = weight.detach().double().flatten(1) - torch.from_numpy(
                before.reshape(len(before), -1)
            )
            match combine:
                case "sum":
                    expected = reference_sum(matrices, WEIGHTS)
                case "svd":
                    expected = reference_svd(matrices, WEIGHTS, 4)
                case "ties":
                    expected = reference_ties(matrices, WEIGHTS, 0.4)
                case "orthogonal":
                    expected = reference_orthogonal(matrices, WEIGHTS)
                case "dare":
                    kept = changed.numpy() != 0
                    possible = [
                        sum(
                            c * w * m / 0.4
                            for c, w, m in zip(chosen, WEIGHTS, matrices, strict=True)
                        )
                        for chosen in itertools.product((0, 1), repeat=3)
                    ]
                    errors = np.abs(np.stack(possible) - changed.numpy())
                    expected = np.take_along_axis(
                        np.stack(possible), errors.argmin(0)[None], 0
                    ).squeeze(0)
                    assert kept.mean() == pytest.approx(1 - 0.6**3, abs=0.1)
            whole = torch.from_numpy(before.reshape(len(before), -1) + expected)
            assert (weight.double().flatten(1) - whole).norm() < 1e-5 * whole.norm(), place


def test_dare_is_the_same_whatever_was_drawn_before_and_differs_by_layer(
    base: UNetBase, slots: tuple[Slot, ...]
) -> None:
    first, second = [
        weight
        for weight, (place, _) in match_modules(base.modules, slots[0].adapter).items()
        if str(place).endswith("attn1.to_k")
    ][:2]
    seen = []
    for _ in range(2):
        torch.rand(7)
        with applied(base, Stack(slots, "dare")):
            seen.append((first.detach().clone(), second.detach().clone()))
    assert torch.equal(seen[0][0], seen[1][0])
    changed = [after != before for after, before in zip(seen[0], (first, second), strict=True)]
    assert changed[0].shape == changed[1].shape
    assert not torch.equal(*changed)


def test_factors_multiply_to_the_delta_for_every_method() -> None:
    base = tiny.base()
    for method in ("lora", "loha", "lokr"):
        more = {"use_effective_conv2d": True} if method != "lora" else {}
        adapter = random_adapters.make(method, targets=("to_q", "conv1"), text=False, **more)
        for weight, (_, change) in match_modules(base.modules, adapter).items():
            up, down = merge.factors(change, weight)
            expected = change.delta(weight).flatten(1)
            assert (up @ down - expected).norm() < 1e-5 * expected.norm()
            assert isinstance(change, LoRADelta) == (method == "lora")
