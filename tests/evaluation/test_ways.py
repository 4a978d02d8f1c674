"""The whole spectrum: every way in turn, what exists taken, and one table and sheet of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from personalization.bases.catalog import ASSETS
from personalization.errors import RunError
from personalization.evaluation import spectrum_sheet, ways
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import TITLES, part_in
from personalization.events import StepDone
from personalization.training.run import Run, State
from tests.evaluation.test_evaluate import finished_run
from tests.support import tiny
from tests.support.silence import Silence

WITHOUT = ("lokr", "full")


@pytest.fixture
def base(clip):
    base = tiny.base()
    short = {
        name: recipe.changed(steps=1, prior=recipe.prior and replace(recipe.prior, images=1))
        for name, recipe in base.spec.recipes.items()
    }
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=clip, sampling=sampling, recipes=short)
    return base


@pytest.fixture
def run(tmp_path) -> Run:
    return finished_run(tmp_path)


def test_each_way_is_taught_measured_and_shown_and_what_exists_is_taken(base, run) -> None:
    runs, missing = ways.queue(base, run, WITHOUT)
    assert (list(runs), missing) == (["word", "lora", "unpreserved"], [])
    assert runs["unpreserved"].folder == run.folder  # it was taught without class images
    assert runs["word"].concept.placeholder_token == "<sks>"
    silence = Silence()
    teaching = ways.teaching(base, run, runs, report_seconds=0.0)
    events = list(silence.heard(base, teaching))
    assert silence.all > 10
    assert silence.most <= 2  # a step, or a row of the sheet
    taught = [event for event in events if isinstance(event, StepDone)]
    assert len(taught) == sum(each.recipe.steps for each in runs.values() if each is not run)
    spectrum = events[-1]
    titles = [TITLES[way] for way in runs]
    assert list(spectrum.comparison.reports) == titles
    said = json.loads((run.folder / "spectrum.json").read_text())
    assert [row["name"] for row in said["rows"]] == titles
    assert all(row["size"] > 0 and row["subject_fidelity"]["mean"] for row in said["rows"])
    with Image.open(run.folder / "spectrum.png") as sheet:
        across, down = sheet.width / base.spec.size, sheet.height / base.spec.size
        assert across > spectrum_sheet.PROMPTS + 1
        assert down > len(runs)
    assert "The whole spectrum" in (run.folder / "report.html").read_text()
    assert "no prior preservation" in part_in(run.folder)

    shutil.rmtree(run.folder / "cache")  # of which nothing is left where nothing was to be taught
    again = ways.teaching(base, run, ways.queue(base, run, WITHOUT)[0], report_seconds=0.0)
    repeated = list(again)
    assert not any(isinstance(event, StepDone | Report) for event in repeated)
    assert repeated[-1].comparison.verdict == spectrum.comparison.verdict
    assert ways.seconds(base, ways.queue(base, run, WITHOUT)[0]) == 0.0


def test_the_recorded_spectrum_says_what_loses() -> None:
    said = json.loads((ASSETS / "recorded" / "spectrum.json").read_text())
    assert said["forgetting"] == [TITLES["unpreserved"]]
    assert "the class is lost: LoRA, no prior preservation" in part_in(ASSETS / "recorded")
    assert set(TITLES.values()) < {row["name"] for row in said["rows"]}


def test_the_estimate_is_of_all_that_is_left(base, run) -> None:
    few, _ = ways.queue(base, run, WITHOUT)
    many, _ = ways.queue(base, run)
    assert 0 < ways.seconds(base, few) < ways.seconds(base, many)


def test_what_cannot_be_is_said(base, run) -> None:
    with pytest.raises(RunError, match="“lycoris” is no way"):
        ways.queue(base, run, ["lycoris"])
    with pytest.raises(RunError, match="nothing to compare"):
        ways.queue(base, run, list(TITLES))
    run.set_state(State("running", 2, 1.0))
    with pytest.raises(RunError, match="has not finished"):
        ways.queue(base, run)


def test_a_way_that_this_base_cannot_go_is_left_out_with_the_reason(base, run) -> None:
    nowhere = {
        name: recipe.changed(method=replace(recipe.method, targets=("nowhere",)))
        for name in ("subject", "lokr")
        if (recipe := base.spec.recipes.get(name))
    }
    base.spec = replace(base.spec, recipes=base.spec.recipes | nowhere)
    runs, missing = ways.queue(base, run)
    assert list(runs) == ["word", "full", "unpreserved"]
    assert [line.partition(":")[0] for line in missing] == ["LoRA", "LoKr"]
    assert "nowhere" in missing[0]
