"""What a step of training keeps of its speed beside another process that computes.

    python -m tests.benchmarks.busy [--rounds N] [--steps N] [--json FILE]

A subject on the pocket with the defaults, some steps of it in a process of their own: alone, then
beside one process that multiplies matrices on one thread. Each way of waiting for a thread that has
lost its core is measured so in turn; `as shipped` is what `python app.py` sets by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.start import processor

ASKED = 0.45
COLD = 5  # first steps that do not count
WAYS: dict[str, dict[str, str]] = {
    "as shipped": {},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHER = """
import torch
torch.set_num_threads(1)
matrix = torch.randn(512, 512)
while True:
    matrix @ matrix
"""


def train(steps: int, cache: Path) -> list[float]:
    """Seconds of each step but the first ones."""
    from personalization import bases
    from personalization.bases.catalog import ASSETS, CATALOG
    from personalization.data.concept import Concept
    from personalization.data.photos import open_photos
    from personalization.events import StepDone
    from personalization.training import loop
    from personalization.training.run import Run

    spec = CATALOG["pocket"]
    photos, _ = open_photos(sorted((ASSETS / "examples" / "crowned-dog").glob("*.png")))
    concept = Concept("creature", "sks", "dog", tuple(photos))
    recipe = replace(spec.recipes["subject"], steps=steps, preview_every=0)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", concept, recipe, spec.name)
        events = loop.train(bases.load(spec), run, cache=cache)
        return [event.seconds for event in events if isinstance(event, StepDone)][COLD:]


@contextmanager
def computing(busy: bool) -> Iterator[None]:
    """Another process that computes, for as long as this lasts."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", OTHER])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def measured(way: str, steps: int, cache: Path, busy: bool) -> float:
    """The median of the steps' seconds."""
    command = [sys.executable, "-m", "tests.benchmarks.busy", "--steps", str(steps)]
    kept = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    with computing(busy):
        told = subprocess.run(
            [*command, "--train", str(cache)],
            env=kept | WAYS[way],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    return statistics.median(json.loads(told))


def compare(rounds: int, steps: int) -> dict[str, Any]:
    """For each way the median seconds of a step, alone and beside another, and what it keeps."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        measured("as shipped", COLD + 1, Path(folder), busy=False)  # which draws the class
        for _ in range(rounds):
            for way, found in rows.items():
                alone, beside = (
                    measured(way, steps, Path(folder), busy=busy) for busy in (False, True)
                )
                found.append({"alone": alone, "beside": beside, "keeps": alone / beside})
                print(
                    f"{way:14} {alone:.3f} s alone, {beside:.3f} s beside, {alone / beside:.0%}",
                    flush=True,
                )
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "asked": ASKED,
        "ways": {
            way: {key: statistics.median(row[key] for row in found) for key in found[0]}
            | {"rounds": found}
            for way, found in rows.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        print(json.dumps(train(arguments.steps, arguments.train)))
        return
    result = compare(arguments.rounds, arguments.steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
