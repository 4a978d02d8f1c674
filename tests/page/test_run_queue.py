"""The runs that the app works on: in turn, in a visitor's own hands, whoever looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from personalization.data.concept import Concept
from personalization.errors import RunError
from personalization.page.run_queue import Job, RunQueue
from personalization.recipe import LowRank, Recipe
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace, Workspaces
from tests.support import tiny

PATIENCE = 10


@pytest.fixture
def visitors(tmp_path) -> Workspaces:
    return Workspaces(tmp_path / "root")


class Work:
    """Does a job once it is let go on, and remembers in which order."""

    def __init__(self) -> None:
        self.done: list[Job] = []
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job: Job) -> None:
        self.begun.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        self.done.append(job)
        if job.what == "finish":
            raise RunError("Nothing has been learned yet.")

    def let(self, jobs: int) -> None:
        for _ in range(jobs):
            self.go_on.release()
            assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    for _ in range(99):
        work.go_on.release()


def job_of(workspace: Workspace, what="learn", seconds: float | None = 60) -> Job:
    concept = Concept("object", "sks", "mug", tiny.photos(1))
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4)
    run = Run.create(workspace.new_run_folder("sks mug"), concept, recipe, "pocket")
    return Job.of(workspace, run, what, seconds)


def test_each_has_its_turn_and_knows_its_place_and_the_time_until_it(visitors, work):
    queue, one, other = RunQueue(work), visitors.new(), visitors.new()
    first, second, third = (queue.add(job_of(who)) for who in (one, other, other))
    assert work.begun.acquire(timeout=PATIENCE)
    first.view.seconds_left = 30
    assert queue.place(first) == (0, "")
    number, said = queue.place(third)
    assert number == 2
    assert "Number 3 in the queue: 2 runs are before it, 1 of them yours" in said
    assert "about 90 s" in said
    assert queue.find(other.id, third.run.folder.name, "learn") is third
    assert queue.find(one.id, third.run.folder.name, "learn") is None  # another's
    work.let(2)
    assert queue.place(third) == (0, "")
    assert work.done == [first, second]


def test_moving_up_changes_places_with_ones_own_and_costs_nobody_else_theirs(visitors, work):
    queue, one, other = RunQueue(work), visitors.new(), visitors.new()
    running, mine, theirs, later = (queue.add(job_of(who)) for who in (one, one, other, one))
    assert work.begun.acquire(timeout=PATIENCE)
    assert not queue.movable(running)
    assert not queue.movable(mine)  # what is at work stays there
    assert not queue.movable(theirs)
    assert queue.movable(later)
    queue.move_up(later)
    work.let(3)
    assert [running, later, theirs] == work.done


def test_what_waits_is_cancelled_at_once_and_what_is_at_work_is_asked_to_stop(visitors, work):
    queue, one = RunQueue(work), visitors.new()
    running, waiting = (queue.add(job_of(one)) for _ in range(2))
    assert work.begun.acquire(timeout=PATIENCE)
    queue.cancel(waiting)
    assert queue.find(one.id, waiting.run.folder.name, "learn") is None
    assert waiting.run.stop_requested
    queue.forget(one.id)
    assert running.stopped.is_set()
    assert running.run.stop_requested


def test_a_full_queue_is_said_with_the_place_that_one_would_have(visitors, work):
    queue = RunQueue(work, most=3, each=2)
    one = visitors.new()
    queue.add(job_of(one))
    assert work.begun.acquire(timeout=PATIENCE)
    queue.add(job_of(one))
    with pytest.raises(RunError, match="2 of your runs wait already"):
        queue.check(one)
    queue.add(job_of(visitors.new()))
    with pytest.raises(RunError, match="yours would be number 4"):
        queue.add(job_of(visitors.new()))


def test_a_job_that_fails_says_why_and_the_next_one_has_its_turn(visitors, work):
    queue, one = RunQueue(work), visitors.new()
    failed, after = queue.add(job_of(one, "finish")), queue.add(job_of(one))
    assert work.begun.acquire(timeout=PATIENCE)
    work.let(1)
    assert queue.error(failed.run) == "Nothing has been learned yet."
    assert queue.error(after.run) == ""
