"""What a reference picture and a structure map give on the pocket, without any training.

    python -m tests.benchmarks.reference [--json FILE]

Twelve held-out subjects of the drawn world, one picture of each: subject fidelity between the
untouched base's and that of real drawings of the same prompts, prompt fidelity beside the base's;
and how much of a map's silhouette is drawn where the map has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from personalization import bases
from personalization.bases.catalog import CATALOG
from personalization.evaluation.encoders import encoder_pair
from personalization.pocket.world import SUBJECTS, mask
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw
from personalization.sampling.guides import Guides, Reference, Structure
from personalization.sampling.settings import Settings
from tests.benchmarks.start import processor

SEED = 2026
NEAREST = {"owl": "bird", "elephant": "bear", "snail": "frog", "rocket": "boat"}
PLACES = (("beach", "on the beach"), ("snow", "in the snow"))
EDGE = 24  # grey levels by which a pixel differs from the same scene without a figure


def mean(tensor: torch.Tensor) -> float:
    return float(tensor.mean())


def subject_figures(base: Any, encoders: Any, weight: float) -> dict[str, list[float]]:
    """For each subject: fidelities of base, reference and real drawings, mean over prompts."""
    found: dict[str, list[float]] = {}
    for subject in SUBJECTS.values():
        photos = [draw_scene(scene, 128) for scene in subject.scenes(5, SEED)]
        seen, prompts, real = photos[:1], [], []
        noun = NEAREST.get(subject.class_noun, subject.class_noun)
        for place, phrase in PLACES:
            prompts.append(f"a photo of a {noun} {phrase}")
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


def structure_figures(base: Any) -> dict[str, list[float]]:
    """IoU of the drawn silhouette with the map's, with the map and without it.

    The figure is told from a plain background: what differs from the corners' colour.
    """
    found: dict[str, list[float]] = {"with": [], "without": []}
    for number, subject in enumerate(SUBJECTS.values()):
        scene = replace(subject.scenes(1, SEED)[0], place="plain", backdrop="white")
        asked = np.asarray(mask(scene, 128)) > 127
        noun = NEAREST.get(subject.class_noun, subject.class_noun)
        settings = Settings(f"a photo of a red {noun} on a plain white background", seed=number)
        guides = Guides(structure=Structure(draw_scene(scene, 128)))
        for name, chosen in (("with", guides), ("without", Guides())):
            picture = np.asarray(draw(base, settings, guides=chosen)[0].image, np.int16)
            corner = np.median(picture[:12, :12].reshape(-1, 3), axis=0)
            found[name].append(overlap(asked, (np.abs(picture - corner).max(2) > EDGE)))
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    base = bases.load(CATALOG["pocket"])
    encoders = encoder_pair(CATALOG["pocket"])
    subjects = subject_figures(base, encoders, arguments.weight)
    figures = {name: summary(values) for name, values in subjects.items()}
    share = figures["reference, subject"]["mean"] / figures["real, subject"]["mean"]
    prompt = figures["reference, prompt"]["mean"] / figures["base, prompt"]["mean"]
    silhouettes = {name: summary(values) for name, values in structure_figures(base).items()}
    untouched = figures["base, subject"]["mean"] / figures["real, subject"]["mean"]
    print(f"subject fidelity {share:.2f} of real drawings' (untouched {untouched:.2f})")
    print(f"prompt fidelity {prompt:.2f} of the untouched base's")
    told = {name: f"{figure['mean']:.2f}" for name, figure in silhouettes.items()}
    print(f"edges: IoU {told['with']} with the map, {told['without']} without")
    if arguments.json:
        result = {
            "processor": processor(),
            "weight": arguments.weight,
            "subjects": figures,
            "silhouettes": silhouettes,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
