"""The table of recipes in docs/RECIPES.md: what each takes on three cards, by the estimate.

    python -m tests.benchmarks.recipes [--bases sd15 sdxl ...]

Nothing is trained. A run is its steps; loading the base, and the four pictures that are drawn with
what was learned, are apart. A slice of ZeroGPU is 50 seconds of work in an allocation of 60.
"""

from __future__ import annotations

import argparse
import math

from personalization.bases import memory
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.recipe import LowRank, Recipe
from personalization.training.estimate import START, estimate
from personalization.training.presets import Exactness, Intent, recommend

CARDS = {"ZeroGPU": "RTX PRO 6000", "H100": "H100", "RTX 3060": "RTX 3060"}
SLICE = 50  # seconds of work in one of ZeroGPU's allocations
ROOM = 12 * memory.GIB  # of an RTX 3060
EXACT: dict[Exactness, str] = {"rough": "roughly", "close": "close", "exact": "exactly"}


def seconds(spec: BaseSpec, recipe: Recipe, card: str) -> float:
    """Of a run on a card that is known by its peak."""
    step = estimate(spec, recipe).seconds(card) or math.nan
    return START + recipe.steps * step


def row(spec: BaseSpec, name: str, recipe: Recipe) -> str:
    """A line of the table."""
    method = recipe.method
    what = f"rank {method.rank}" if isinstance(method, LowRank) else ""
    if recipe.learned_embedding:
        what = f"{recipe.learned_embedding.vectors} vectors"
    cost = estimate(spec, recipe)
    times = [f"{seconds(spec, recipe, card):.0f} s" for card in CARDS.values()]
    slices = math.ceil(seconds(spec, recipe, CARDS["ZeroGPU"]) / SLICE)
    if cost.memory > ROOM:
        times[-1] = "no room"
    cells = (
        f"{spec.title}, {name}",
        f"{recipe.steps} × {recipe.batch_size}",
        f"{method.learning_rate:g}",
        what,
        *times,
        str(slices),
        f"{cost.memory / memory.GIB:.1f} GiB",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", default=[n for n in CATALOG if n != "pocket"])
    for name in parser.parse_args().bases:
        spec = CATALOG[name]
        for purpose in ("word", "subject"):
            for exact, words in EXACT.items():
                intent = Intent(exact=exact)
                recipe = recommend(spec, purpose, intent, full=False).recipe
                print(row(spec, f"{purpose}, {words}", recipe), flush=True)
            print(row(spec, f"{purpose}, as the script", spec.scripts[purpose]), flush=True)


if __name__ == "__main__":
    main()
