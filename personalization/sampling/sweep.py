"""A sweep: the same picture along one or two settings, as a labelled grid.

Pictures that need the same weights are drawn in one batch. Plain LoRAs, whose change is linear, go
further: there each picture of a batch has weights of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from personalization.adapters.adapter_deltas import learned_rows, match_modules
from personalization.adapters.weight_deltas import LoRADelta
from personalization.bases.base import Base
from personalization.errors import RecipeError
from personalization.events import Stage
from personalization.sampling.generate import PER_BATCH, Picture, Settings, draw_each
from personalization.sampling.image_grid import image_grid
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack, record

STRENGTHS = (0.2, 0.5, 0.8, 1.1, 1.5)
MAX_PICTURES = 64
FULL_ENOUGH = 3  # pictures of the same weights, from which a batch of their own is as fast

What = Literal["weight", "guidance", "steps", "combine", "seed", "prompt", "only"]


@dataclass(frozen=True)
class Cell:
    """What one picture of the grid is drawn with."""

    stack: Stack
    settings: Settings


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes; `slot` says whose weight.

    "only" takes tuples of slot numbers: those alone, all others at weight 0.
    """

    what: What
    values: tuple[Any, ...]
    slot: int = 0

    def at(self, cell: Cell, value: Any) -> Cell:
        """The cell with this axis at `value`."""
        if self.what == "weight":
            slots = list(cell.stack.slots)
            slots[self.slot] = replace(slots[self.slot], weight=float(value))
            return replace(cell, stack=replace(cell.stack, slots=tuple(slots)))
        if self.what == "combine":
            return replace(cell, stack=replace(cell.stack, combine=value))
        if self.what == "only":
            kept = [
                slot if number in value else Slot(slot.adapter, 0.0)
                for number, slot in enumerate(cell.stack.slots)
            ]
            return replace(cell, stack=replace(cell.stack, slots=tuple(kept)))
        return replace(cell, settings=replace(cell.settings, **{self.what: value}))

    def check(self, stack: Stack) -> Axis:
        """Return self, or raise `RecipeError`."""
        if not self.values:
            raise RecipeError(f"The sweep over {self.what} has no values.", field="sweep")
        if self.what == "weight" and not 0 <= self.slot < len(stack.slots):
            raise RecipeError(
                "There is no adapter whose weight could be swept. Add one to the stack.",
                field="sweep",
            )
        return self

    def labels(self, stack: Stack) -> tuple[str, ...]:
        """What stands beside the pictures; an adapter is named where there are several."""
        if self.what in ("prompt", "combine"):
            return tuple(str(value) for value in self.values)
        if self.what == "only":
            return tuple(_together(stack, value) for value in self.values)
        named = _called(stack.slots[self.slot]) if self.what == "weight" else self.what
        if self.what == "weight" and len(stack.slots) == 1:
            named = "strength"
        return tuple(f"{named} {value:g}" for value in self.values)


@dataclass(frozen=True)
class Grid:
    """`pictures[row][column]`, each with its record."""

    pictures: tuple[tuple[Picture, ...], ...]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]

    def image(self, *, dark: bool = False) -> Image.Image:
        """The contact sheet."""
        images = [[picture.image for picture in row] for row in self.pictures]
        return image_grid(images, self.row_labels, self.column_labels, dark=dark)


def side_by_side(stack: Stack) -> Axis:
    """The base, each adapter alone at its weight, and all of them together."""
    numbers = range(len(stack.slots))
    alone = [(number,) for number in numbers]
    together = [tuple(numbers)] if len(numbers) > 1 else []
    return Axis("only", ((), *alone, *together))


def sweep(
    base: Base,
    stack: Stack,
    settings: Settings,
    axis_x: Axis | None = None,
    axis_y: Axis | None = None,
    *,
    on_progress: Callable[[Stage], None] | None = None,
) -> Grid:
    """The grid of `sweeping`."""
    for event in sweeping(base, stack, settings, axis_x, axis_y):
        if isinstance(event, Grid):
            return event
        if on_progress:
            on_progress(event)
    raise AssertionError("sweeping ends with a Grid")


def sweeping(
    base: Base,
    stack: Stack,
    settings: Settings,
    axis_x: Axis | None = None,
    axis_y: Axis | None = None,
) -> Iterator[Stage | Grid]:
    """Tell how far it is, batch by batch, then give the grid.

    Without `axis_x` the first adapter's weight is swept. Everything is checked before the first
    picture: raises `RecipeError`, `StackError` or `AdapterError`.
    """
    axis_x = (axis_x or Axis("weight", STRENGTHS)).check(stack)
    rows: tuple[Any, ...] = axis_y.check(stack).values if axis_y else (None,)
    start = Cell(stack, replace(settings, count=1))
    cells = []
    for value_y in rows:
        cell = axis_y.at(start, value_y) if axis_y else start
        cells += [axis_x.at(cell, value_x) for value_x in axis_x.values]
    if len(cells) > MAX_PICTURES:
        raise RecipeError(
            f"The sweep asks for {len(cells)} pictures; at most {MAX_PICTURES} are drawn at once. "
            "Take some values out.",
            field="sweep",
        )
    for cell in cells:
        cell.stack.check(base.spec)
        cell.settings.check()

    pictures: dict[Cell, Picture] = {}
    yield Stage("sweep", 0, len(cells))
    for batch in batches(cells):
        for cell, image in zip(batch, _drawn(base, batch), strict=True):
            pictures[cell] = Picture(image, _record(base, cell))
        yield Stage("sweep", sum(cell in pictures for cell in cells), len(cells))
    width = len(axis_x.values)
    yield Grid(
        tuple(
            tuple(pictures[cell] for cell in cells[i : i + width])
            for i in range(0, len(cells), width)
        ),
        axis_y.labels(stack) if axis_y else (),
        axis_x.labels(stack),
    )


