"""The whole spectrum on the page: which way it is at, what is left, what is said before."""

from __future__ import annotations

import shutil

import pytest

from personalization.bases.catalog import ASSETS
from personalization.evaluation.spectrum_files import SHEET, TITLES
from personalization.events import Stage, StepDone
from personalization.page.session import workspaces
from personalization.page.spectrum_html import so_far
from personalization.page.spectrum_panel import choices_of, without
from personalization.page.spectrum_work import SHEET_SECONDS, SpectrumView
from personalization.training.run import State
from personalization.workspaces.workspace import Workspace

NAME = "20261126-120000-000000-sks-dog"


@pytest.fixture
def workspace() -> Workspace:
    """With the recorded run in it, of which nothing was taught in another way."""
    workspace = workspaces().new()
    left_out = shutil.ignore_patterns("spectrum*", "strengths", "report", "previews", "pictures")
    shutil.copytree(ASSETS / "recorded", workspace.folder / "runs" / NAME, ignore=left_out)
    return workspace


@pytest.fixture(scope="module")
def panel():
    import app

    return app.subject_tab.run_panel.result.spectrum


def step(number: int) -> StepDone:
    return StepDone(number, 10, 0.1, None, 1.0, 10.0 - number)


def test_it_says_which_way_it_is_at_and_what_all_of_them_still_take() -> None:
    view = SpectrumView({"a word": 40.0, "LoRA": 0.0, "LoKr": 60.0})
    assert view.seconds_left == 100 + SHEET_SECONDS
    assert "busy" in so_far(view, "Number 2 in the queue")
    assert "Number 2 in the queue" in so_far(view, "Number 2 in the queue")
    shares = [view.share]
    for event in (
        Stage("a word", 1, 3),
        Stage("photos", 0, 1),
        step(4),
        Stage("the base", 8, 24),
        Stage("LoRA", 2, 3),
        Stage("LoKr", 3, 3),
        step(9),
        Stage(SHEET, 0, 4),
        Stage(SHEET, 4, 4),
    ):
        view.take(event)
        shares.append(view.share)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    view.take(Stage("LoKr", 3, 3))
    assert view.seconds_left == 60 + SHEET_SECONDS
    view.take(step(9))
    said = so_far(view)
    assert "LoKr: step 9 of 10" in said
    assert '<li class="done">✓ a word</li>' in said
    assert '<li class="now" aria-current="step">LoKr</li>' in said


def test_steps_are_shown_once_a_second_and_stages_at_once() -> None:
    view = SpectrumView({"LoRA": 60.0})
    assert view.take(Stage("LoRA", 1, 1))
    assert not view.take(step(1))
    view.shown -= 2
    assert view.take(step(2))


def test_what_is_not_told_is_not_summed() -> None:
    assert SpectrumView({"a word": 40.0, "LoRA": None}).seconds_left is None


def test_each_way_says_what_it_still_takes_and_which_is_there(panel, workspace) -> None:
    told = panel.estimate(workspace.id, NAME, list(TITLES))
    choices = {way: said for said, way in told[panel.ways]["choices"]}
    assert choices["lora"] == "LoRA, there already"
    assert "full fine-tune, about" in choices["full"]
    whole = told[panel.status]
    fewer = panel.estimate(workspace.id, NAME, ["lora", "word"])[panel.status]
    assert "It takes" in whole
    assert "It takes" in fewer
    assert whole != fewer
    assert "All of it is there" in panel.estimate(workspace.id, NAME, ["lora"])[panel.status]
    assert choices_of({}) == [(title, way) for way, title in TITLES.items()]


@pytest.mark.parametrize("chosen", [[], ["lora"]])
def test_what_cannot_be_begun_is_said_and_nothing_waits(panel, workspace, chosen) -> None:
    run = workspace.run(NAME)
    if chosen:
        run.set_state(State("running", 2, 1.0))
    told = panel.begin(workspace.id, NAME, chosen)
    said = "has not finished" if chosen else "nothing to compare"
    assert set(told) == {panel.status}
    assert said in told[panel.status]
    assert without(chosen) == tuple(way for way in TITLES if way not in chosen)


def test_a_run_that_was_deleted_meanwhile_ends_the_looking(panel, workspace) -> None:
    workspace.delete_run(NAME)
    told = panel.look(workspace.id, NAME)
    assert not told[panel.tick].active


def test_a_look_that_was_on_its_way_takes_back_nothing_that_a_stop_said(panel, workspace) -> None:
    said = panel.leave(workspace.id, NAME)
    told = panel.look(workspace.id, NAME)
    assert "the same button goes on" in told[panel.status]
    assert told[panel.status] == said[panel.status]
    assert not told[panel.tick].active


def test_on_zerogpu_a_request_for_another_run_or_a_stopped_one_ends(panel, workspace) -> None:
    asked = {"run": NAME, "ways": ["lora"]}
    (gone_on,) = panel.advance(workspace.id, "another", asked)
    assert not gone_on[panel.tick].active
    workspace.run(NAME).stop()
    (stopped,) = panel.advance(workspace.id, NAME, asked)
    assert not stopped[panel.tick].active
    assert stopped[panel.turn] is None
