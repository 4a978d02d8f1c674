"""A sweep: the same picture along one or two settings, as a labelled grid.

Pictures that need the same weights are drawn in one batch. Plain LoRAs, whose change is linear, go
further: there each picture of a batch has weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.errors import RecipeError
from personalization.events import Stage
from personalization.sampling.generate import PER_BATCH, as_drawn, draw_each, record_of
from personalization.sampling.guides import NO_GUIDES, Guides
from personalization.sampling.guiding import guided
from personalization.sampling.image_grid import image_grid
from personalization.sampling.picture_record import Picture, PictureRecord
from personalization.sampling.regional import regional
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied, applied_each, varies_in_a_batch
from personalization.stacking.stack import Slot, Stack

STRENGTHS = (0.2, 0.5, 0.8, 1.1, 1.5)
MAX_PICTURES = 64
FULL_ENOUGH = 3  # pictures of the same weights, from which a batch of their own is as fast

What = Literal["weight", "guidance", "steps", "combine", "seed", "prompt", "only"]

TAKES: dict[What, tuple[type, str]] = {
    "weight": (float, "numbers"),
    "guidance": (float, "numbers"),
    "steps": (int, "whole numbers"),
    "seed": (int, "whole numbers"),
    "combine": (str, "names"),
    "prompt": (str, "texts"),
    "only": (tuple, "tuples of slot numbers"),
}


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

    def check(self, stack: Stack) -> Axis:
        """Return self, or raise `RecipeError`."""
        if not self.values:
            raise RecipeError(f"The sweep over {self.what} has no values.", field="sweep")
        kind, plural = TAKES[self.what]
        if not all(_is(kind, value) for value in self.values):
            raise RecipeError(f"A sweep over {self.what} takes {plural}.", field="sweep")
        if self.what == "weight" and not 0 <= self.slot < len(stack.slots):
            raise RecipeError(
                "There is no adapter whose weight could be swept. Add one to the stack.",
                field="sweep",
            )
        return self

    def fitting(self, stack: Stack, spec: BaseSpec) -> Axis:
        """The axis of what `stack.fitting` leaves. Raises `AdapterError` for one that it leaves
        out, whose weight cannot be swept.
        """
        if self.what != "weight" or not 0 <= self.slot < len(stack.slots):
            return self
        stack.slots[self.slot].check(spec)
        left_out = sum(bool(slot.misfit(spec)) for slot in stack.slots[: self.slot])
        return replace(self, slot=self.slot - left_out)

    def at(self, cell: Cell, value: Any) -> Cell:
        """The cell with this axis at `value`."""
        match self.what:
            case "weight":
                slots = list(cell.stack.slots)
                slots[self.slot] = replace(slots[self.slot], weight=float(value))
                return replace(cell, stack=replace(cell.stack, slots=tuple(slots)))
            case "only":
                return replace(cell, stack=_only(cell.stack, value))
            case "combine":
                return replace(cell, stack=replace(cell.stack, combine=value))
            case setting:
                return replace(cell, settings=replace(cell.settings, **{setting: value}))

    def labels(self, stack: Stack) -> tuple[str, ...]:
        """What stands beside the pictures; an adapter is named where there are several."""
        match self.what:
            case "prompt" | "combine":
                return tuple(self.values)
            case "only":
                return tuple(_together(stack, numbers) for numbers in self.values)
            case "weight":
                several = len(stack.slots) > 1
                name = _trigger(stack.slots[self.slot]) if several else "strength"
            case setting:
                name = setting
        return tuple(f"{name} {value:g}" for value in self.values)


@dataclass(frozen=True)
class Sweep:
    """What is swept, across and, where `down` is given, row by row."""

    stack: Stack
    settings: Settings
    across: Axis = Axis("weight", STRENGTHS)
    down: Axis | None = None
    guides: Guides = NO_GUIDES

    @property
    def count(self) -> int:
        """How many pictures it asks for."""
        return len(self.across.values) * (len(self.down.values) if self.down else 1)

    def check(self, spec: BaseSpec) -> Sweep:
        """Return self, or raise `RecipeError`, `StackError` or `AdapterError`."""
        axes = [axis for axis in (self.across, self.down) if axis]
        if self.count > MAX_PICTURES:
            raise RecipeError(
                f"The sweep asks for {self.count} pictures; at most {MAX_PICTURES} are drawn at "
                "once. Take some values out.",
                field="sweep",
            )
        for axis in axes:
            axis.check(self.stack)
        for row in self.rows():
            for cell in row:
                cell.stack.check(spec)
                cell.settings.check()
        return self

    def rows(self) -> list[list[Cell]]:
        """The cells of the grid."""
        first = Cell(self.stack, replace(self.settings, count=1))
        starts = [self.down.at(first, v) for v in self.down.values] if self.down else [first]
        return [[self.across.at(cell, value) for value in self.across.values] for cell in starts]


@dataclass(frozen=True)
class Grid:
    """`pictures[row][column]`, each with its record; `record` is of what was swept."""

    pictures: tuple[tuple[Picture, ...], ...]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    record: PictureRecord

    def sheet(self, *, dark: bool = False) -> Picture:
        """All of it as one labelled picture."""
        images = [[picture.image for picture in row] for row in self.pictures]
        image = image_grid(images, self.row_labels, self.column_labels, dark=dark)
        return Picture(image, self.record)


def side_by_side(stack: Stack) -> Axis:
    """The base, each adapter alone at its weight, and all of them together."""
    numbers = range(len(stack.slots))
    alone = [(number,) for number in numbers]
    together = [tuple(numbers)] if len(numbers) > 1 else []
    return Axis("only", ((), *alone, *together))


def sweep(base: Base, plan: Sweep) -> Grid:
    """The grid of `sweeping`."""
    *_, grid = sweeping(base, plan)
    assert isinstance(grid, Grid)
    return grid


def sweeping(base: Base, plan: Sweep) -> Iterator[Stage | Grid]:
    """Tell how far it is, batch by batch, then give the grid.

    Everything is checked before the first picture: raises what `Sweep.check` raises.
    """
    rows = plan.check(base.spec).rows()
    cells = [cell for row in rows for cell in row]
    pictures: dict[Cell, Picture] = {}
    yield Stage("sweep", 0, len(cells))
    for batch in batches(cells):
        pictures |= dict(zip(batch, _drawn(base, batch, plan.guides), strict=True))
        yield Stage("sweep", sum(cell in pictures for cell in cells), len(cells))
    yield Grid(
        tuple(tuple(pictures[cell] for cell in row) for row in rows),
        plan.down.labels(plan.stack) if plan.down else (),
        plan.across.labels(plan.stack),
        record_of(base, plan.settings, plan.stack, guides=plan.guides),
    )


def batches(cells: Iterable[Cell]) -> list[list[Cell]]:
    """The cells in as few batches as can be drawn at once, each cell once.

    A batch shares what the sampler takes one value of, and its weights, unless every adapter in it
    is a plain LoRA and batches of the same weights would be small.
    """
    by_weights: dict[tuple[Settings, Stack], list[Cell]] = {}
    for cell in dict.fromkeys(cells):
        prompt = cell.settings.prompt if cell.stack.has_regions else ""
        sampler = replace(cell.settings, prompt=prompt, seed=0)
        by_weights.setdefault((sampler, cell.stack), []).append(cell)
    joined: dict[tuple[Settings, Stack | None], list[Cell]] = {}
    for (sampler, stack), group in by_weights.items():
        alone = len(group) >= FULL_ENOUGH or not varies_in_a_batch(stack)
        joined.setdefault((sampler, stack if alone else None), []).extend(group)
    return [
        group[i : i + PER_BATCH]
        for group in joined.values()
        for i in range(0, len(group), PER_BATCH)
    ]


def _drawn(base: Base, batch: Sequence[Cell], guides: Guides) -> list[Picture]:
    prompts = [cell.settings.prompt for cell in batch]
    seeds = [cell.settings.seed for cell in batch]
    settings = batch[0].settings
    drawn = as_drawn(base, settings)
    with (
        _weights(base, [cell.stack for cell in batch]),
        regional(base, batch[0].stack, drawn),
        guided(base, guides, guidance=drawn.guidance or 0.0),
    ):
        images = draw_each(base, prompts, seeds, settings)
    return [
        Picture(image, record_of(base, cell.settings, cell.stack, guides=guides))
        for image, cell in zip(images, batch, strict=True)
    ]


def _weights(base: Base, stacks: Sequence[Stack]) -> AbstractContextManager[None]:
    if all(stack == stacks[0] for stack in stacks):
        return applied(base, stacks[0])
    return applied_each(base, stacks)


def _is(kind: type, value: object) -> bool:
    wanted = (int, float) if kind is float else kind
    return isinstance(value, wanted) and not isinstance(value, bool)


def _only(stack: Stack, numbers: Sequence[int]) -> Stack:
    """The slots of these numbers, the others at weight 0."""
    slots = (
        slot if number in numbers else Slot(slot.adapter, 0.0, library_name=slot.library_name)
        for number, slot in enumerate(stack.slots)
    )
    return replace(stack, slots=tuple(slots))


def _trigger(slot: Slot) -> str:
    return slot.adapter.description.trigger or slot.name


def _together(stack: Stack, numbers: Sequence[int]) -> str:
    if not numbers:
        return "base"
    if len(numbers) > 2:
        return "together"
    return " + ".join(f"{_trigger(stack.slots[n])} × {stack.slots[n].weight:g}" for n in numbers)
