"""An adapter whose weight of 1 is what another weight was: for whoever cannot choose a weight."""

from __future__ import annotations

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import SUFFIXES

# One factor of each product: what it is multiplied by, the whole change is.
_ONE_FACTOR = ("lora_B.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff")
LINEAR = ("lora", "loha", "lokr")  # methods whose change is a product of the tensors


def can_scale(adapter: Adapter) -> bool:
    """Whether its change can be scaled: not DoRA's, whose directions are normalised, nor a word."""
    return adapter.description.method in LINEAR


def scaled(adapter: Adapter, factor: float) -> Adapter:
    """The same adapter at `factor` times its change; a word in it stays whole.

    For a method of `LINEAR`.
    """
    assert can_scale(adapter)
    assert set(_ONE_FACTOR) <= set(SUFFIXES)
    tensors = {
        name: tensor * factor if name.endswith(_ONE_FACTOR) else tensor
        for name, tensor in adapter.tensors.items()
    }
    return Adapter(adapter.description, tensors).described(
        strength=adapter.description.strength / factor
    )
