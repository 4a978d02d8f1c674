"""Ways to combine a subject and a style on the pocket, K-LoRA among them.

    python -m tests.benchmarks.combinations --work DIR [--json FILE] [--pairs N] [--count N]

Held-out subjects and held-out styles by the default recipes. A picture is compared with the world's
own drawings of that subject in that style, by the report's encoder, as a share of what those have
among themselves; and named as one of the pairs of these subjects and styles. K-LoRA (Ouyang et al.
2025, arXiv 2502.18461) is here and not in the package unless it wins.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from personalization import bases
from personalization.adapters.adapter import Adapter, read
from personalization.bases.base import Base
from personalization.evaluation.encoders import encoder_pair
from personalization.evaluation.metrics import interval
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.stacking import merged_weights
from personalization.stacking.application import answering, applied, weights
from personalization.stacking.stack import COMBINATIONS, Slot, Stack

from .fidelity import SPEC, STEPS, cases, photos_of, train
from .regions import TOKENS, called
from .start import processor

STYLES = {"pixel art": "<pxa>", "blueprint": "<blu>", "stained glass": "<stg>", "halftone": "<hft>"}
PLACES = ("on the beach", "in the snow", "in the forest", "in the city")
ALPHA, BETA = 1.5, 0.5  # of K-LoRA's scale over time, as its authors have them
SEED, SHOWN = 2026, 8


def adapter_of(name: str, folder: Path) -> Adapter:
    """Taught here, unless the folder has it."""
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    if not path.exists():
        group = "LoRA, style" if name in STYLES else "LoRA, prior images"
        known = {case.name: case for case in cases() if case.group == group}
        case = replace(known[name], placeholder_token=(TOKENS | STYLES)[name])
        train(case, photos_of(case), folder / "cache")[0].save(path)
    return read(path)


def chosen_subject(subject: Tensor, style: Tensor, gamma: float, passed: float, k: int) -> bool:
    """K-LoRA's choice for a layer: whether the subject's change is taken, else the style's.

    subject, style: the two changes; gamma: the sum of all |subject| over that of all |style|;
    passed: the share of the steps that is over, 0 to 1; k: the product of both ranks.
    """
    strongest = [delta.abs().flatten().topk(min(k, delta.numel())).values.sum()
                 for delta in (subject, style)]  # fmt: skip
    scale = ALPHA * passed + BETA
    return bool(strongest[0] / gamma > strongest[1] * scale)


@contextmanager
def klora(base: Base, subject: Slot, style: Slot, ranks: tuple[int, int]) -> Iterator[None]:
    """The text encoders with the sum; the denoiser layer by layer and step by step with one."""
    stack = Stack((subject, style))
    alone = []
    for slot in stack.slots:
        layers = merged_weights.layers(base, Stack((slot,)))
        kept = [layer for layer in layers if not layer.is_text]
        alone.append(merged_weights.values(base, kept, Stack((slot,))))
    text = [layer for layer in merged_weights.layers(base, stack) if layer.is_text]
    deltas = [{p: (v - p).float() for p, v in values.items()} for values in alone]
    size = [sum(float(d.abs().sum()) for d in each.values()) for each in deltas]
    gamma, k, forward = size[0] / size[1], math.prod(ranks), base.denoiser.forward
    made: dict[float, dict[nn.Parameter, Tensor]] = {}

    def at(passed: float) -> dict[nn.Parameter, Tensor]:
        found = {}
        for p in {**alone[0], **alone[1]}:
            if p in alone[0] and p in alone[1]:
                first = chosen_subject(deltas[0][p], deltas[1][p], gamma, passed, k)
                found[p] = alone[0][p] if first else alone[1][p]
            else:
                found[p] = alone[0][p] if p in alone[0] else alone[1][p]
        return found

    def choosing(sample: Tensor, timestep: Any, *args: Any, **more: Any) -> Any:
        passed = 1 - float(torch.as_tensor(timestep).max()) / 1000
        if passed not in made:
            made[passed] = at(passed)
        with weights(made[passed]):
            return forward(sample, timestep, *args, **more)

    summed = weights(merged_weights.values(base, text, stack))
    with base.lock, summed, answering(base.denoiser, choosing):
        yield


class Judge:
    """The world's own drawings of each subject in each style, as means of unit vectors."""

    def __init__(self, subjects: list[str]) -> None:
        self.encoder = encoder_pair(SPEC).subject
        self.pairs = list(itertools.product(subjects, STYLES))
        seen = [self.encoder.images(self.real(pair, SEED)) for pair in self.pairs]
        self.means = normalize(torch.stack([each.mean(0) for each in seen]), dim=-1)

    def real(self, pair: tuple[str, str], seed: int) -> list[Image.Image]:
        scenes = SUBJECTS[pair[0]].scenes(SHOWN, seed)
        return [draw_scene(replace(scene, style=pair[1]), 128) for scene in scenes]

    def figures(self, pair: tuple[str, str], pictures: list[Image.Image]) -> dict[str, float]:
        """Likeness to the pair's drawings; how often subject, style and both are named right."""
        found = self.encoder.images(pictures) @ self.means.T
        said = [self.pairs[int(i)] for i in found.argmax(1)]
        own = self.encoder.images(self.real(pair, SEED + 1)) @ self.means.T
        at = self.pairs.index(pair)
        count = len(pictures)
        return {
            "likeness": float(found[:, at].mean() / own[:, at].mean()),
            "subject": sum(s == pair[0] for s, _ in said) / count,
            "style": sum(s == pair[1] for _, s in said) / count,
            "both": said.count(pair) / count,
        }


def drawn(way: str, subject: Slot, style: Slot, prompts: list[str]) -> list[Image.Image]:
    base, seeds = bases.load(SPEC), list(range(len(prompts)))
    ranks = subject.adapter.description.rank, style.adapter.description.rank
    stack = Stack((subject, style), combine="sum" if way == "klora" else way)
    with klora(base, subject, style, ranks) if way == "klora" else applied(base, stack):
        return draw_each(base, prompts, seeds, Settings(steps=STEPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", type=Path, required=True, help="keep the adapters here")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--count", type=int, default=8, help="pictures of each pair and way")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    judge, ways = Judge(list(TOKENS)), [*COMBINATIONS, "klora"]
    # Each subject and each style as soon as can be, whatever the number of pairs.
    names, styles = list(TOKENS), list(STYLES)
    pairs = [(names[i], styles[(i + j) % 4]) for j in range(4) for i in range(4)]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for pair in pairs[: arguments.pairs]:
        subject, style = (Slot(adapter_of(name, arguments.work)) for name in pair)
        places = [PLACES[i % len(PLACES)] for i in range(arguments.count)]
        prompts = [f"a photo of {called(pair[0])} {p}, {STYLES[pair[1]]} style" for p in places]
        for way in ways:
            found[way].append(judge.figures(pair, drawn(way, subject, style, prompts)))
        said = {way: round(found[way][-1]["likeness"], 2) for way in ways}
        print(pair, said, flush=True)
        table = {
            way: {name: vars(interval(torch.tensor([each[name] for each in every])))
                  if len(every) > 1 else every[0][name] for name in every[0]}
            for way, every in found.items()
        }  # fmt: skip
        if arguments.json:
            result = {"processor": processor(), "pairs": len(found["sum"]), "ways": table}
            arguments.json.write_text(json.dumps(result | {"by pair": found}, indent=1) + "\n")
    for way, figures in table.items():
        print(way, figures)


if __name__ == "__main__":
    main()
