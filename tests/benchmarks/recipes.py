"""The table of recipes in docs/RECIPES.md: what each takes on three cards, by the estimate.

    python -m tests.benchmarks.recipes [--bases sd15 sdxl ...] [--write]

Every base, method and intent. Nothing is trained. A run is its steps, and the class images where a
full fine-tune has them; loading the base, and the four pictures that are drawn with what was
learned, are apart. A slice of ZeroGPU is 50 seconds of work in an allocation of 60, and ZeroGPU
counts 1.5 times the seconds. With --write the rows of these bases in docs/RECIPES.md are made anew.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import torch

from personalization.bases import memory
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.work import forward
from personalization.files import write_atomically
from personalization.page.lending import DAY, FACTOR
from personalization.recipe import LowRank, Recipe
from personalization.sampling import pace
from personalization.training.estimate import START, estimate
from personalization.training.presets import Exactness, Intent, MethodName, recipe_of, recommend
from tests.support.server import ROOT

CARDS = {"ZeroGPU": "RTX PRO 6000", "H100": "H100", "RTX 3060": "RTX 3060"}
SLICE = 50  # seconds of work in one of ZeroGPU's allocations
ROOM = 12 * memory.GIB  # of an RTX 3060
DOCUMENT = ROOT / "docs" / "RECIPES.md"
HEAD = "| base, what, how exact |"
OTHERS: tuple[MethodName, ...] = ("dora", "loha", "lokr", "full")
WHOSE = {"": "anyone", "free": "account", "Pro": "PRO"}  # whose day holds it
EXACT: dict[Exactness, str] = {"rough": "roughly", "close": "close", "exact": "exactly"}


def seconds(spec: BaseSpec, recipe: Recipe, card: str) -> float:
    """Of a run on a card that is known by its peak."""
    step = estimate(spec, recipe).seconds(card) or math.nan
    kept = recipe.prior.images if recipe.prior and recipe.prior.kind == "images" else 0
    work = forward(spec.architecture, recipe.size(spec.size)) if kept else None
    each = (pace.seconds(card, work, 0.0, torch.bfloat16) or math.nan) if work else 0.0
    passes = spec.sampling.steps * (2 if spec.sampling.guidance > 1 else 1)
    return START + recipe.steps * step + kept * passes * each


def quota(seconds: float) -> str:
    """What ZeroGPU counts for it, and whose day holds that."""
    counted = FACTOR * seconds
    whose = next((WHOSE[name] for name, day in DAY.items() if counted <= day), "days")
    return f"{counted:.0f} s, {whose}"


def row(spec: BaseSpec, name: str, recipe: Recipe) -> str:
    """A line of the table."""
    method = recipe.method
    what = f"rank {method.rank}" if isinstance(method, LowRank) else ""
    if recipe.learned_embedding:
        what = f"{recipe.learned_embedding.vectors} vectors"
    cost = estimate(spec, recipe)
    times = [f"{seconds(spec, recipe, card):.0f} s" for card in CARDS.values()]
    lent = seconds(spec, recipe, CARDS["ZeroGPU"])
    if cost.memory > ROOM:
        times[-1] = "no room"
    cells = (
        f"{spec.title}, {name}",
        f"{recipe.steps} × {recipe.batch_size}",
        f"{method.learning_rate:g}",
        what,
        *times,
        str(math.ceil(lent / SLICE)),
        quota(lent),
        f"{cost.memory / memory.GIB:.1f} GiB",
    )
    return f"| {' | '.join(cells)} |"


def rows(spec: BaseSpec) -> Iterator[str]:
    """The lines of a base: by intent, as the script has it, and by the other methods."""
    for purpose in ("word", "subject"):
        for exact, words in EXACT.items():
            recipe = recommend(spec, purpose, Intent(exact=exact), full=False).recipe
            yield row(spec, f"{purpose}, {words}", recipe)
        yield row(spec, f"{purpose}, as the script", spec.scripts[purpose])
    for method in OTHERS:
        yield row(spec, f"subject by {method}, close", recipe_of(spec, method, Intent()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    taught = [name for name, spec in CATALOG.items() if name != "pocket" and not spec.taught_on]
    parser.add_argument("--bases", nargs="+", default=taught)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = []
    for name in arguments.bases:
        for line in rows(CATALOG[name]):
            print(line, flush=True)
            lines.append(line)
    if arguments.write:
        before, _, after = DOCUMENT.read_text().partition(HEAD)
        head, _, rest = after.partition("\n\n")
        titles, rule, *old = head.split("\n")
        anew = {_name(line): line for line in lines}
        kept = [anew.pop(_name(line), line) for line in old]
        table = "\n".join([titles, rule, *kept, *anew.values()])
        write_atomically(DOCUMENT, f"{before}{HEAD}{table}\n\n{rest}")


def _name(line: str) -> str:
    """What a line of the table is of."""
    return line.split(" | ")[0]


if __name__ == "__main__":
    main()
