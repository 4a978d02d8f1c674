"""What stacking costs: drawing, changing a weight, a sweep, the library.

    python -m tests.benchmarks.stacking [--json FILE] [--rounds N]

On the pocket, with LoRAs of rank 8 on every attention layer of the UNet and the text encoder, of
random weights: what they cost does not depend on what they learned. Each thing is measured in turn
with what it is compared to; the ratio is that of the medians, its spread over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from personalization import bases
from personalization.adapters.adapter import Adapter, Description
from personalization.bases.base import Base
from personalization.bases.catalog import CATALOG
from personalization.sampling import generate
from personalization.sampling.settings import Settings
from personalization.sampling.sweep import STRENGTHS, Axis, Sweep, sweep
from personalization.stacking.application import applied
from personalization.stacking.stack import COMBINATIONS, IN_TIME, Slot, Stack
from personalization.workspaces.library import Library

SPEC = CATALOG["pocket"]
COUNTS = (1, 2, 4, 8)
PROMPT = "a photo of a dog on the beach"
SWEPT = 4  # rows of the sweep's grid beside its five strengths
RANK = 8


def lora(base: Base, seed: int) -> Adapter:
    """A LoRA of random factors on the layers that the default recipe trains."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    parts = [("unet", base.denoiser, SPEC.targets)]
    parts += [(e.name, e.model, SPEC.text_targets) for e in base.text_encoders]
    for component, model, endings in parts:
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name.endswith(tuple(endings)):
                shapes = {"A": (RANK, module.in_features), "B": (module.out_features, RANK)}
                for letter, shape in shapes.items():
                    key = f"{component}.{name}.lora_{letter}.weight"
                    tensors[key] = 0.02 * torch.randn(shape, generator=generator)
    about = Description(
        method="lora", family=SPEC.family, rank=RANK, alpha=RANK, title=f"random {seed}"
    )
    return Adapter(about, tensors)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """The seconds of each, round by round, the order turned from one round to the next."""
    for work in works:
        work()  # the first time pays for caches
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        for i in order:
            taken[i].append(seconds(works[i]))
    return taken


def ratio(some: list[float], others: list[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(some, others, strict=True)]
    return {
        "ratio": statistics.median(some) / statistics.median(others),
        "least": min(each),
        "most": max(each),
        "seconds": statistics.median(some),
    }


def drawing(
    base: Base, adapters: Sequence[Adapter], rounds: int, ways: Sequence[str]
) -> dict[str, dict[str, float]]:
    """A picture with k adapters, the entering included, beside the base's own."""

    def draw(stack: Stack) -> Callable[[], object]:
        def work() -> None:
            with applied(base, stack):
                generate.draw(base, Settings(PROMPT))

        return work

    cases = {"base": Stack(())}
    for combine in ways:
        for k in COUNTS if combine == "sum" else COUNTS[1::2]:
            slots = tuple(Slot(adapter, 0.8) for adapter in adapters[:k])
            cases[f"{combine}, k = {k}"] = Stack(slots, combine=combine)
    taken = dict(
        zip(cases, in_turn([draw(stack) for stack in cases.values()], rounds), strict=True)
    )
    return {name: ratio(taken[name], taken["base"]) for name in cases if name != "base"}


def changing(base: Base, adapters: Sequence[Adapter], rounds: int) -> dict[str, dict[str, float]]:
    """Entering and leaving alone, a weight changed each time."""
    found = {}
    for combine in COMBINATIONS:
        stack = Stack(tuple(Slot(adapter, 0.8) for adapter in adapters), combine=combine)
        with applied(base, stack):
            pass
        taken = []
        for number in range(rounds):
            weight = 0.5 + 0.01 * number
            slots = (replace(stack.slots[0], weight=weight), *stack.slots[1:])
            changed = replace(stack, slots=slots)
            started = time.perf_counter()
            with applied(base, changed):
                pass
            taken.append(time.perf_counter() - started)
        found[f"{combine}, k = {len(adapters)}"] = {
            "seconds": statistics.median(taken),
            "least": min(taken),
            "most": max(taken),
        }
    return found


def sweeping(base: Base, adapters: Sequence[Adapter], rounds: int) -> dict[str, float]:
    """Twenty pictures, each with a strength of its own, beside twenty plain ones."""
    stack = Stack((Slot(adapters[0]), Slot(adapters[1])))
    strengths = Axis("weight", STRENGTHS, slot=0)
    others = Axis("weight", STRENGTHS[:SWEPT], slot=1)
    count = len(STRENGTHS) * SWEPT
    prompts, seeds = [PROMPT] * count, [0] * count
    plan = Sweep(stack, Settings(PROMPT), strengths, others)
    swept, plain = in_turn(
        [
            lambda: sweep(base, plan),
            lambda: generate.draw_each(base, prompts, seeds),
        ],
        rounds,
    )
    return ratio(swept, plain)


def listing(adapter: Adapter, count: int, rounds: int) -> dict[str, float]:
    """A library of so many files, listed anew."""
    with tempfile.TemporaryDirectory() as folder:
        first = adapter.save(Path(folder) / "own" / "0.safetensors")
        for number in range(1, count):
            (first.parent / f"{number}.safetensors").write_bytes(first.read_bytes())
        library = Library(first.parent, Path(folder) / "ready")
        taken = [seconds(library.list) for _ in range(rounds)]
        assert len(library.list()) == count
    return {"seconds": statistics.median(taken), "least": min(taken), "most": max(taken)}


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for part, rows in found.items():
        lines.append(part)
        for name, row in rows.items():
            if "ratio" in row:
                said = f"{row['ratio']:.3f} times ({row['least']:.3f} to {row['most']:.3f})"
                lines.append(f"    {name:22}{said}, {row['seconds']:.2f} s")
            else:
                said = f"{row['seconds']:.3f} s ({row['least']:.3f} to {row['most']:.3f})"
                lines.append(f"    {name:22}{said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=COMBINATIONS, default=list(COMBINATIONS))
    parser.add_argument("--only-drawing", action="store_true", help="leave the rest out")
    arguments = parser.parse_args()
    base = bases.load(SPEC)
    adapters = [lora(base, seed) for seed in range(max(COUNTS))]
    rounds = arguments.rounds
    drawn = drawing(base, adapters, rounds, arguments.ways)
    found = {"drawing (at most 1.05 times the base)": drawn}
    if not arguments.only_drawing:
        found |= {
            "listing (at most 0.2 s)": {"500 adapters": listing(adapters[0], 500, rounds)},
            "a weight changed (at most 0.1 s)": changing(base, adapters, rounds),
            "sweep of 20 (at most 1.3 times)": {"two weights": sweeping(base, adapters, rounds)},
        }
    print(table(found))
    if arguments.json:
        result = {"cores": os.cpu_count(), "in time": list(IN_TIME), "found": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
