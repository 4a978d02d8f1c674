"""What a program asks for has its place in the queue; what it draws is kept with its session."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from personalization.errors import PersonalizationError
from personalization.events import StepDone
from personalization.page import run_endpoints, run_panel, runs
from personalization.page.run_queue import Job, RunQueue
from personalization.page.session import Visit, workspaces
from personalization.page.stack_endpoints import draw_stack
from personalization.page.stacks import stack_of
from personalization.recipe import LowRank, Recipe
from personalization.sampling import generate
from personalization.sampling.picture_record import read_record
from personalization.sampling.settings import Settings
from personalization.training.run import Run, State
from personalization.workspaces.belongings import belongings
from personalization.workspaces.workspace import Workspace
from tests.support import tiny

PATIENCE = 10


class Work:
    """One step of a run, as soon as it is let go on."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.learned = (threading.Semaphore(0) for _ in range(3))

    def __call__(self, job: Job) -> None:
        self.begun.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        job.view.take(StepDone(1, 4, 0.5, None, 0.1, 0.3))
        self.learned.release()
        assert self.go_on.acquire(timeout=PATIENCE)


@pytest.fixture
def work(monkeypatch) -> Iterator[Work]:
    """The app's queue, with nothing in it and hands that wait."""
    work = Work()
    queue = RunQueue(work)
    for module in (runs, run_endpoints):
        monkeypatch.setattr(module, "run_queue", lambda: queue)
    monkeypatch.setattr(run_endpoints, "REFRESH", 0.01)
    yield work
    for _ in range(99):
        work.go_on.release()


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = workspaces().new()
    yield workspace
    workspace.delete()


def run_in(workspace: Workspace) -> Run:
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4)
    return Run.create(workspace.new_run_folder("sks"), tiny.concept(count=1), recipe, "pocket")


def test_a_programs_run_says_its_place_and_then_how_far_it_is(work: Work, workspace: Workspace):
    before = runs.enqueue(workspace, run_in(workspace), "learn", then_measure=False)
    status: dict = {"state": "waiting"}
    turns = run_endpoints._in_turn(workspace, run_in(workspace), "learn", status)
    next(turns)
    assert status == {"state": "waiting", "place": 2}
    for _ in range(2):
        work.go_on.release()
    assert before.over.wait(PATIENCE)
    work.go_on.release()
    for _ in turns:
        if status["state"] == "learning":
            break
    assert (status["step"], status["steps"], status["loss"]) == (1, 4, 0.5)
    assert "place" not in status
    work.go_on.release()
    assert list(turns) is not None, "it ends without an error"
    assert "place" not in status


def test_a_program_that_goes_away_cancels_what_it_asked_for(work: Work, workspace: Workspace):
    turns = run_endpoints._in_turn(workspace, run := run_in(workspace), "learn", {})
    next(turns)
    job = runs.run_queue().find(workspace.id, run.folder.name, "learn")
    turns.close()
    assert job
    assert job.stopped.is_set()
    assert run.stop_requested


def test_a_program_moves_its_second_run_before_its_first(work: Work, workspace: Workspace):
    ids = []
    for _ in range(3):
        run = run_in(workspace)
        runs.enqueue(workspace, run, "learn", then_measure=False)
        ids.append(run.folder.name)
    assert work.begun.acquire(timeout=PATIENCE), "the first is at work"
    moved = run_endpoints.move_up_run(workspace.id, ids[2])
    assert moved == {"run": ids[2], "place": 2}
    assert run_endpoints.move_up_run(workspace.id, ids[0])["place"] == 0, "it does not wait"
    with pytest.raises(PersonalizationError, match="not in your workspace"):
        run_endpoints.move_up_run(workspace.id, "gone")


def test_what_is_drawn_for_a_session_is_kept_there_with_its_record(workspace: Workspace):
    _, records = draw_stack([], "a dog", seed=5, count=2, steps=1, session=workspace.id)
    kept = [each for each in belongings(workspace) if each.kind == "picture"]
    assert {each.about for each in kept} == {"seed 5", "seed 6"}
    for each in kept:
        record = read_record(each.path)
        assert record
        assert record.to_dict() in records
    there = set(workspaces().root.rglob("*.png"))
    draw_stack([], "a dog", steps=1)
    assert set(workspaces().root.rglob("*.png")) == there, "for nobody nothing is kept"


def test_where_a_picture_takes_minutes_a_stop_ends_the_showcase_after_the_one_at_hand(
    monkeypatch, workspace: Workspace
):
    monkeypatch.setattr(runs, "own_stack", lambda run: stack_of(run.base, []))
    monkeypatch.setattr(generate, "quick", lambda *_, **__: Settings(steps=1))
    monkeypatch.setattr(generate, "per_batch", lambda base: 1)
    run = run_in(workspace)
    stopped = iter((False, False, True))
    assert len(runs.show_off(run, lambda: next(stopped))) == 2
    assert sorted(path.name for path in (run.folder / "pictures").iterdir()) == ["0.png", "1.png"]


@pytest.mark.parametrize("cancelled", [False, True])
def test_on_zerogpu_a_run_goes_on_by_itself_when_its_page_is_back(
    monkeypatch, workspace: Workspace, cancelled: bool
):
    import app

    panel, run = app.subject_tab.run_panel, run_in(workspace)
    monkeypatch.setattr(run_panel, "ON_ZERO", True)
    run.set_state(State("running", step=2))
    if cancelled:
        run.stop()
    shown = panel.find(Visit(workspace, "pocket"), Run.open(run.folder))
    assert shown[panel.current] == run.folder.name
    assert (panel.turn in shown) is not cancelled, "a turn is asked for unless it was cancelled"
