"""What a reference picture and a structure map give on the pocket, without any training.

    python -m tests.benchmarks.reference [--json FILE] [--only PART ...] [--work DIR]

Twelve held-out subjects of the drawn world, one picture of each. `subjects`: subject fidelity
between the untouched base's and that of real drawings of the same prompts, prompt fidelity beside
the base's. `edges`, `depth`: how much of a map's silhouette is drawn where the map has it, and of
depth how often what is nearer is in front; `edges aside`, `depth aside`: the same of maps whose
subject is smaller and at one side, where nothing is drawn by itself. `costs`: seconds of a picture
with a guide beside those without, in turn. `trained`: LoRAs with a photo of their subject beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from personalization import bases
from personalization.bases.catalog import CATALOG
from personalization.bases.encoders import encoder_pair
from personalization.evaluation.metrics import interval
from personalization.pocket.structure import depth
from personalization.pocket.world import SUBJECTS, Scene, mask
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw
from personalization.sampling.guides import NO_GUIDES, Guides, Reference, Structure
from personalization.sampling.settings import Settings
from tests.benchmarks.reference_beside import trained_figures
from tests.benchmarks.start import processor

SEED = 2026
SPEC = CATALOG["pocket"]
NEAREST = {"owl": "bird", "elephant": "bear", "snail": "frog", "rocket": "boat"}
PLACES = (("beach", "on the beach"), ("snow", "in the snow"))
COLOUR, DARK = 40, 110  # levels: more chroma is figure, so is what is darker; a shadow is neither
ASIDE, SMALL = (0.27, 0.73), 0.5  # where a figure stands, and how tall, that is not in the middle
PAIRS = 2000  # of points whose order is asked, a picture
ROUNDS = 7  # of costs
Found = dict[str, list[float]]


def mean(tensor: torch.Tensor) -> float:
    return float(tensor.mean())


def noun_of(subject: Any) -> str:
    return NEAREST.get(subject.class_noun, subject.class_noun)


def subject_figures(base: Any, encoders: Any, weight: float) -> Found:
    """For each subject: fidelities of base, reference and real drawings, mean over prompts."""
    found: Found = {}
    for subject in SUBJECTS.values():
        photos = [draw_scene(scene, 128) for scene in subject.scenes(5, SEED)]
        seen, prompts, real = photos[:1], [], []
        for place, phrase in PLACES:
            prompts.append(f"a photo of a {noun_of(subject)} {phrase}")
            scene = replace(subject.scenes(1, SEED + 1)[0], place=place, backdrop=None)
            real.append(draw_scene(scene, 128))
        groups: dict[str, list[Image.Image]] = {"real": real, "base": [], "reference": []}
        for number, prompt in enumerate(prompts):
            settings = Settings(prompt, seed=number)
            groups["base"].append(draw(base, settings)[0].image)
            guides = Guides(Reference(tuple(seen), weight))
            groups["reference"].append(draw(base, settings, guides=guides)[0].image)
        own, texts = encoders.subject.images(photos), encoders.prompt.texts(prompts)
        for name, pictures in groups.items():
            found.setdefault(f"{name}, subject", []).append(
                mean(encoders.subject.images(pictures) @ own.T)
            )
            found.setdefault(f"{name}, prompt", []).append(
                mean((encoders.prompt.images(pictures) * texts).sum(1))
            )
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def silhouette(picture: Image.Image) -> np.ndarray:
    """The figure before a white ground: the largest part that is coloured or dark, with its holes.

    A white belly is inside of an outline, and a grey shadow is neither.
    """
    pixels = np.asarray(picture.convert("RGB"), np.int16)
    chroma = pixels.max(2) - pixels.min(2)
    figure = ((chroma > COLOUR) | (pixels.max(2) < DARK)).astype(np.uint8)
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(figure)
    filled = np.zeros_like(figure)
    if count > 1:
        largest = (parts == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
        outlines, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(filled, outlines, -1, 1, thickness=-1)
    return filled > 0


def order(asked: np.ndarray, drawn: np.ndarray) -> float:
    """Of points of which the map has one nearer, in how many pairs the drawing has it nearer.

    Where it has both on the figure, or neither, it is right in half.
    """
    rng = np.random.default_rng(0)
    near, far = (rng.permutation(np.flatnonzero(part.ravel())) for part in (asked, ~asked))
    flat = drawn.ravel().astype(int)
    differences = flat[near[np.arange(PAIRS) % len(near)]] - flat[far[np.arange(PAIRS) % len(far)]]
    return float((0.5 + 0.5 * np.sign(differences)).mean())


def map_of(kind: str, scene: Scene, weight: float) -> Guides:
    if kind == "depth":
        return Guides(structure=Structure(depth(scene), "depth", weight, is_map=True))
    return Guides(structure=Structure(draw_scene(scene, 128), "edges", weight))


def structure_figures(base: Any, kind: str, weight: float, *, aside: bool = False) -> Found:
    """IoU of the drawn silhouette with the map's, and their order, with the map and without it.

    "world": the same of the world's own drawing of the scene, which is the most that is measured.
    """
    found: Found = {}
    for number, subject in enumerate(SUBJECTS.values()):
        scene = replace(subject.scenes(1, SEED)[0], place="plain", backdrop="white")
        if aside:
            scene = replace(scene, x=ASIDE[number % 2], scale=SMALL)
        asked = np.asarray(mask(scene, 128)) > 127
        text = f"a photo of a red {noun_of(subject)} on a plain white background"
        settings = Settings(text, seed=number)
        guides = map_of(kind, scene, weight)
        drawn = {
            "world": draw_scene(replace(scene, colour="red"), 128),
            "with": draw(base, settings, guides=guides)[0].image,
            "without": draw(base, settings)[0].image,
        }
        for name, picture in drawn.items():
            figure = silhouette(picture)
            found.setdefault(f"{name}, IoU", []).append(overlap(asked, figure))
            found.setdefault(f"{name}, order", []).append(order(asked, figure))
    return found


def cost_figures(base: Any) -> Found:
    """Seconds of a picture with nothing, a reference, each map: in turn, after one round unseen."""
    scene = next(iter(SUBJECTS.values())).scenes(1, SEED)[0]
    ways = {
        "plain": NO_GUIDES,
        "reference": Guides(Reference((draw_scene(scene, 128),))),
        "edges": map_of("edges", scene, 1.0),
        "depth": map_of("depth", scene, 1.0),
    }
    found: Found = {}
    for number in range(ROUNDS + 1):
        for name, guides in ways.items():
            started = time.process_time()
            draw(base, Settings("a photo of a dog on the beach", seed=number), guides=guides)
            if number:
                found.setdefault(name, []).append(time.process_time() - started)
    for name in list(ways)[1:]:
        pairs = zip(found[name], found["plain"], strict=True)
        found[f"{name}, times plain"] = [guide / plain for guide, plain in pairs]
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    found = interval(torch.tensor(values))
    return {
        "mean": found.mean, "low": found.low, "high": found.high,
        "least": min(values), "most": max(values),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("subjects", "edges", "depth", "edges aside", "depth aside", "costs", "trained")
    parser.add_argument("--weight", type=float, default=1.0, help="of a reference, and of a map")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    parser.add_argument("--json", type=Path, help="write the figures here, beside what it has")
    parser.add_argument("--work", type=Path, help="keep the trained adapters here")
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    base, encoders = bases.load(SPEC), encoder_pair(SPEC)
    measures = {
        "subjects": lambda: subject_figures(base, encoders, arguments.weight),
        "edges": lambda: structure_figures(base, "edges", arguments.weight),
        "depth": lambda: structure_figures(base, "depth", arguments.weight),
        "edges aside": lambda: structure_figures(base, "edges", arguments.weight, aside=True),
        "depth aside": lambda: structure_figures(base, "depth", arguments.weight, aside=True),
        "costs": lambda: cost_figures(base),
        "trained": lambda: trained_figures(folder, encoders),
    }
    told = arguments.json.read_text() if arguments.json and arguments.json.exists() else "{}"
    result = json.loads(told) | {"processor": processor()}
    for part in arguments.only:
        figures = {name: summary(values) for name, values in measures[part]().items()}
        for name, figure in figures.items():
            said = f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
            print(f"{part}: {name} {said}", flush=True)
        result[part] = {"weight": arguments.weight, **figures}
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
