"""What docs/RECIPES.md promises of the first minutes is what the estimate says."""

from __future__ import annotations

import math

import pytest
import torch

from personalization.bases import CATALOG
from personalization.bases.work import decoding, forward
from personalization.page.gpu import MARGIN
from personalization.page.lending import DAY, FACTOR
from personalization.sampling import pace
from personalization.training.presets import Intent, Purpose, recommend
from tests.benchmarks.recipes import CARDS, DOCUMENT, SLICE, row, seconds

REQUEST = 5 + MARGIN  # seconds that four quick pictures are asked for by, at the least


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


def test_a_visitors_day_holds_a_word_and_a_subject_of_sd15_with_their_pictures() -> None:
    spec = CATALOG["sd15"]
    forwards = forward(spec.architecture, spec.size) * (2 * spec.sampling.steps)
    work = forwards + decoding(spec.architecture, spec.size)
    drawn = pace.seconds(CARDS["ZeroGPU"], work, 0.0, torch.bfloat16)
    assert drawn
    both = [recommend(spec, p, Intent(), full=False).recipe for p in ("word", "subject")]
    taken = [seconds(spec, recipe, CARDS["ZeroGPU"]) for recipe in both]
    # The last request is checked by what it asks for, not by what it will take.
    assert FACTOR * (sum(taken) + 4 * drawn + REQUEST) <= DAY[""]
