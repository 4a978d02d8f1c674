"""Claims about reports side by side."""

from __future__ import annotations

from personalization.evaluation import report_html
from personalization.evaluation.comparison import Comparison
from tests.support.known import (
    Model,
    report_of,
)


def test_a_comparison_has_a_row_for_each_way(good):
    comparison = Comparison({"LoRA": good, "<i>other</i>": report_of(Model(leaks=0.8))})
    rows = comparison.rows()
    assert [row["name"] for row in rows] == ["LoRA", "<i>other</i>"]
    assert rows[1]["drift"].mean > rows[0]["drift"].mean
    assert "<i>other" not in report_html.render_comparison(comparison)


def test_a_comparison_calls_equal_what_it_cannot_tell_apart(good):
    assert "no difference" in Comparison({"one": good, "two": good}).verdict
    other = report_of(Model(knows=lambda s: 0.2, follows=lambda s: 1))
    verdict = Comparison({"LoRA": good, "word": other, "again": good}).verdict
    assert verdict.startswith("Nearest to the photos: LoRA and again alike.")
