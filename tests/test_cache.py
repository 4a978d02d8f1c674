"""What is kept is bounded, and a stack from what was kept equals one made anew."""

from __future__ import annotations

import pytest
import torch

from personalization.adapters.adapter_deltas import match_modules
from personalization.cache import BoundedCache
from personalization.stacking.application import applied
from personalization.stacking.stack import COMBINATIONS, IN_TIME, Slot, Stack
from tests.support import random_adapters, tiny


def test_a_value_is_made_once_and_the_one_not_asked_for_longest_goes_first() -> None:
    kept, made = BoundedCache(limit=10), []

    def ask(key: str, size: int = 4) -> str:
        return kept.get(key, lambda: made.append(key) or key.upper(), lambda _: size)

    assert [ask(key) for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    assert made == ["a", "b", "c", "b"]
    assert kept.size == 8
    assert ask("whale", 11) == "WHALE"
    assert (len(kept), kept.size) == (2, 8)


@pytest.mark.parametrize("combine", [c for c in COMBINATIONS if c not in IN_TIME])
def test_a_moved_weight_gives_bit_for_bit_what_an_untouched_base_gives(combine: str) -> None:
    made = [
        random_adapters.make(method, seed=i) for i, method in enumerate(("lora", "lokr", "dora"))
    ]

    def effective(base, *weights: float) -> list[torch.Tensor]:
        slots = tuple(Slot(a, w) for a, w in zip(made, weights, strict=True))
        with applied(base, Stack(slots, combine)):
            return [weight.detach().clone() for weight in match_modules(base.modules, made[0])]

    used, seen = tiny.base(), []
    for weights in ((0.5, 0.6, 0.7), (0.5, 1.6, 0.7), (0.5, -0.6, 0.7), (0.5, 0.0, 0.7)):
        seen.append(effective(used, *weights))
        for ours, fresh in zip(seen[-1], effective(tiny.base(), *weights), strict=True):
            assert torch.equal(ours, fresh)
    assert not torch.equal(seen[0][0], seen[1][0])
    assert 0 < used.cache.size <= used.cache.limit


def test_adapters_of_the_same_tensors_and_another_alpha_are_not_confused() -> None:
    base, lora = tiny.base(), random_adapters.make()
    weight, (_, change) = next(iter(match_modules(base.modules, lora).items()))
    for factor in (1.0, 3.0):
        louder = lora.described(alpha=factor * lora.description.alpha)
        with applied(base, Stack((Slot(louder, 0.5),))):
            shown = weight.detach().clone()
        assert torch.allclose(shown, weight + 0.5 * factor * change.delta(weight), atol=1e-6)
