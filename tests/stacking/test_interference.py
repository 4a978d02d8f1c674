"""How far adapters overlap equals what their dense deltas say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from personalization.adapters.adapter import Adapter
from personalization.adapters.weight_deltas import LoRADelta
from personalization.stacking import merge
from personalization.stacking.interference import Overlap, gram, overlap
from tests.support import random_adapters


def dense(adapter: Adapter, place: str) -> np.ndarray:
    """scale * B A in float64, flattened to a matrix."""
    a, b = (adapter.tensors[f"{place}.lora_{x}.weight"].double().numpy() for x in "AB")
    scale = adapter.description.alpha / a.shape[0]
    return scale * b.reshape(len(b), -1) @ a.reshape(len(a), -1)


def test_overlap_with_itself_is_whole_and_with_its_opposite_is_against() -> None:
    adapter = random_adapters.make(rank=3)
    turned = {
        name: -tensor if "lora_B" in name else tensor for name, tensor in adapter.tensors.items()
    }
    same = overlap(adapter, adapter)
    assert same.cosine == pytest.approx(1)
    assert same.shared == pytest.approx(1)
    assert "nearly the same" in same.words
    against = overlap(adapter, Adapter(adapter.description, turned))
    assert against.cosine == pytest.approx(-1)
    assert against.shared == pytest.approx(1)
    assert "pull against" in against.words


def test_overlap_equals_cosine_and_principal_angles_of_dense_deltas() -> None:
    a, b = random_adapters.make(rank=2), random_adapters.make(rank=5, alpha=2, seed=1)
    found = overlap(a, b)
    assert len(found.layers) == len(a.tensors) // 2
    for layer in found.layers[::7]:
        x, y = (dense(adapter, str(layer.place)) for adapter in (a, b))
        assert layer.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
        (ux, _, vx), (uy, _, vy) = (np.linalg.svd(m) for m in (x, y))
        angles = [
            np.linalg.svd(ux[:, :2].T @ uy[:, :5])[1],
            np.linalg.svd(vx[:2] @ vy[:5].T)[1],
        ]
        assert layer.shared == pytest.approx(np.square(angles).sum() / 4, abs=1e-5)


def test_overlap_of_adapters_that_do_not_meet_is_nothing() -> None:
    keys, values = (
        random_adapters.make(targets=("to_k",), text=False),
        random_adapters.make(targets=("to_v",), text=False),
    )
    assert overlap(keys, values) == Overlap((), 0.0, 0.0)
    assert overlap(keys, random_adapters.word()).layers == ()
    assert "do not meet" in overlap(keys, values).words


def test_overlap_and_gram_know_every_method() -> None:
    every = [
        random_adapters.make(method, seed=i)
        for i, method in enumerate(("lora", "loha", "lokr", "dora"))
    ]
    table = gram(every)
    for (i, a), (j, b) in itertools.combinations(enumerate(every), 2):
        found = overlap(a, b)
        assert -1 <= found.cosine <= 1
        assert 0 <= found.shared <= 1 + 1e-6
        assert found.cosine == pytest.approx(
            float(table[i, j]) / math.sqrt(float(table[i, i] * table[j, j])), abs=1e-6
        )


@pytest.mark.parametrize(("out", "into"), [(6, 10), (10, 6), (6, 6)])
def test_a_rank_beyond_the_layer_costs_what_the_layer_has(out: int, into: int):
    up, down = torch.randn(out, 5000), torch.randn(5000, into)
    left, right = merge.factors(LoRADelta(down, up, 1.0))
    assert left.shape[1] == right.shape[0] == min(out, into)
    torch.testing.assert_close(left @ right, up @ down, rtol=1e-4, atol=1e-2)
