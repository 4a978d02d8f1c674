"""Two held-out subjects in two halves of a picture, each by its own LoRA, on the pocket.

    python -m tests.benchmarks.regions [--json FILE] [--work DIR] [--count N]

Subjects by the default recipe, in pairs. Each half is recognised as the one of the twelve held-out
subjects whose real drawings it is nearest to, by the report's own encoder; the plain sum and real
drawings are judged in the same way. And what regions cost beside the sum, in seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from personalization import bases
from personalization.adapters.adapter import Adapter, read
from personalization.bases.encoders import encoder_pair
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.regions import HALVES, Region
from personalization.stacking.stack import Slot, Stack

from .fidelity import SPEC, cases, photos_of, train
from .start import processor

PAIRS = (("checkers", "valentine"), ("duchess", "taxi"))
CHOOSING = (("pocket", "earl grey"), ("peanut", "waddles"))  # what the settings are chosen on
WORDS = ("sks", "ohwx", "zwx", "plstps")
TOKENS = {
    name: word
    for pairs in (PAIRS, CHOOSING)
    for name, word in zip((*pairs[0], *pairs[1]), WORDS, strict=True)
}
PLACES = ("on the beach", "in the snow", "in the forest", "in the city")
SEED, SHOWN = 2026, 24


def adapter_of(name: str, folder: Path) -> Adapter:
    """Taught here, unless the folder has it."""
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    if not path.exists():
        known = {case.name: case for case in cases() if case.group == "LoRA, prior images"}
        case = replace(known[name], placeholder_token=TOKENS[name])
        train(case, photos_of(case), folder / "cache")[0].save(path)
    return read(path)


def called(name: str) -> str:
    return f"{TOKENS[name]} {SUBJECTS[name].class_noun}"


def half(image: Image.Image, left: int) -> Image.Image:
    """64 columns of the 128, from `left` on, with the outermost ones repeated to a square."""
    columns = np.asarray(image)[:, left : left + 64]
    return Image.fromarray(np.pad(columns, ((0, 0), (32, 32), (0, 0)), "edge"))


def real_halves(name: str, seed: int) -> list[Image.Image]:
    """Real drawings of a subject, cut around it as wide as a half is."""
    scenes = SUBJECTS[name].scenes(SHOWN, seed)
    lefts = [min(64, max(0, round(128 * scene.x) - 32)) for scene in scenes]
    return [half(draw_scene(scene, 128), left) for scene, left in zip(scenes, lefts, strict=True)]


class Judge:
    """Names the subject of a half."""

    def __init__(self) -> None:
        self.encoder = encoder_pair(SPEC).subject
        self.names = list(SUBJECTS)
        means = [self.encoder.images(real_halves(name, SEED)).mean(0) for name in self.names]
        self.means: Tensor = normalize(torch.stack(means), dim=-1)

    def says(self, pictures: Sequence[Image.Image]) -> list[str]:
        nearest = (self.encoder.images(pictures) @ self.means.T).argmax(1)
        return [self.names[int(number)] for number in nearest]


def drawn(stack: Stack, prompts: Sequence[str], count: int) -> tuple[list[Image.Image], float]:
    """That many pictures, in equal parts of each prompt; and the seconds of one."""
    base, pictures = bases.load(SPEC), []
    started = time.perf_counter()
    with applied(base, stack):
        for number, prompt in enumerate(prompts):
            each = Settings(prompt, seed=100 * number, count=count // len(prompts))
            pictures += [picture.image for picture in draw(base, each, stack=stack)]
    return pictures, (time.perf_counter() - started) / len(pictures)


def measured(pair: tuple[str, str], folder: Path, judge: Judge, count: int) -> dict[str, Any]:
    """How often each is recognised in its half: in regions, summed, and in real drawings."""
    adapters = [adapter_of(name, folder) for name in pair]
    sides = ("left", "right")
    regions = [
        Slot(adapter, region=Region(HALVES[side], f"a photo of {called(name)}"))
        for adapter, side, name in zip(adapters, sides, pair, strict=True)
    ]
    found: dict[str, Any] = {"pair": pair}
    both = f"a photo of {called(pair[0])} and {called(pair[1])}"
    for way, stack, prompts in (
        ("regions", Stack(tuple(regions)), PLACES),
        ("sum", Stack(tuple(map(Slot, adapters))), [f"{both} {place}" for place in PLACES]),
    ):
        pictures, found[f"{way}, seconds"] = drawn(stack, prompts, count)
        Image.fromarray(np.hstack([np.asarray(p) for p in pictures[:: len(pictures) // 8]])).save(
            folder / f"{pair[0]}-{way}.png"
        )
        for name, left in zip(pair, (0, 64), strict=True):
            said = judge.says([half(picture, left) for picture in pictures])
            found[f"{way}, {name}"] = said.count(name) / len(said)
    for name in pair:
        found[f"real, {name}"] = judge.says(real_halves(name, SEED + 1)).count(name) / SHOWN
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", type=Path, help="keep the adapters and pictures here")
    parser.add_argument("--count", type=int, default=40, help="pictures of each pair")
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    judge = Judge()
    pairs = [measured(pair, folder, judge, arguments.count) for pair in PAIRS]
    for found in pairs:
        print(json.dumps(found))
    ways = ("regions", "sum", "real")
    shares = {
        way: statistics.fmean(found[f"{way}, {name}"] for found in pairs for name in found["pair"])
        for way in ways
    }
    cost = [found["regions, seconds"] / found["sum, seconds"] for found in pairs]
    print(", ".join(f"{way} {share:.3f}" for way, share in shares.items()), f"cost {cost}")
    if arguments.json:
        result = {"processor": processor(), "count": arguments.count, "pairs": pairs}
        arguments.json.write_text(json.dumps(result | {"recognised": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
