"""Stacks between the tabs and the GPU: checked against a base by its name, drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from personalization.adapters.adapter import Adapter
from personalization.bases import schedulers
from personalization.sampling.picture_record import Picture
from personalization.sampling.settings import Settings, Start
from personalization.stacking.stack import Slot, Stack

from .gpu import gpu_draw, gpu_sweep
from .loaded import base, spec_of

if TYPE_CHECKING:
    from personalization.sampling.guides import Guides
    from personalization.sampling.sweep import Grid, Sweep
FEWEST_TOKENS = 20  # no base reads fewer, and a token is a byte at least
Named = tuple[str, Adapter, float]  # its name in the library, the adapter, its weight


def stack_of(base_name: str, adapters: Sequence[Named]) -> Stack:
    """Checked against the base before any GPU time."""
    slots = tuple(Slot(adapter, weight, library_name=name) for name, adapter, weight in adapters)
    return Stack(slots).check(spec_of(base_name))


def draw_with(
    base_name: str,
    stack: Stack,
    settings: Sequence[Settings],
    start: Start | None = None,
    guides: Guides | None = None,
) -> list[Picture]:
    """Pictures, each with the record of what drew it."""
    checked = [each.check() for each in settings]
    for each in checked:
        if each.fast:
            spec_of(base_name).fast_way()
        schedulers.check(spec_of(base_name).module, each.scheduler)
    return gpu_draw(base_name, stack.check(spec_of(base_name)), checked, start, guides)


def cut_off(base_name: str, stack: Stack, prompt: str) -> list[str]:
    """A sentence where the base does not read the end of the prompt, the stack's words counted."""
    from personalization.adapters.adapter_deltas import learned_rows
    from personalization.bases.context import unread_words

    words = {
        slot.adapter.description.placeholder_token: max(map(len, rows.values()))
        for slot in stack.active
        if (rows := learned_rows(slot.adapter))
    }
    return unread_words(base(base_name).contexts, prompt, words)


def sweep_with(base_name: str, plan: Sweep) -> Grid:
    """The grid, checked before any GPU time."""
    return gpu_sweep(base_name, plan.check(spec_of(base_name)))
