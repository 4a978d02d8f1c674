"""Claims about a report as files: what was saved is read back, and damage is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personalization.errors import ReportError
from personalization.evaluation.report import Report


def test_a_report_is_read_back_as_it_was_saved(tmp_path, good):
    assert Report.open(tmp_path) is None
    good.save(tmp_path)
    again = Report.open(tmp_path)
    assert again == good
    assert again.shots[0].image.convert("L").tobytes() == good.shots[0].image.tobytes()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 3}', '{"format": 2, "shots": 5}'])
def test_a_damaged_report_is_told_from_a_missing_one(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ReportError, match="cannot be read; measure again"):
        Report.open(tmp_path)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no picture")])
def test_a_report_without_one_of_its_pictures_is_damaged(tmp_path, good, damage):
    good.save(tmp_path)
    damage(tmp_path / "report" / "shot-00.png")
    with pytest.raises(ReportError, match="measure again"):
        Report.open(tmp_path)


def test_the_json_holds_every_figure_and_no_number_that_is_none(good):
    data = json.loads(json.dumps(good.as_dict()), parse_constant=lambda name: pytest.fail(name))
    assert data["figures"]["balance"]["strength"] == good.figures.balance.strength
    assert len(data["figures"]["levels"]) == 5
    assert data["cost"]["size"] == 1_200_000


def test_the_strip_shows_the_worst_as_well_as_the_best(good):
    strip = good.strip(5)
    assert len(strip) == 5
    assert strip[0][1].startswith("best: ")
    assert strip[-1][1].startswith("worst: ")
    scores = [shot.subject_fidelity * shot.prompt_fidelity for shot in good.shots]
    assert scores == sorted(scores, reverse=True)
