"""Stacks between the tabs and the GPU: checked against a base by its name, drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personalization.adapters.adapter import Adapter
from personalization.bases import schedulers
from personalization.stacking.stack import Slot, Stack, record

from .gpu import gpu_draw
from .loaded import spec_of

if TYPE_CHECKING:
    from PIL import Image

    from personalization.sampling.generate import Picture, Settings
Named = tuple[str, Adapter, float]  # its name in the library, the adapter, its weight


def stack_of(base_name: str, adapters: Sequence[Named]) -> Stack:
    """Checked against the base before any GPU time."""
    slots = tuple(Slot(adapter, weight) for _, adapter, weight in adapters)
    return Stack(slots).check(spec_of(base_name))


def draw_stack(
    base_name: str,
    adapters: Sequence[Named],
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """Pictures, each with the record of what drew it."""
    names = [name for name, _, _ in adapters]
    return draw_with(base_name, names, stack_of(base_name, adapters), settings, image, mask)


def draw_with(
    base_name: str,
    names: Sequence[str],
    stack: Stack,
    settings: Sequence[Settings],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> list[Picture]:
    """The same with any stack; `names` are those of its adapters in the library."""
    checked = [each.check() for each in settings]
    for each in checked:
        schedulers.check(spec_of(base_name).module, each.scheduler)
    stack = stack.check(spec_of(base_name))
    return gpu_draw(base_name, stack, checked, records_of(names, stack), image, mask)


def records_of(names: Sequence[str], stack: Stack) -> list[dict[str, Any]]:
    """What a picture's record says of the adapters; `name` finds them in the library again."""
    return [
        record(slot)
        | {"name": name, "title": slot.adapter.description.title}
        | {"trigger": slot.adapter.description.trigger}
        for name, slot in zip(names, stack.slots, strict=True)
    ]
