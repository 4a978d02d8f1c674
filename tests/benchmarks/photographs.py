"""Whether the pocket tells photographs from drawings: fits its discriminant, and counts.

    python -m tests.benchmarks.photographs PACKAGES --json FILE [--write]

Fitted on crops of photographs that packages carry (`tests.support.packaged_photographs` says how
they are had, and which are fitted on), and on drawings of the world and of every style; counted on
photographs of other packages, whole and in crops, and on other drawings. A style that is left out
of the fitting is counted too: what is said of a look that nobody foresaw.
With --write the pocket's file is made anew: to be done whenever its encoder changes.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from personalization.bases.catalog import CATALOG
from personalization.files import write_atomically
from personalization.pocket import pictures
from personalization.pocket.world import SUBJECTS, draw
from personalization.pocket.world.subjects import STYLE_SUBJECTS, held_out_word_scenes
from personalization.training.photographs import FILE, Discriminant, features
from tests.support.packaged_photographs import is_fitted, of_gradio, photographs

SOURCE, SIZE = CATALOG["pocket"].source, CATALOG["pocket"].size
CROPS = 6  # of each photograph: the middle, then by chance of 0.4 to 1 of the shorter side
FITTED, COUNTED = (7, 57), 23  # seeds of the drawings
MISSED = 0.01  # the share of the fitting's drawings that may lie above the threshold
RIDGE = 3e-3


def crops(picture: Image.Image, rng: np.random.Generator) -> list[Image.Image]:
    """The largest square, then squares by chance, of the size that the pocket sees."""
    width, height = picture.size
    boxes = []
    for index in range(CROPS):
        side = int(min(width, height) * (rng.uniform(0.4, 1) if index else 1))
        left = int(rng.integers(0, width - side + 1)) if index else (width - side) // 2
        top = int(rng.integers(0, height - side + 1)) if index else (height - side) // 2
        boxes.append((left, top, left + side, top + side))
    return [picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box) for box in boxes]


def as_jpeg(picture: Image.Image) -> Image.Image:
    """Saved and opened again at quality 60."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def drawings(seed: int) -> dict[str, Tensor]:
    """Features of drawings by what they are of: the world, its subjects, each held-out style.

    Every fourth is there as JPEG too.
    """
    scenes = {"world": [pictures.scene_at(seed, pictures.UNSEEN + n) for n in range(120)]}
    scenes |= {style: held_out_word_scenes(style, 30, seed) for style in ("watercolour", "neon")}
    scenes |= {style: subject.scenes(30, seed) for style, subject in STYLE_SUBJECTS.items()}
    scenes["held-out subjects"] = [s for each in SUBJECTS.values() for s in each.scenes(3, seed)]
    drawn = {}
    for name, some in scenes.items():
        images = [draw(scene, 2 * SIZE).convert("RGB") for scene in some]
        images += [as_jpeg(image) for image in images[::4]]
        small = [image.resize((SIZE, SIZE), Image.Resampling.LANCZOS) for image in images]
        drawn[name] = features(SOURCE, small)
    return drawn


def fitted(photographs: Tensor, drawn: Tensor) -> Discriminant:
    """A logistic regression with a ridge, by Newton's steps; both kinds count the same."""
    both = torch.cat([photographs, drawn]).double()
    mean, spread = both.mean(0), both.std(0) + 1e-6
    x = torch.cat([(both - mean) / spread, torch.ones(len(both), 1)], 1)
    y = torch.cat([torch.ones(len(photographs)), torch.zeros(len(drawn))]).double()
    counts = torch.where(y == 1, 0.5 / len(photographs), 0.5 / len(drawn))
    ridge = torch.full((x.shape[1],), RIDGE).double()
    weights = torch.zeros(x.shape[1]).double()
    for _ in range(10):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (counts * (p - y)) + ridge * weights
        curvature = (x * (counts * p * (1 - p))[:, None]).T @ x + torch.diag(ridge)
        weights -= torch.linalg.solve(curvature, gradient)
    parts = [tuple(part.float().tolist()) for part in (mean, spread, weights[:-1])]
    unset = Discriminant(parts[0], parts[1], parts[2], threshold=0.0)
    return replace(unset, threshold=float(unset.scores(drawn).quantile(1 - MISSED)))


def flagged(by: Discriminant, some: Tensor) -> float:
    """The share that is taken for photographs."""
    return round(float((by.scores(some) > 0).float().mean()), 3)


def joined(drawn: list[dict[str, Tensor]], without: str = "") -> Tensor:
    """All drawings but those of that kind."""
    return torch.cat([x for each in drawn for name, x in each.items() if name != without])


def measure(packages: Path) -> tuple[Discriminant, dict[str, Any]]:
    """The discriminant, and the shares that it flags."""
    rng = np.random.default_rng(0)
    known: list[Tensor] = []
    unseen: dict[str, Tensor] = {}
    for package, its in (photographs(packages) | {"gradio": of_gradio()}).items():
        seen = {f"{package}: {name}": features(SOURCE, crops(x, rng)) for name, x in its.items()}
        if is_fitted(package):
            known += seen.values()
        else:
            unseen |= seen
    here, there = [drawings(seed) for seed in FITTED], drawings(COUNTED)
    made = fitted(torch.cat(known), joined(here))
    styles = [name for name in there if name not in ("world", "held-out subjects")]
    unforeseen = {s: flagged(fitted(torch.cat(known), joined(here, s)), there[s]) for s in styles}
    whole = torch.stack([x[0] for x in unseen.values()])
    return made, {
        "photographs fitted": len(known),
        "photographs": flagged(made, whole),
        "photographs counted": len(unseen),
        "photographs missed": [
            name
            for name, score in zip(unseen, made.scores(whole).tolist(), strict=True)
            if score <= 0
        ],
        "crops": flagged(made, torch.cat(list(unseen.values()))),
        "crops counted": sum(map(len, unseen.values())),
        "crops, by photograph": {n: flagged(made, x) for n, x in unseen.items()},
        "drawings": flagged(made, joined([there])),
        "drawings, by kind": {name: flagged(made, x) for name, x in there.items()},
        "drawings counted": len(joined([there])),
        "a style left out of the fitting": unforeseen,
    }


def main() -> None:
    """Fit, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="the pocket's file")
    arguments = parser.parse_args()
    made, figures = measure(arguments.packages)
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        write_atomically(arguments.json, text + "\n")
    if arguments.write:
        said = {
            "mean": made.mean,
            "spread": made.spread,
            "weights": made.weights,
            "threshold": made.threshold,
            "flags": {name: figures[name] for name in ("photographs", "drawings")},
        }
        write_atomically(Path(SOURCE) / FILE, json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
