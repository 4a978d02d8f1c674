"""A stack as one adapter: what several change together, in one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import WORD, learned_rows
from personalization.bases.base import Base
from personalization.errors import StackError
from personalization.stacking import merged_weights
from personalization.stacking.merged_weights import Factored, Layer
from personalization.stacking.stack import IN_TIME, Slot, Stack


@dataclass(frozen=True)
class Merged:
    """A stack as one adapter, and how much of its change was lost on the way, relatively."""

    adapter: Adapter
    residual: float


def merged(base: Base, stack: Stack, rank: int = 0, title: str = "") -> Merged:
    """The stack as one LoRA, which at weight 1 changes `base` as the stack does.

    A plain sum is exact, factors laid side by side, but for DoRA, whose change has no small rank.
    Every other combination, and any `rank` that is asked for, goes through an SVD of each layer's
    change, cut at `rank` (0: the adapters' own ranks added up); `residual` is the norm of what was
    cut off, over all layers, as a part of the whole. Raises `StackError` for what no one file can
    hold: two words, a full fine-tune, a combination in time, or no change at all.
    """
    _check(stack.check(base.spec))
    with base.lock, torch.no_grad():
        parts = [
            (layer, merged_weights.factored(base, layer, stack, rank))
            for layer in merged_weights.layers(base, stack)
        ]
    if not parts:
        raise StackError(
            "The stack changes no weights, so there is nothing to merge. "
            "Add a LoRA or its kin, or raise a weight.",
            field="stack",
        )
    tensors = {name: tensor for part in parts for name, tensor in _pair(*part).items()}
    tensors |= _word_tensors(stack)
    largest = max(len(factored.down) for _, factored in parts)
    adapter = Adapter(_description(base, stack, largest, title), tensors)
    return Merged(adapter, _residual([factored for _, factored in parts]))


def _check(stack: Stack) -> None:
    """Raise `StackError` for what one file cannot hold."""
    reason = ""
    if len(_with_words(stack)) > 1:
        reason = "two learned words"
    elif any(slot.is_full for slot in stack.active):
        reason = "a full fine-tune, which has no small rank: extract it as a LoRA first"
    elif stack.combine in IN_TIME:
        reason = f"“{stack.combine}”, which is in time"
    elif stack.has_regions:
        reason = "regions, which weights know nothing of"
    if reason:
        raise StackError(f"One file cannot hold {reason}. Keep the stack itself.", field="stack")


def _with_words(stack: Stack) -> list[Slot]:
    """Those that bring a learned word."""
    return [slot for slot in stack.active if learned_rows(slot.adapter)]


def _pair(layer: Layer, factored: Factored) -> dict[str, Tensor]:
    """A layer's tensors in PEFT's names and shapes."""
    ones, kernel = [1] * (layer.parameter.dim() - 2), layer.parameter.shape[1:]
    return {
        f"{layer.place}.lora_A.weight": factored.down.reshape(-1, *kernel),
        f"{layer.place}.lora_B.weight": factored.up.reshape(*factored.up.shape, *ones),
    }


def _word_tensors(stack: Stack) -> dict[str, Tensor]:
    """The rows of the word that the stack brings along."""
    return {
        name if name.startswith(WORD) else f"{WORD}{name}": tensor
        for slot in _with_words(stack)
        for name, tensor in slot.adapter.tensors.items()
        if name.startswith(WORD) or slot.adapter.description.method == "textual_inversion"
    }


def _residual(parts: Sequence[Factored]) -> float:
    size = sum(part.size for part in parts)
    return math.sqrt(sum(part.lost for part in parts) / size) if size else 0.0


def _description(base: Base, stack: Stack, rank: int, title: str) -> Description:
    """What the adapter says of itself; it is called by a word where the stack has but one."""
    named = _with_words(stack) or [
        slot for slot in stack.active if slot.adapter.description.placeholder_token
    ]
    source = named[0].adapter.description if len(named) == 1 else Description("lora", "")
    return Description(
        "lora",
        base.spec.family,
        base=base.spec.name,
        fingerprint=base.fingerprint,
        placeholder_token=source.placeholder_token,
        class_noun=source.class_noun,
        kind=source.kind,
        rank=rank,
        title=title or " + ".join(slot.name for slot in stack.active),
        recipe={"merged": [_ingredient(slot) for slot in stack.slots], "combine": stack.combine},
    )


def _ingredient(slot: Slot) -> dict[str, Any]:
    """What the recipe says of an adapter in the stack."""
    return {
        "name": slot.name,
        "sha256": slot.adapter.sha256,
        "weight": slot.weight,
        "text_weight": slot.text_weight,
        "blocks": dict(slot.blocks),
    }
