"""Nobody's things expire by a clock that jumps, and what is old does all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from personalization.workspaces.clock import DAY, Clock
from personalization.workspaces.workspace import LIFETIME, Workspaces

START = 1_800_000_000.0
HOUR = 3600.0


class Machine:
    """A machine's two clocks, and a process on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.wall, self.steady = root, START, 5.0
        self.clock = self.restarted()

    def restarted(self) -> Clock:
        self.clock = Clock(self.root, lambda: self.wall, lambda: self.steady)
        return self.clock

    def passes(self, hours: float, step: float = 1.0) -> float:
        for _ in range(round(hours / step)):
            self.wall, self.steady = self.wall + step * HOUR, self.steady + step * HOUR
            now = self.clock.now()
        return now


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_even_clock_is_told_as_it_is(machine: Machine):
    assert machine.passes(200) == machine.wall


@pytest.mark.parametrize("jump", [8 * DAY, 400 * DAY])
def test_a_jump_ahead_is_not_believed_and_once_it_is_set_right_nothing_has_been(machine, jump):
    machine.passes(5)
    machine.wall += jump
    assert machine.passes(20) == machine.wall - jump
    machine.wall -= jump
    assert machine.passes(100) == machine.wall


def test_a_restart_with_a_wrong_clock_goes_on_from_the_time_that_was_seen_last(machine):
    machine.passes(5)
    machine.wall += 30 * DAY
    machine.restarted()
    assert machine.passes(20) == machine.wall - 30 * DAY
    machine.restarted()
    assert machine.passes(20) == machine.wall - 30 * DAY


def test_after_a_long_pause_the_clock_is_believed_within_a_day(machine):
    machine.passes(5)
    machine.wall += 30 * DAY
    machine.restarted()
    assert machine.passes(25) == machine.wall


def test_a_clock_that_was_behind_is_believed_at_once(machine):
    machine.wall -= 10 * DAY
    assert machine.passes(1) == machine.wall


def test_a_wrong_clock_at_a_start_expires_nobody_and_an_old_one_goes(tmp_path: Path):
    store = Workspaces(tmp_path)
    used, unused = store.new(), store.new()
    machine = Machine(store.root)  # which begins with what the visitors' marks say
    for workspace, age in ((used, 0), (unused, LIFETIME - HOUR)):
        os.utime(workspace.folder / "used", (START - age, START - age))
    machine.restarted()
    machine.wall += 30 * DAY
    machine.restarted()
    assert store.expire(machine.clock.now()) == 0
    assert store.expire(machine.passes(2)) == 1
    assert used.folder.is_dir()
    assert not unused.folder.exists()
