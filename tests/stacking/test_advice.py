"""What is said of ways to combine: the benchmark's own figures, for what is on the list."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from personalization.adapters.adapter import Description
from personalization.stacking.advice import BOTH_THERE, SUBJECT_AND_STYLE, advice
from personalization.stacking.stack import COMBINATIONS
from tests.support.server import ROOT

RESULTS = ROOT / "tests" / "benchmarks" / "results" / "combinations.json"
SUBJECT, STYLE = (
    Description("lora", "pocket", kind="creature"),
    Description("lora", "pocket", kind="style"),
)
WORD = Description("textual_inversion", "pocket", kind="object")


def mean(group: str, way: str, figure: str) -> float:
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    return statistics.fmean(r[figure] for r in rows if (r["group"], r["way"]) == (group, way))


def test_the_figures_are_those_of_the_benchmark() -> None:
    assert set(SUBJECT_AND_STYLE) == set(COMBINATIONS)
    for way, said in SUBJECT_AND_STYLE.items():
        assert said == pytest.approx(mean("subject and style", way, "subject × style"), abs=0.0051)
    both = {way: mean("two subjects", way, "both") for way in COMBINATIONS}
    assert BOTH_THERE["best of the ways"] == pytest.approx(max(both.values()), abs=0.0051)
    assert BOTH_THERE["regions"] == pytest.approx(
        mean("two subjects", "regions", "both"), abs=0.0051
    )


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        ([], ""),
        ([SUBJECT], ""),
        ([SUBJECT, WORD], ""),
        ([STYLE, STYLE], ""),
        ([SUBJECT, STYLE], "For a subject and a style: the sum"),
        ([STYLE, WORD, SUBJECT], "For a subject and a style: the sum"),
        ([SUBJECT, SUBJECT], "Two subjects in one picture blend"),
        ([SUBJECT, STYLE, STYLE], "With three and more"),
        ([SUBJECT, STYLE, SUBJECT], "A place for each adapter"),
    ],
)
def test_it_is_about_what_is_on_the_list(adapters: list[Description], said: str) -> None:
    assert advice(adapters).startswith(said) or said in advice(adapters)
    assert bool(advice(adapters)) == bool(said)
