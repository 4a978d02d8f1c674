"""What docs/RECIPES.md promises of the first minutes is what the estimate says."""

from __future__ import annotations

import math

import pytest

from personalization.bases import CATALOG
from personalization.training.presets import Intent, Purpose, recommend
from tests.benchmarks.recipes import CARDS, DOCUMENT, SLICE, row, seconds


@pytest.mark.parametrize(
    ("base", "purpose", "most", "slices"),
    [
        ("sd15", "word", 60, 1),
        ("sd15", "subject", 60, 1),
        pytest.param("sdxl", "subject", 100, 2, marks=pytest.mark.slow),
    ],
)
def test_a_first_minute_takes_no_more_of_zerogpu_than_was_promised(
    base: str, purpose: Purpose, most: int, slices: int
) -> None:
    spec = CATALOG[base]
    recipe = recommend(spec, purpose, Intent(), full=False).recipe
    taken = seconds(spec, recipe, CARDS["ZeroGPU"])
    assert taken <= most
    assert math.ceil(taken / SLICE) <= slices
    assert row(spec, f"{purpose}, close", recipe) in DOCUMENT.read_text()
