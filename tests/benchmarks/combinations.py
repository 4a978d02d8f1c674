"""Ways to combine adapters on the pocket: a subject and a style, beside a third, two subjects.

    python -m tests.benchmarks.combinations --work DIR [--json FILE] [--count N]

Held-out subjects and styles by the default recipes, drawn with every way that the package has, with
K-LoRA and CMLoRA (`newer_ways`) and, for two subjects, with a region for each. A picture is
compared with the world's own drawings of every subject in every style, by the report's encoder: how
much nearer it is to its subject's than to the others', to its style's, and to the prompt, each as a
share of what real drawings have. Of two subjects it is asked whether both are there, one in each
half.

A pair that is drawn is in --json at once, and what is there is not drawn again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from personalization import bases
from personalization.adapters.adapter import Adapter, read
from personalization.bases.base import Base
from personalization.bases.encoders import encoder_pair
from personalization.evaluation.metrics import interval
from personalization.files import write_atomically
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw, draw_each
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.regions import HALVES, Region
from personalization.stacking.stack import COMBINATIONS, Slot, Stack

from . import regions
from .fidelity import SPEC, STEPS, cases, photos_of, train
from .newer_ways import cmlora, klora
from .regions import TOKENS, called, half
from .start import processor

STYLES = {"pixel art": "<pxa>", "blueprint": "<blu>", "stained glass": "<stg>", "halftone": "<hft>"}
PLACES = {"beach": "on the beach", "snow": "in the snow", "forest": "in the forest",
          "city": "in the city"}  # fmt: skip
SEED, SHOWN = 2026, 8
GROUPS = ("subject and style", "beside another subject", "two subjects")
MAIN = {  # what ways are ranked by, and what else is told
    GROUPS[0]: ("subject × style", ("subject", "style")),
    GROUPS[1]: ("subject × style", ("subject", "style")),
    GROUPS[2]: ("both", ("one at least",)),
}
Row = dict[str, Any]
"""group, adapters, way, seconds of a picture, and the figures by name."""


def adapter_of(name: str, folder: Path) -> Adapter:
    """Taught here, unless the folder has it."""
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    if not path.exists():
        group = "LoRA, style" if name in STYLES else "LoRA, prior images"
        known = {case.name: case for case in cases() if case.group == group}
        case = replace(known[name], placeholder_token=(TOKENS | STYLES)[name])
        train(case, photos_of(case), folder / "cache")[0].save(path)
    return read(path)


def asked() -> list[tuple[str, tuple[str, ...]]]:
    """Group and adapters of all that is drawn: every subject and style as soon as can be."""
    names, styles = list(TOKENS)[:4], list(STYLES)
    turns = [(i, (i + j) % 4) for j in range(4) for i in range(4)]
    pairs = [(names[i], styles[k]) for i, k in turns]
    beside = [(names[i], styles[k], names[(i + 1) % 4]) for i, k in turns[:8]]
    found: list[tuple[str, tuple[str, ...]]] = [(GROUPS[0], pair) for pair in pairs]
    found += [(GROUPS[2], pair) for pair in itertools.combinations(names, 2)]
    return found + [(GROUPS[1], three) for three in beside]


def ways_of(group: str) -> list[str]:
    """K-LoRA is for a subject and a style; a place for each is for two subjects."""
    more = {GROUPS[0]: ["K-LoRA"], GROUPS[1]: [], GROUPS[2]: ["K-LoRA", "regions"]}[group]
    return [*COMBINATIONS, "CMLoRA", *more]


def combined(base: Base, way: str, slots: Sequence[Slot]) -> AbstractContextManager[None]:
    """The base drawing with these adapters in that way."""
    if way == "K-LoRA":
        return klora(base, slots)
    if way == "CMLoRA":
        return cmlora(base, slots, STEPS)
    return applied(base, Stack(tuple(slots), combine=way))


class StyledJudge:
    """The world's own drawings of each subject in each style, as means of unit vectors."""

    def __init__(self) -> None:
        self.encoders = encoder_pair(SPEC)
        self.subjects, self.styles = list(TOKENS)[:4], list(STYLES)
        pairs = itertools.product(self.subjects, self.styles)
        seen = [self.see(self.real(*pair, SEED)).mean(0) for pair in pairs]
        self.means: Tensor = normalize(torch.stack(seen), dim=-1).reshape(4, 4, -1)

    def see(self, pictures: Sequence[Image.Image]) -> Tensor:
        return self.encoders.subject.images(pictures)

    def real(self, subject: str, style: str, seed: int) -> list[Image.Image]:
        scenes = SUBJECTS[subject].scenes(SHOWN, seed)
        places = itertools.cycle(PLACES)
        at = (replace(s, style=style, place=next(places), backdrop=None) for s in scenes)
        return [draw_scene(scene, 128) for scene in at]

    def nearer(self, pair: tuple[str, str], pictures: Sequence[Image.Image]) -> Tensor:
        """(2,): to the own subject's drawings than to the others', to the own style's."""
        i, k = self.subjects.index(pair[0]), self.styles.index(pair[1])
        likeness = torch.einsum("nd,ikd->ik", self.see(pictures), self.means) / len(pictures)
        own = likeness[i, k]
        return torch.stack([
            own - (likeness[:, k].sum() - own) / 3, own - (likeness[i].sum() - own) / 3
        ])  # fmt: skip

    def prompt(self, subject: str, pictures: Sequence[Image.Image]) -> Tensor:
        """Likeness to what was asked for, at the places in turn."""
        texts = self.encoders.prompt.texts(
            [f"a photo of a {SUBJECTS[subject].class_noun} {place}" for place in PLACES.values()]
        )
        seen = self.encoders.prompt.images(pictures)
        return (seen * texts.repeat(len(pictures) // len(texts), 1)).sum(1).mean()

    def figures(self, names: Sequence[str], pictures: Sequence[Image.Image]) -> dict[str, float]:
        pair = names[0], names[1]
        real = self.real(*pair, SEED + 1)
        subject, style = (self.nearer(pair, pictures) / self.nearer(pair, real)).tolist()
        prompt, most = (float(self.prompt(pair[0], each)) for each in (pictures, real))
        product = min(1.0, max(0.0, subject)) * min(1.0, max(0.0, style))
        return {
            "subject": subject,
            "style": style,
            "subject × style": product,
            "prompt": prompt,
            "prompt of real": most,
        }


class HalvesJudge:
    """Whether two subjects are there, each in a half, whichever it is."""

    def __init__(self) -> None:
        self.judge = regions.Judge()
        self.prompts = encoder_pair(SPEC).prompt

    def figures(self, names: Sequence[str], pictures: Sequence[Image.Image]) -> dict[str, float]:
        left, right = (self.judge.says([half(p, at) for p in pictures]) for at in (0, 64))
        seen = [{a, b} for a, b in zip(left, right, strict=True)]
        nouns = " and ".join(f"a {SUBJECTS[name].class_noun}" for name in names)
        texts = self.prompts.texts([f"a photo of {nouns} {place}" for place in PLACES.values()])
        said = self.prompts.images(pictures) * texts.repeat(len(pictures) // len(texts), 1)
        return {
            "both": sum(set(names) <= each for each in seen) / len(seen),
            "one at least": sum(bool(set(names) & each) for each in seen) / len(seen),
            "prompt": float(said.sum(1).mean()),
        }


def prompts_of(group: str, names: Sequence[str], count: int) -> list[str]:
    """At the places in turn."""
    if group == GROUPS[2]:
        words, style = " and ".join(map(called, names)), ""
    else:
        words, style = called(names[0]), f", {STYLES[names[1]]} style"
    places = itertools.islice(itertools.cycle(PLACES.values()), count)
    return [f"a photo of {words} {place}{style}" for place in places]


def drawn(
    group: str, names: Sequence[str], way: str, folder: Path, count: int
) -> list[Image.Image]:
    base = bases.load(SPEC)
    slots = [Slot(adapter_of(name, folder)) for name in names]
    if way == "regions":
        return in_regions(base, names, slots, count)
    prompts = prompts_of(group, names, count)
    with combined(base, way, slots):
        return draw_each(base, prompts, range(count), Settings(steps=STEPS))


def in_regions(
    base: Base, names: Sequence[str], slots: Sequence[Slot], count: int
) -> list[Image.Image]:
    """A half for each; the places in turn, with the seeds that the other ways have."""
    placed = tuple(
        replace(slot, region=Region(box, f"a photo of {called(name)}"))
        for slot, box, name in zip(slots, (HALVES["left"], HALVES["right"]), names, strict=True)
    )
    stack = Stack(placed)
    with applied(base, stack):
        return [
            draw(base, Settings(place, seed=seed, steps=STEPS), stack=stack)[0].image
            for seed, place in zip(range(count), itertools.cycle(PLACES.values()), strict=False)
        ]


def strip(pictures: Sequence[Image.Image]) -> Image.Image:
    return Image.fromarray(np.hstack([np.asarray(picture) for picture in pictures]))


@cache
def judge_of(group: str) -> StyledJudge | HalvesJudge:
    return HalvesJudge() if group == GROUPS[2] else StyledJudge()


def measured(rows: list[Row], folder: Path, count: int, path: Path | None) -> None:
    """Draw what `rows` lack, way after way, and write them as they come."""
    done = {(row["group"], *row["adapters"], row["way"]) for row in rows}
    for group, names in asked():
        for way in ways_of(group):
            if (group, *names, way) in done:
                continue
            started = time.process_time()
            pictures = drawn(group, names, way, folder, count)
            seconds = (time.process_time() - started) / count
            figures = judge_of(group).figures(names, pictures)
            strip(pictures).save(folder / f"{'-'.join(names)}-{way}.png")
            rows.append(
                {"group": group, "adapters": list(names), "way": way, "seconds": seconds, **figures}
            )
            if path:
                result = {"processor": processor(), "pictures of each": count, "rows": rows}
                write_atomically(path, json.dumps(result, indent=1) + "\n")
        print(group, *names, sep=", ", flush=True)


def table(rows: Sequence[Row]) -> str:
    """By group and way: means with intervals over its adapters, and the difference to the sum's."""
    lines = []
    for group in GROUPS:
        some = [row for row in rows if row["group"] == group]
        by_way = {
            way: {tuple(row["adapters"]): row for row in some if row["way"] == way}
            for way in dict.fromkeys(row["way"] for row in some)
        }
        for way, own in by_way.items():
            told = [f"{name} {said}" for name, said in told_of(group, own, by_way["sum"]).items()]
            lines.append(f"{group}, {way}, {len(own)}: " + "; ".join(told))
    return "\n".join(lines)


def told_of(group: str, own: Mapping[Any, Row], summed: Mapping[Any, Row]) -> dict[str, str]:
    """A way's figures in words; of the first of them also what the sum has less, pair by pair."""
    main, others = MAIN[group]
    rows = list(own.values())
    told = {name: spread([row[name] for row in rows]) for name in (main, *others, "seconds")}
    real = [row["prompt of real"] for row in rows if "prompt of real" in row]
    told["prompt"] = spread([row["prompt"] for row in rows], real or None)
    both = [key for key in own if key in summed]
    told[f"{main}, more than the sum"] = spread([own[k][main] - summed[k][main] for k in both])
    return told


def spread(values: Sequence[float], over: Sequence[float] | None = None) -> str:
    """The mean with its interval, or the ratio of two means."""
    if len(values) < 2:
        return ", ".join(f"{value:.3f}" for value in values)
    found = interval(torch.tensor(values), None if over is None else torch.tensor(over))
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here, beside what it has")
    parser.add_argument("--work", type=Path, required=True, help="keep the adapters here")
    parser.add_argument("--count", type=int, default=8, help="pictures of each pair and way")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.json
    rows: list[Row] = json.loads(path.read_text())["rows"] if path and path.exists() else []
    measured(rows, arguments.work, arguments.count, path)
    print(table(rows))


if __name__ == "__main__":
    main()
