"""Two processes on one home: one learns, the other says so; and both run to the same end."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from personalization import bases
from personalization.bases.catalog import CATALOG
from personalization.errors import PersonalizationError
from personalization.events import Finished, StepDone
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.training import loop
from personalization.training.run import Run
from tests.support import tiny

STEPS = 6


def learn(folder: Path, tells: Connection, waits: Connection) -> None:
    """Tell each step, and go on once that was heard; or tell the sentence that refuses."""
    try:
        for event in loop.train(bases.load(CATALOG["pocket"]), Run.open(folder), cache=folder):
            if isinstance(event, StepDone | Finished):
                tells.send(type(event).__name__)
                waits.recv()
    except PersonalizationError as error:
        tells.send(str(error))


class Process:
    """A process that learns a run step by step."""

    def __init__(self, folder: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.hears, tells = spawn.Pipe(duplex=False)
        waits, self.tells = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=learn, args=(folder, tells, waits))
        self.process.start()

    def heard(self) -> str:
        assert self.hears.poll(120), "it says nothing"
        return self.hears.recv()

    def goes_on(self) -> str:
        self.tells.send("")
        return self.heard()


@pytest.mark.slow
def test_one_process_learns_and_the_other_says_so(tmp_path: Path):
    recipe = Recipe(LearnedEmbedding(), STEPS)
    run = Run.create(tmp_path / "run", tiny.concept("<zzq>", "dog"), recipe, "pocket")
    first = Process(run.folder)
    assert first.heard() == "StepDone"
    second = Process(run.folder)
    assert "Somebody works on this run already" in second.heard()
    second.process.join(60)
    while (said := first.goes_on()) == "StepDone":
        pass
    assert said == "Finished"
    first.tells.send("")
    first.process.join(60)
    assert [row.step for row in run.losses()] == list(range(1, STEPS + 1))
    assert run.state.status == "finished"
