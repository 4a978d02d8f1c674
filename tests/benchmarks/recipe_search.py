"""A search for the pocket's recipes: trials on held-out subjects, styles and words, by `fidelity`.

    python -m tests.benchmarks.recipe_search --work DIR [--trials NAME ...] [--subjects NAME ...]
        [--seeds N ...]

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
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch

from personalization.files import write_atomically
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world.subjects import STYLE_SUBJECTS
from personalization.recipe import LowRank, Recipe
from tests.benchmarks.fidelity import HELD_OUT_WORDS, Case, cases, measure

SHOWN = {
    "subject": "subject_fidelity of the perfect",
    "way": "way",
    "prompt": "prompt_fidelity of the perfect",
    "product": "product",
    "ceiling": "of the ceiling",
    "drift": "drift",
    "strength": "strength",
    "processor": "processor seconds",
}

Change = Callable[[Recipe], Recipe]


def steps(count: int, times: float = 1.0) -> Change:
    """So many steps, at so many times the rate."""

    def change(recipe: Recipe) -> Recipe:
        method = replace(recipe.method, learning_rate=times * recipe.method.learning_rate)
        if isinstance(method, LowRank):
            method = replace(method, text_learning_rate=times * method.text_learning_rate)
        return recipe.changed(steps=count, method=method)

    return change


AS_IT_IS = "as it is"
# By the group of `fidelity`'s cases that they are compared with.
TRIALS: dict[str, dict[str, Change]] = {
    "LoRA, prior images": {
        "210 steps, five sixths of the rate": steps(210, 1 / 1.2),  # as until 0.4.0
        "145 steps, five sixths of the rate": steps(145, 1 / 1.2),
    },
    "LoRA, style": {
        "290 steps": steps(290),
        "145 steps, 1.5 times the rate": steps(145, 1.5),
        "290 steps, 1.5 times the rate": steps(290, 1.5),
    },
    "word": {
        "75 steps": steps(75),
        "75 steps, 1.5 times the rate": steps(75, 1.5),
        "75 steps, 3 times the rate": steps(75, 3),
        "150 steps, 1.5 times the rate": steps(150, 1.5),
        "225 steps": steps(225),
    },
}


def tried(names: list[str], subjects: list[str], seeds: list[int]) -> Iterator[Case]:
    """Subject by subject, each trial of its group, by each seed."""
    known = {case.name: case for case in cases() if case.group in TRIALS}
    for case, name, seed in product(map(known.__getitem__, subjects), names, seeds):
        trials = {AS_IT_IS: lambda recipe: recipe} | TRIALS[case.group]
        if name in trials:
            recipe = trials[name](case.recipe).changed(seed=seed)
            of_seed = f", seed {seed}" if seed else ""
            group = f"{case.group}{'' if name == AS_IT_IS else f', {name}'}{of_seed}"
            yield replace(case, group=group, recipe=recipe)


def multiplied(found: dict[str, Any]) -> dict[str, float]:
    """How much of what perfect drawings reach: of the subject, in the scene that was asked for."""
    if SHOWN["subject"] not in found:
        return {}
    return {"product": min(1.0, found[SHOWN["subject"]]) * min(1.0, found[SHOWN["prompt"]])}


def table(found: list[dict[str, Any]]) -> str:
    """A line a trial: means over its subjects."""
    lines = [f"{'trial':50}{'n':>3}" + "".join(f"{name:>11}" for name in SHOWN)]
    for group in dict.fromkeys(each["group"] for each in found):
        some = [each | multiplied(each) for each in found if each["group"] == group]
        line = f"{group:50}{len(some):3}"
        for key in SHOWN.values():
            values = [each[key] for each in some if each.get(key) is not None]
            line += f"{statistics.fmean(values):11.3f}" if values else f"{'':11}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keep the cases here")
    trials = list(dict.fromkeys([AS_IT_IS, *chain.from_iterable(TRIALS.values())]))
    parser.add_argument("--trials", nargs="+", default=trials, choices=trials)
    subjects = [*SUBJECTS, *STYLE_SUBJECTS, *HELD_OUT_WORDS]
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=subjects)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = []
    for case in tried(arguments.trials, arguments.subjects, arguments.seeds):
        path = arguments.work / f"{case.key}.json"
        if not path.exists():
            figures = measure(case, arguments.work / "cache")
            write_atomically(path, json.dumps(figures, indent=1))
        found.append(json.loads(path.read_text()))
        print(*table(found[-1:]).splitlines()[1:], case.name, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
