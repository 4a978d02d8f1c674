"""Claims about sweeps: what a cell shows, what is drawn together, what is refused."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from personalization.adapters.adapter import Adapter, Description
from personalization.errors import RecipeError, StackError
from personalization.events import Stage
from personalization.sampling.generate import draw
from personalization.sampling.settings import Settings
from personalization.sampling.sweep import (
    Axis,
    Cell,
    Grid,
    Sweep,
    batches,
    side_by_side,
    sweep,
    sweeping,
)
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import tiny
from tests.support.silence import Silence

ASKED = Settings("a photo of a dog", seed=3, steps=3)


@pytest.fixture(scope="module")
def base():
    return tiny.base()


def lora(base, seed: int, method: str = "lora") -> Adapter:
    """Random low-rank changes, in the UNet and the text encoder."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for component, module in base.modules.items():
        for path, layer in module.named_modules():
            if path.endswith(("to_q", "to_v", "proj_in", "q_proj")):
                out, into = layer.weight.shape[:2]
                down = torch.randn(2, into, generator=generator)
                name = f"{component}.{path}"
                tensors[f"{name}.lora_A.weight"] = down.reshape(
                    2, into, *[1] * (layer.weight.dim() - 2)
                )
                up = 0.2 * torch.randn(out, 2, generator=generator)
                tensors[f"{name}.lora_B.weight"] = up.reshape(
                    out, 2, *[1] * (layer.weight.dim() - 2)
                )
    described = Description(
        method,
        "tiny",
        placeholder_token=f"word{seed}",
        class_noun="dog",
        rank=2,
        alpha=4,
        title=f"dog {seed}",
    )
    return Adapter(described, tensors)


def one_by_one(base, cell: Cell) -> np.ndarray:
    with applied(base, cell.stack):
        return np.asarray(draw(base, cell.settings)[0].image).astype(int)


def pixels(grid: Grid) -> list[list[np.ndarray]]:
    return [[np.asarray(p.image).astype(int) for p in row] for row in grid.pictures]


def test_pictures_of_different_strengths_in_one_batch_are_those_drawn_one_by_one(base):
    stack = Stack((Slot(lora(base, 1), 1.0), Slot(lora(base, 2), -0.5)))
    axis = Axis("weight", (0.0, 0.5, 1.5), slot=0)
    (row,) = pixels(sweep(base, Sweep(stack, ASKED, axis)))
    for value, shown in zip(axis.values, row, strict=True):
        alone = one_by_one(base, axis.at(Cell(stack, ASKED), value))
        assert abs(shown - alone).max() <= 2
    assert abs(row[0] - row[2]).max() > 8


def test_every_cell_has_the_value_of_its_row_and_column(base):
    stack = Stack((Slot(lora(base, 1)),))
    grid = sweep(base, Sweep(stack, ASKED, Axis("weight", (0.5, 1.0)), Axis("seed", (4, 5, 6))))
    records = [[picture.record for picture in row] for row in grid.pictures]
    assert [[r.adapters[0].weight for r in row] for row in records] == [[0.5, 1.0]] * 3
    assert [[r.seed for r in row] for row in records] == [[4, 4], [5, 5], [6, 6]]
    assert grid.column_labels == ("strength 0.5", "strength 1")
    assert grid.row_labels == ("seed 4", "seed 5", "seed 6")
    assert grid.sheet().image.width > 2 * 32


def test_ways_to_combine_and_guidance_can_be_axes(base):
    stack = Stack((Slot(lora(base, 1)), Slot(lora(base, 2))))
    axis_x, axis_y = Axis("combine", ("sum", "ties")), Axis("guidance", (1.0, 5.0))
    shown = pixels(sweep(base, Sweep(stack, ASKED, axis_x, axis_y)))
    cell = axis_y.at(axis_x.at(Cell(stack, ASKED), "ties"), 5.0)
    assert abs(shown[1][1] - one_by_one(base, cell)).max() <= 2


