"""The recorded run: a run's folder like any other, shown without computing anything."""

from __future__ import annotations

import re

import pytest

from personalization.evaluation.report import Report
from personalization.events import Preview, StepDone
from personalization.page.address import Address
from personalization.page.recorded import FOLDER, events_of, recorded_run, told
from personalization.page.strengths_html import frames_in

MOST = 6_000_000  # bytes


@pytest.fixture(scope="module")
def panel():
    import app

    return app.subject_tab.run_panel


def test_it_is_a_finished_run_with_report_and_pictures_and_is_small():
    run, report = recorded_run(), Report.open(FOLDER)
    assert (run.state.status, run.state.step) == ("finished", run.recipe.steps)
    assert report is not None
    assert report.figures is not None
    assert report.figures.balance.strength == pytest.approx(run_strength())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < MOST


def run_strength() -> float:
    from personalization.adapters.adapter import read

    return read(FOLDER / "adapter.safetensors").description.strength


def test_each_picture_was_drawn_with_the_recorded_adapter():
    from personalization.adapters.adapter import read
    from personalization.sampling.picture_record import read_record

    drawn = [read_record(path) for path in sorted((FOLDER / "strengths").glob("*.png"))]
    hashes = {adapter.sha256 for record in drawn if record for adapter in record.adapters}
    assert hashes == {read(FOLDER / "adapter.safetensors").sha256}
    by_strength = {frame.strength for frame in frames_in(FOLDER / "strengths")}
    by_prompt = {frame.prompt for frame in frames_in(FOLDER / "strengths")}
    assert len(drawn) == len(by_strength) * len(by_prompt) >= 16


def test_the_events_are_those_of_its_log_in_their_order():
    run = recorded_run()
    events = list(events_of(run))
    steps = [event for event in events if isinstance(event, StepDone)]
    previews = [event for event in events if isinstance(event, Preview)]
    assert [e.step for e in steps] == list(range(1, run.recipe.steps + 1))
    assert [e.loss for e in steps] == [row.loss for row in run.losses()]
    assert [e.step for e in previews] == [step for step, _ in run.previews()]
    assert steps[-1].seconds_left == pytest.approx(0, abs=1e-6)


def test_it_says_when_and_on_what_it_was_recorded_and_offers_nothing_to_compute(panel):
    shown = panel.show_recorded(whole=True)
    run = recorded_run()
    assert run.record.created[:10] in shown[panel.recorded.note]["value"]
    assert "Pocket" in shown[panel.recorded.note]["value"]
    result = panel.result
    for part in (result.gallery, result.ask, result.take, result.report.measure, panel.cancel):
        assert shown[part]["visible"] is False
    assert set(shown) <= set(panel.drawn)  # no request in a visitor's name follows


def test_a_visitors_own_run_takes_its_place(panel):
    from personalization.page.progress import RunView

    shown = panel.show(RunView("sks", 10))
    assert all(shown[part]["visible"] is False for part in panel.recorded.parts)
    assert shown[panel.result.ask]["visible"] is True


def test_one_frame_of_each_prompt_is_seen_first_the_nearest_to_the_recommended_strength():
    _, pictures, _ = told()
    frames = frames_in(FOLDER / "strengths")
    seen = re.findall(r'data-at="(\d)" class="seen"', pictures)
    assert len(seen) == len({f.prompt for f in frames}) + 1  # and what the slider says
    values = sorted({frame.strength for frame in frames})
    assert abs(values[int(seen[0])] - run_strength()) == min(
        abs(v - run_strength()) for v in values
    )


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, (False, False)),
        ({"embed": "true"}, (True, True)),
        ({"embed": "false"}, (False, False)),
        ({"run": "recorded"}, (False, True)),
        ({"run": "../../secret"}, (False, False)),
        ({"embed": "true", "stack": "neon:1"}, (True, False)),
    ],
)
def test_the_address_says_what_is_shown(parameters, expected):
    address = Address.of(parameters)
    assert (address.embedded, address.recorded) == expected
