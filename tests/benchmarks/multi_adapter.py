"""What keeps an adapter like its subject where others are on the rack too.

    python -m tests.benchmarks.multi_adapter [--json FILE] [--work DIR] [--workers N]

Held-out subjects, each taught by each recipe, and reported on at full weight three times: alone,
beside one and beside two others that the same recipe taught. The photos and seeds are fidelity's,
the prompts are the report's; subject fidelity is a share of the real photos' own, prompt fidelity
of the untouched base's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from personalization import bases
from personalization.adapters.adapter import Adapter
from personalization.data.photos import Photo
from personalization.evaluation.plan import PLANS
from personalization.files import write_atomically
from personalization.recipe import LowRank, Recipe
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import presets
from personalization.training.presets import Intent

from .fidelity import SPEC, STEPS, Case, cases, in_processes, judged, photos_of, spread, train

TAUGHT = ("pocket", "checkers", "valentine")
TOKENS = ("sks", "ohwx", "zwx")
FIGURES = ("subject_fidelity_share", "prompt_fidelity_share", "drift", "unrelated")


def recipes() -> dict[str, Recipe]:
    """The default, and what might meet others better: a thinner one, or with no text encoder."""
    here = presets.recipe_of(SPEC, "lora", Intent())
    lora = here.method
    assert isinstance(lora, LowRank)

    def thin(by: int) -> LowRank:
        return replace(lora, rank=lora.rank // by, alpha=lora.alpha / by)

    frozen_encoders = replace(lora, text_encoder=False)
    longer = round(1.5 * here.steps)
    return {
        "as it is": here,
        "half the rank": here.changed(method=thin(2)),
        "a quarter of the rank": here.changed(method=thin(4)),
        "no text encoder": here.changed(method=frozen_encoders),
        "no text encoder, half as long again": here.changed(method=frozen_encoders, steps=longer),
        "no text encoder, half the rank": here.changed(method=replace(thin(2), text_encoder=False)),
    }


def trained(
    recipe: Recipe, class_images: Path
) -> Iterator[tuple[Case, tuple[Photo, ...], Adapter, float]]:
    """Each subject with its photos, its adapter and the seconds of its run."""
    every = {case.name: case for case in cases() if case.group == "LoRA, prior images"}
    for name, placeholder_token in zip(TAUGHT, TOKENS, strict=True):
        case = replace(every[name], placeholder_token=placeholder_token, recipe=recipe)
        photos = photos_of(case)
        adapter, _, took = train(case, photos, class_images)
        yield case, photos, adapter, took["seconds"]


@cache
def bare(prompts: tuple[str, ...], seeds: tuple[int, ...]) -> list[Image.Image]:
    """What the base draws on its own, whatever stands beside."""
    return draw_each(bases.load(SPEC), prompts, seeds, Settings(steps=STEPS))


def beside(
    adapter: Adapter, photos: tuple[Photo, ...], others: Sequence[Adapter]
) -> dict[str, Any]:
    """The report's figures at full weight with the others on the rack, beside the bare base."""
    base = bases.load(SPEC)

    def draw(
        strength: float | None, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        if not strength:
            return bare(tuple(prompts), tuple(seeds))
        slots = (Slot(adapter, strength), *map(Slot, others))
        with applied(base, Stack(slots)):
            return draw_each(base, prompts, seeds, Settings(steps=STEPS))

    found = judged(adapter, photos, draw, PLANS[0])
    return {key: found[key] for key in FIGURES}


def measure(recipe: Recipe, class_images: Path) -> list[dict[str, Any]]:
    """Every subject by that recipe, alone and beside others."""
    found = list(trained(recipe, class_images))
    rows = []
    for i, (case, photos, adapter, seconds) in enumerate(found):
        others = [other for _, _, other, _ in found[i + 1 :] + found[:i]]
        for count in range(len(found)):
            about = {"subject": case.name, "others": count, "seconds": seconds}
            rows.append(about | beside(adapter, photos, others[:count]))
    return rows


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Subject fidelity, prompt fidelity and a run's seconds, by recipe and number of others."""
    rows = []
    for recipe, every in found.items():
        rows.append(f"{recipe}: {spread([row['seconds'] for row in every])} s")
        for others in range(len(TAUGHT)):
            some = [row for row in every if row["others"] == others]
            subject = spread([row["subject_fidelity_share"] for row in some])
            prompt = spread([row["prompt_fidelity_share"] for row in some])
            rows.append(
                f"    beside {others}: subject fidelity {subject:24} prompt fidelity {prompt}"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", type=Path, help="keep each recipe's figures here")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--recipes", nargs="+", help=argparse.SUPPRESS)  # of a worker
    arguments = parser.parse_args()
    every = recipes()
    if arguments.recipes:
        torch.set_num_threads(1)
        for name in arguments.recipes:
            path = arguments.work / f"{name}.json"
            if not path.exists():
                rows = measure(every[name], arguments.work / "cache")
                write_atomically(path, json.dumps(rows, indent=1))
                print(table({name: rows}), flush=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if in_processes("multi_adapter", folder, "--recipes", list(every), arguments.workers):
            raise SystemExit("some recipes failed, see above")
        found = {name: json.loads((folder / f"{name}.json").read_text()) for name in every}
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
