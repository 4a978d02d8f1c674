"""How well a run knows how long it still takes, while it runs.

    python -m tests.benchmarks.time_left [--rounds N] [--json FILE]

A word and a subject with the defaults on the pocket. Each step tells what is left; compared with
what was left, from the first tenth of the steps until five seconds before the end, where a fifth is
less than is ever shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from personalization import bases
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.bases.recipes import Purpose
from personalization.data.concept import Concept
from personalization.data.photos import open_photos
from personalization.events import StepDone
from personalization.training import loop
from personalization.training.run import Run

SPEC = CATALOG["pocket"]
ASKED = 0.2
LAST = 5.0  # seconds


def measure(purpose: Purpose, folder: Path) -> dict[str, Any]:
    """One run: its seconds, and by which share of what was left each step was off."""
    photos, _ = open_photos(sorted((ASSETS / "examples" / "crowned-dog").glob("*.png")))
    concept = Concept("creature", "<it>" if purpose == "word" else "sks", "dog", tuple(photos))
    run = Run.create(folder / "run", concept, SPEC.recipes[purpose], SPEC.name)
    told: list[tuple[float, float]] = []
    started = ended = time.monotonic()
    for event in loop.train(bases.load(SPEC), run, cache=folder / "cache"):
        ended = time.monotonic()
        if isinstance(event, StepDone) and event.step > event.steps / 10:
            told.append((ended, event.seconds_left))
    off = [left / (ended - at) - 1 for at, left in told if ended - at >= LAST]
    return {
        "purpose": purpose,
        "seconds": ended - started,
        "median off": statistics.median(map(abs, off)),
        "least": min(off),
        "most": max(off),
        "within": statistics.fmean(abs(each) <= ASKED for each in off),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    found = []
    purposes: tuple[Purpose, ...] = ("word", "subject")
    for _ in range(arguments.rounds):
        for purpose in purposes:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(purpose, Path(folder))
            found.append(row)
            print(
                f"{purpose:8} {row['seconds']:4.0f} s: off by {row['median off']:.0%} in the "
                f"middle, {row['least']:+.0%} to {row['most']:+.0%}; "
                f"{row['within']:.0%} of the steps within {ASKED:.0%}",
                flush=True,
            )
    if arguments.json:
        result = {"cores": os.cpu_count(), "asked": ASKED, "found": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
