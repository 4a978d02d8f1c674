"""As many threads as there are cores that nobody else uses."""

from __future__ import annotations

import pytest
import torch

from personalization.training.cores import WINDOW, Cores, Use, shared_cores


class Machine:
    """Cores of which other processes use some, as the system would count them."""

    def __init__(self, cores: int):
        self.cores, self.others = cores, 0.0
        self.now = Use(0.0, 0.0, 0.0)

    def run(self, seconds: float, threads: int) -> None:
        own = min(threads, self.cores - self.others)
        idle = self.cores - self.others - own
        passed, was_idle, was_own = self.now
        self.now = Use(passed + seconds, was_idle + idle * seconds, was_own + own * seconds)

    def use(self) -> Use:
        return self.now


@pytest.fixture(autouse=True)
def threads_kept():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "others", "threads"),
    [(2, 0.0, 2), (2, 0.3, 2), (2, 1.0, 1), (2, 2.0, 1), (8, 1.0, 7), (8, 5.0, 3), (4, 9.0, 1)],
)
def test_threads_are_the_cores_that_others_leave(cores: int, others: float, threads: int):
    machine = Machine(cores)
    machine.others = min(others, cores)
    fitting = Cores(cores, machine.use)
    machine.run(1.0, cores)
    assert fitting.fit() == torch.get_num_threads() == threads


def test_what_others_give_back_is_used_again():
    machine = Machine(2)
    fitting = Cores(2, machine.use)
    machine.others = 1.0
    machine.run(1.0, 2)
    assert fitting.fit() == 1
    machine.others = 0.0
    machine.run(1.0, 1)
    assert fitting.fit() == 2


def test_a_host_of_many_cores_lends_no_more_than_there_were():
    machine = Machine(64)
    machine.others = 40.0
    fitting = Cores(2, machine.use)
    machine.run(1.0, 2)
    assert fitting.fit() == 2


def test_between_two_looks_nothing_changes():
    machine = Machine(2)
    fitting = Cores(2, machine.use)
    machine.others = 1.0
    machine.run(WINDOW / 2, 2)
    assert fitting.fit() == 2


def test_the_number_of_threads_is_put_back():
    torch.set_num_threads(2)
    with shared_cores(torch.device("cpu")) as cores:
        cores.threads = 1
        torch.set_num_threads(1)
    assert torch.get_num_threads() == 2
