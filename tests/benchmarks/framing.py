"""Is a photo better learned in its own shape, or as the square in its middle?

    python -m tests.benchmarks.framing [--subjects NAME ...] [--json FILE]

Drawings of a subject in the world, each on a canvas of five to three, at its left end or its right:
so that the square in the middle loses a third of the drawing, as it does of many a photo. Each way
of framing learns the same photos by the pocket's own recipe; the judge compares with the drawings
as they were. The base has learned squares alone, which speaks against shapes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from personalization import bases
from personalization.data.photos import Photo
from personalization.evaluation.evaluate import evaluate
from personalization.evaluation.plan import PLANS, Budget
from personalization.evaluation.trained_adapter import TrainedAdapter
from tests.benchmarks.fidelity import SPEC, Case, cases, figures, photos_of, train

WIDE = 5 / 3
FRAMINGS = ("crop", "shape")


def widened(photos: tuple[Photo, ...]) -> tuple[Photo, ...]:
    """Each with more of its edge on one side, turn about."""
    wide = []
    for index, photo in enumerate(photos):
        side = photo.image.width
        more = round(side * (WIDE - 1))
        room = (0, more) if index % 2 else (more, 0)
        pixels = np.pad(np.asarray(photo.image), ((0, 0), room, (0, 0)), mode="edge")
        wide.append(replace(photo, image=Image.fromarray(pixels)))
    return tuple(wide)


def measure(case: Case, framing: Any, cache: Path) -> dict[str, Any]:
    """The judge's figures of one run."""
    photos = photos_of(case)
    case = replace(case, recipe=case.recipe.changed(framing=framing))
    adapter, _, took = train(case, widened(photos), cache)
    trained = TrainedAdapter.of_adapter(adapter, photos)
    report = evaluate(bases.load(SPEC), trained, Budget(None, PLANS[:1]))
    said = figures(report)
    kept = ("subject_fidelity_share", "prompt_fidelity_share", "drift")
    return {"seconds": took["seconds"], **{name: said[name] for name in kept}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", default=["crowned-dog"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    chosen = [
        case
        for case in cases()
        if case.group == "LoRA, prior images" and case.name in arguments.subjects
    ]
    with tempfile.TemporaryDirectory() as cache:
        for case in chosen:
            for framing in FRAMINGS:
                found[f"{case.name}, {framing}"] = measure(case, framing, Path(cache))
                print(case.name, framing, found[f"{case.name}, {framing}"], flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
