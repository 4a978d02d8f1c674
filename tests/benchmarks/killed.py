"""Runs killed at random moments, over and over, beside the same runs left alone.

    python -m tests.benchmarks.killed [--kills N] [--json FILE]

A process trains on the pocket and is ended with SIGKILL after a random time, wherever it is: while
class images are drawn, in a step, while a checkpoint, a preview or the adapter is written. The next
one continues, until the run is finished; then another begins, until N kills have come. Counted: the
kills by what the run had told last, the steps that were done again, and whether the adapter, and
the log of losses, are those of the run that was left alone, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from personalization import bases
from personalization.adapters.adapter import read_tensors
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.data.concept import Concept
from personalization.data.photos import open_photos
from personalization.events import SliceEnded, StepDone
from personalization.files import PART
from personalization.recipe import Full, Prior, Recipe
from personalization.training import loop
from personalization.training.run import Run

EVERY = 4  # steps between two checkpoints
SHORT: dict[str, Any] = {
    "steps": 20,
    "checkpoint_every": EVERY,
    "preview_every": 10,
    "batch_size": 1,
    "warmup": 0,
}
SPEC = CATALOG["pocket"]
RECIPES: dict[str, Recipe] = {
    "word": replace(SPEC.recipes["word"], **SHORT),
    "LoRA, class images": replace(
        SPEC.recipes["subject"], **SHORT, prior=Prior("images", images=8)
    ),
    "full fine-tune": replace(
        SPEC.recipes["full"], **SHORT, method=Full(learning_rate=5e-5), prior=None
    ),
}


def new_run(folder: Path, recipe: Recipe) -> Run:
    photos, _ = open_photos(sorted((ASSETS / "examples" / "crowned-dog").glob("[0-9]*.png")))
    placeholder_token = "<king>" if recipe.method_name == "textual_inversion" else "sks"
    return Run.create(
        folder, Concept("creature", placeholder_token, "dog", tuple(photos)), recipe, SPEC.name
    )


def train(folder: Path, told: Connection | None = None) -> None:
    """One slice without an end; `told` hears of every event as it comes."""
    run = Run.open(folder)
    for event in loop.train(bases.load(SPEC), run, cache=folder / "cache"):
        if told:
            step = event.step if isinstance(event, StepDone) else None
            told.send((type(event).__name__, step))
        assert not isinstance(event, SliceEnded)


def killed_after(folder: Path, seconds: float) -> tuple[bool, str, int]:
    """Train in a process of its own, and kill it then: whether that came before its end, the last
    that it had told, and the furthest step."""
    hears, tells = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=train, args=(folder, tells))
    process.start()
    tells.close()
    process.join(seconds)
    if alive := process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    last, furthest = "nothing yet", 0
    try:
        while hears.poll():
            last, step = hears.recv()
            furthest = step or furthest
    except EOFError:
        pass
    if not alive and process.exitcode:
        raise SystemExit(f"a run failed by itself: {process.exitcode}")
    return alive, last, furthest


def same(run: Run, whole: Run) -> bool:
    """The same adapter and the same losses, bit for bit."""
    a, b = read_tensors(run.adapter_path), read_tensors(whole.adapter_path)
    logs = [[(row.step, row.loss, row.prior_loss) for row in r.losses()] for r in (run, whole)]
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) and logs[0] == logs[1]


def measure(
    name: str, recipe: Recipe, kills: int, folder: Path, rng: random.Random
) -> dict[str, Any]:
    """Kill runs of one recipe so many times, and finish the last."""
    whole = new_run(folder / "whole", recipe)
    started = time.monotonic()
    train(whole.folder)
    took = time.monotonic() - started
    found: dict[str, Any] = {"runs": 0, "kills": 0, "same": 0, "left over": 0}
    found |= {"again": [], "told": Counter()}
    while found["kills"] < kills:
        run = new_run(folder / f"run-{found['runs']}", recipe)
        while run.state.status != "finished":
            limit = rng.uniform(0, 0.6 * took) if found["kills"] < kills else 60 * took
            was_killed, last, furthest = killed_after(run.folder, limit)
            if was_killed:
                found["kills"] += 1
                found["told"][last] += 1
                found["again"].append(max(0, furthest - run.state.step))
        found["runs"] += 1
        found["same"] += same(run, whole)
        found["left over"] += len(list(run.folder.rglob(f"*{PART}")))
    print(
        f"{name}: {found['kills']} kills in {found['runs']} runs, {found['same']} of these the "
        f"same as unkilled; steps done again at most {max(found['again'])} of {EVERY}; "
        f"files left over {found['left over']}; after {dict(found['told'].most_common())}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="of each recipe (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    # Workers are forked with the base in memory, which teams of threads would not outlive.
    torch.set_num_threads(1)
    bases.load(SPEC)
    rng = random.Random(arguments.seed)
    counts = {}
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            counts[name] = measure(name, recipe, arguments.kills, Path(folder), rng)
    if arguments.json:
        arguments.json.write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
