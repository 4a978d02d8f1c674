"""How far a recipe comes in so many steps, by the loss on drawings that it was not taught from.

    python -m tests.benchmarks.held_out_loss [--subjects NAME ...] [--steps N ...] [--plus X ...]

`recipe_search` draws a hundred pictures a run, and its figures scatter; this takes seconds beside
the run, and two recipes differ by what they are alone: 24 drawings of the subject in the report's
scenes, asked for by their prompts, at noise that is always the same. It says what is worth drawing
and judging, and not how that ends: two recipes alike by it have differed by a tenth of the subject
(docs/LOG.md). The class is asked for in the same pictures: how far the answer moved from the
untouched base's, squared, is what was lost of it.

--plus: how many times the rate of A that of B is (LoRA+, Hayou et al. 2024, arXiv 2402.12354), at
the same product of the two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from personalization import bases
from personalization.adapters.adapter import Description
from personalization.bases.base import Base
from personalization.data.concept import Concept
from personalization.data.frames import frame
from personalization.data.photos import Photo
from personalization.evaluation.plan import seeds_of
from personalization.evaluation.prompts import eval_prompts
from personalization.methods import installed
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world import draw as draw_scene
from personalization.training.annotations import looking
from personalization.training.examples import encode_photos
from personalization.training.objective import Objective, squared_error
from personalization.training.run import Run
from personalization.training.session import Session
from personalization.training.trainable import Trainable
from tests.benchmarks.fidelity import SPEC, Case, asked_scene, cases, photos_of
from tests.support.generators import returned

PROMPTS, SEEDS = 8, 3
PER_FORWARD = 8


@dataclass(frozen=True)
class Drawings:
    """What the loss is taken on: (n, channels, h, w) latents and noise, n prompts, (n,) levels."""

    latents: Tensor
    noise: Tensor
    u: Tensor
    texts: list[str]

    def predicted(self, base: Base, texts: list[str]) -> Tensor:
        """Like the latents: what the base, as it is now, answers to these texts."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(texts), PER_FORWARD):
                part = slice(start, start + PER_FORWARD)
                asked = base.encode_prompts(texts[part])
                noise, u = self.noise[part], self.u[part]
                parts.append(base.predict(self.latents[part], asked, noise, u))
        return torch.cat(parts)


def drawings(base: Base, case: Case) -> Drawings:
    """The world's own of each of the report's prompts, several times over."""
    about = Description(
        method="lora",
        family=SPEC.family,
        base=SPEC.name,
        fingerprint="",
        placeholder_token=case.placeholder_token,
        class_noun=case.class_noun,
        kind=case.kind,
    )
    texts = [prompt.of_subject for prompt in eval_prompts(about, PROMPTS)] * SEEDS
    seeds = seeds_of(PROMPTS, SEEDS)
    scenes = [asked_scene(case, *each) for each in zip(texts, seeds, strict=True)]
    photos = [Photo(str(i), draw_scene(scene, 2 * SPEC.size)) for i, scene in enumerate(scenes)]
    canvas = SPEC.canvas(case.recipe)
    frames = [frame(photo, canvas) for photo in photos]
    latents = encode_photos(base, photos, frames, flip=False).mean[0]
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(latents.shape, generator=generator)
    u = (torch.randperm(len(photos), generator=generator) + 0.5) / len(photos)
    return Drawings(latents, noise, u, texts)


def lora_plus(trainable: Trainable, ratio: float) -> None:
    """Give B `ratio` times the rate of A, and their product what it was."""
    groups, rates = [], []
    names = {parameter: name for name, parameter in trainable.parameters.items()}
    for group in trainable.optimizer.param_groups:
        for factor, rate in (("lora_A", ratio**-0.5), ("lora_B", ratio**0.5)):
            chosen = [p for p in group["params"] if factor in names[p]]
            groups.append({"params": chosen, "lr": rate * group["lr"]})
            rates.append(rate * group["lr"])
    decay = trainable.recipe.weight_decay
    trainable.optimizer = torch.optim.AdamW(groups, weight_decay=decay, fused=True)
    trainable.rates = rates


def measure(case: Case, cache: Path, plus: float) -> dict[str, float]:
    """Teach it, and give the loss, what is lost of the class, and the processor's seconds."""
    base, photos = bases.load(SPEC), photos_of(case)
    concept = Concept(case.kind, case.placeholder_token, case.class_noun, photos)
    shown = drawings(base, case)
    target = base.target(shown.latents, shown.noise, shown.u)
    of_class = [concept.class_prompt()] * len(shown.texts)
    untouched = shown.predicted(base, of_class)
    with (
        tempfile.TemporaryDirectory() as folder,
        installed(base, concept, case.recipe) as method,
    ):
        run = Run.create(Path(folder) / "run", concept, case.recipe, SPEC.name)
        trainable = Session(base, run, method).trainable
        objective = Objective(base, run, returned(looking(base, run)), method, cache)
        if plus != 1:
            lora_plus(trainable, plus)
        started = time.process_time()
        for step in range(case.recipe.steps):
            trainable.descend(objective.losses(step).sum(), step)
        seconds = time.process_time() - started
        loss = squared_error(shown.predicted(base, shown.texts), target).mean()
        lost = squared_error(shown.predicted(base, of_class), untouched).mean()
    return {"loss": loss.item(), "class": lost.item(), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", default=["dash", "pocket"], choices=list(SUBJECTS))
    parser.add_argument("--steps", nargs="+", type=int, default=[210, 140])
    parser.add_argument("--plus", nargs="+", type=float, default=[1.0, 8.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = {case.name: case for case in cases() if case.group == "LoRA, prior images"}
    print(f"{'subject':12}{'steps':>6}{'B / A':>6}{'loss':>8}{'class':>8}{'seconds':>8}")
    with tempfile.TemporaryDirectory() as cache:
        for name, steps, plus in product(arguments.subjects, arguments.steps, arguments.plus):
            recipe = known[name].recipe.changed(steps=steps, preview_every=0)
            found = measure(replace(known[name], recipe=recipe), Path(cache), plus)
            figures = f"{found['loss']:8.4f}{found['class']:8.4f}{found['seconds']:8.1f}"
            print(f"{name:12}{steps:6}{plus:6.0f}{figures}", flush=True)


if __name__ == "__main__":
    main()
