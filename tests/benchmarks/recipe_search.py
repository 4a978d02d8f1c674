"""A search for the pocket's recipe of a subject: trials on held-out subjects, judged as `fidelity`.

    python -m tests.benchmarks.recipe_search --work DIR [--trials NAME ...] [--subjects NAME ...]

A trial changes the recipe that the page gives; "as it is" is a case of `fidelity` itself, and is
not run again where --work is that benchmark's. Each case is a file there, so a search that was
broken off goes on. What is compared is the share that perfect drawings reach of the subject times
that of the prompt, neither counted for more than all.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from personalization.files import write_atomically
from personalization.pocket.world import SUBJECTS
from personalization.recipe import LowRank, Recipe
from tests.benchmarks.fidelity import Case, cases, measure

GROUP = "LoRA, prior images"
SHOWN = {
    "subject": "subject_fidelity of the perfect",
    "prompt": "prompt_fidelity of the perfect",
    "product": "product",
    "drift": "drift",
    "strength": "strength",
}

Change = Callable[[Recipe], Recipe]


def steps(count: int, times: float = 1.0) -> Change:
    """So many steps, at so many times the rate."""

    def change(recipe: Recipe) -> Recipe:
        method = recipe.method
        assert isinstance(method, LowRank)
        rates = (times * method.learning_rate, times * method.text_learning_rate)
        method = replace(method, learning_rate=rates[0], text_learning_rate=rates[1])
        return recipe.changed(steps=count, method=method)

    return change


TRIALS: dict[str, Change] = {
    "as it is": lambda recipe: recipe,
    "150 steps": steps(150),
    "150 steps, 1.3 times the rate": steps(150, 1.3),
}


def tried(names: list[str], subjects: list[str]) -> Iterator[tuple[str, Case]]:
    """Subject by subject, each trial."""
    known = {case.name: case for case in cases() if case.group == GROUP}
    for subject in subjects:
        for name in names:
            group = GROUP if name == "as it is" else f"{GROUP}, {name}"
            case = known[subject]
            # Judged as the case that it changes: with its ceiling.
            yield group, replace(case, recipe=TRIALS[name](case.recipe))


def product(found: dict[str, Any]) -> float:
    """How much of what perfect drawings reach: of the subject, in the scene that was asked for."""
    return min(1.0, float(found[SHOWN["subject"]])) * min(1.0, float(found[SHOWN["prompt"]]))


def table(found: list[dict[str, Any]]) -> str:
    """A line a trial: means over its subjects."""
    lines = [f"{'trial':50}{'n':>3}" + "".join(f"{name:>10}" for name in SHOWN)]
    for group in dict.fromkeys(each["group"] for each in found):
        some = [each | {"product": product(each)} for each in found if each["group"] == group]
        means = [statistics.fmean(each[key] for each in some) for key in SHOWN.values()]
        lines.append(f"{group:50}{len(some):3}" + "".join(f"{mean:10.3f}" for mean in means))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep the cases here")
    parser.add_argument("--trials", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = []
    for group, case in tried(arguments.trials, arguments.subjects):
        path = arguments.work / f"{group}-{case.name}.json".replace(" ", "-")
        if not path.exists():
            figures = measure(case, arguments.work / "cache") | {"group": group}
            write_atomically(path, json.dumps(figures, indent=1))
        found.append(json.loads(path.read_text()))
        print(table(found[-1:]).splitlines()[-1], case.name, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