def test_side_by_side_shows_the_base_each_alone_and_all_together(base):
    stack = Stack((Slot(lora(base, 1), 0.8), Slot(lora(base, 2), -0.5)))
    grid = sweep(base, Sweep(stack, ASKED, side_by_side(stack)))
    alone = [Stack((slot,)) for slot in stack.slots]
    for shown, wanted in zip(pixels(grid)[0], (Stack(()), *alone, stack), strict=True):
        assert abs(shown - one_by_one(base, Cell(wanted, ASKED))).max() <= 2
    assert grid.column_labels == (
        *("base", "word1 dog × 0.8", "word2 dog × -0.5"),
        "word1 dog × 0.8 + word2 dog × -0.5",
    )
    assert side_by_side(Stack(stack.slots[:1])).values == ((), (0,))


def test_the_base_is_untouched_afterwards(base):
    before = {k: v.clone() for m in base.modules.values() for k, v in m.state_dict().items()}
    sweep(base, Sweep(Stack((Slot(lora(base, 1)),)), ASKED, Axis("weight", (0.5, 1.0))))
    after = {k: v for m in base.modules.values() for k, v in m.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(m._forward_hooks for module in base.modules.values() for m in module.modules())
    assert not base.lock.locked()


def cells(base, method: str, seeds: int) -> list[Cell]:
    stack, axis = Stack((Slot(lora(base, 1, method)),)), Axis("weight", (0.2, 0.5, 0.8, 1.1, 1.5))
    start = [Cell(stack, replace(ASKED, seed=seed)) for seed in range(seeds)]
    return [axis.at(cell, value) for cell in start for value in axis.values]


def test_strengths_of_a_lora_share_a_batch_and_those_of_other_methods_do_not(base):
    assert [len(batch) for batch in batches(cells(base, "lora", 1))] == [5]
    assert [len(batch) for batch in batches(cells(base, "loha", 1))] == [1] * 5


def test_many_pictures_of_each_strength_are_drawn_with_their_own_weights(base):
    drawn = batches(cells(base, "lora", 4))
    assert [len(batch) for batch in drawn] == [4] * 5
    assert all(len({cell.stack.slots[0].weight for cell in batch}) == 1 for batch in drawn)


def test_a_sweep_is_never_silent_for_longer_than_a_batch(base):
    plan = Sweep(Stack((Slot(lora(base, 1)),)), ASKED, Axis("guidance", (1.5, 2.0, 3.0)))
    silence = Silence()
    list(silence.heard(base, sweeping(base, plan)))
    assert silence.all == 3 * ASKED.steps
    assert silence.most == ASKED.steps


def test_a_picture_wanted_twice_is_drawn_once(base):
    plan = Sweep(Stack((Slot(lora(base, 1)),)), ASKED, Axis("weight", (0.5, 0.5)))
    events = list(sweeping(base, plan))
    assert [event for event in events if isinstance(event, Stage)][-1] == Stage("sweep", 2, 2)
    assert events[-1].pictures[0][0] is events[-1].pictures[0][1]


@pytest.mark.parametrize(
    ("axis", "error", "said"),
    [
        (Axis("weight", (0.5, 2.5)), StackError, "between -2 and 2"),
        (Axis("weight", (0.5,), slot=1), RecipeError, "no adapter"),
        (Axis("weight", ()), RecipeError, "no values"),
        (Axis("guidance", (1, 31)), RecipeError, "guidance is 31"),
        (Axis("combine", ("sum", "magic")), StackError, "magic"),
        (Axis("seed", tuple(range(65))), RecipeError, "at most 64"),
        (Axis("weight", ("much",)), RecipeError, "takes numbers"),
        (Axis("steps", (2.5,)), RecipeError, "takes whole numbers"),
        (Axis("seed", (True,)), RecipeError, "takes whole numbers"),
        (Axis("prompt", (3,)), RecipeError, "takes texts"),
        (Axis("prompt", ("a dog", "")), RecipeError, "prompt is empty"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_the_first_picture(base, axis, error, said):
    events = sweeping(base, Sweep(Stack((Slot(lora(base, 1)),)), ASKED, axis))
    with pytest.raises(error, match=said):
        next(events)


def test_a_sweep_of_millions_is_refused_before_a_cell_is_made(base):
    seeds = Axis("seed", tuple(range(1500)))
    weights = Axis("weight", (0.5,) * 1500)
    started = time.monotonic()
    with pytest.raises(RecipeError, match="2250000 pictures; at most 64"):
        Sweep(Stack((Slot(lora(base, 1)),)), ASKED, seeds, weights).check(base.spec)
    assert time.monotonic() - started < 1