def batches(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells in as few batches as can be drawn at once, each cell once.

    A batch shares what the sampler takes one value of, and its weights, unless every adapter in it
    is a plain LoRA and batches of the same weights would be small.
    """
    groups: dict[Any, list[Cell]] = {}
    for cell in dict.fromkeys(cells):
        sampler = replace(cell.settings, prompt="", seed=0)
        groups.setdefault((sampler, cell.stack), []).append(cell)
    joined: dict[Any, list[Cell]] = {}
    for (sampler, stack), group in groups.items():
        alone = len(group) >= FULL_ENOUGH or not _linear(stack)
        joined.setdefault((sampler, stack if alone else None), []).extend(group)
    return [
        group[i : i + PER_BATCH]
        for group in joined.values()
        for i in range(0, len(group), PER_BATCH)
    ]


def _called(slot: Slot) -> str:
    return slot.adapter.description.trigger or slot.name


def _together(stack: Stack, numbers: Sequence[int]) -> str:
    if not numbers:
        return "base"
    if len(numbers) > 2:
        return "together"
    return " + ".join(f"{_called(stack.slots[n])} × {stack.slots[n].weight:g}" for n in numbers)


def _drawn(base: Base, batch: Sequence[Cell]) -> list[Image.Image]:
    settings = batch[0].settings
    same = all(cell.stack == batch[0].stack for cell in batch)
    with ExitStack() as undo:
        if same:
            undo.enter_context(applied(base, batch[0].stack))
        else:
            undo.enter_context(applied(base, Stack(())))
            undo.enter_context(_applied_each(base, [cell.stack for cell in batch]))
        images = draw_each(
            base,
            [cell.settings.prompt for cell in batch],
            [cell.settings.seed for cell in batch],
            negative=settings.negative,
            steps=settings.steps,
            guidance=settings.guidance,
            scheduler=settings.scheduler,
            width=settings.width,
            height=settings.height,
        )
    return images


def _linear(stack: Stack) -> bool:
    """Whether the stack is a sum of plain LoRAs, so that its weights may differ in a batch."""
    return stack.combine == "sum" and all(
        slot.adapter.description.method == "lora"
        and slot.text_weight is None
        and not learned_rows(slot.adapter)
        for slot in stack.slots
    )


@contextmanager
def _applied_each(base: Base, stacks: Sequence[Stack]) -> Iterator[None]:
    """Picture i of a batch is drawn with `stacks[i]`; all have the same adapters, plain LoRAs.

    Each adapted layer adds w_i * up(down(x)) to what it says of picture i. With guidance the batch
    comes twice over, and the weights with it.
    """
    with ExitStack() as undo:
        owners = {
            layer.weight: layer
            for module in base.modules.values()
            for layer in module.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        for number, slot in enumerate(stacks[0].slots):
            slots = [stack.slots[number] for stack in stacks]
            for weight, (place, change) in match_modules(
                base.modules, slot.adapter, slot.name
            ).items():
                assert isinstance(change, LoRADelta)
                added = _Added(change, torch.tensor([s.weight_at(place) for s in slots]), weight)
                handle = owners[weight].register_forward_hook(added)
                undo.callback(handle.remove)
        yield


class _Added:
    """A forward hook: what a LoRA adds to a layer's output, weighted picture by picture."""

    def __init__(self, change: LoRADelta, weights: Tensor, like: Tensor):
        self.down = change.down.to(like.device, like.dtype)
        self.up = change.up.to(like.device, like.dtype)
        self.weights = (weights * change.scale).to(like.device, like.dtype)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        weights = self.weights.repeat(len(x) // len(self.weights))
        weights = weights.reshape(-1, *[1] * (output.dim() - 1))
        if isinstance(layer, nn.Conv2d):
            down = functional.conv2d(x, self.down, None, layer.stride, layer.padding)
            up = self.up.reshape(*self.up.shape[:2], 1, 1)
            return output + weights * functional.conv2d(down, up)
        return output + weights * functional.linear(functional.linear(x, self.down), self.up)


def _record(base: Base, cell: Cell) -> dict[str, Any]:
    """As `generate.draw` writes it, with what the stack holds."""
    sampling = base.spec.sampling
    settings = cell.settings
    guidance = sampling.guidance if settings.guidance is None else settings.guidance
    return asdict(settings) | {
        "steps": settings.steps or sampling.steps,
        "guidance": guidance,
        "base": base.spec.name,
        "fingerprint": base.fingerprint,
        "combine": cell.stack.combine,
        "adapters": [
            record(slot)
            | {"title": slot.adapter.description.title}
            | {"trigger": slot.adapter.description.trigger}
            for slot in cell.stack.slots
        ],
    }
