"""A trained LoRA with a photo of its subject beside it: part `trained` of `reference`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from personalization import bases
from personalization.adapters.adapter import Adapter, read
from personalization.bases.catalog import ASSETS
from personalization.evaluation.prompts import eval_prompts
from personalization.pocket.world import SUBJECTS
from personalization.pocket.world import draw as draw_scene
from personalization.sampling.generate import draw_each
from personalization.sampling.guides import NO_GUIDES, Guides, Reach, Reference
from personalization.sampling.guiding import guided
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack

from .fidelity import SPEC, STEPS
from .regions import adapter_of

SEED, PROMPTS = 2026, 8
STRENGTHS = (0.8, 1.0)
BESIDE: tuple[tuple[float, Reach], ...] = ((0.15, "all"), (0.3, "all"), (0.3, "style"))


class Taught:
    """A LoRA, photos of its subject, and how well the two are drawn."""

    def __init__(self, adapter: Adapter, photos: list[Image.Image], encoders: Any) -> None:
        self.adapter, self.photos, self.encoders = adapter, photos, encoders
        self.prompts = eval_prompts(adapter.description, PROMPTS)
        self.own = encoders.subject.images(photos)
        among = self.own @ self.own.T
        self.real = float((among.sum() - among.trace()) / (among.numel() - len(photos)))
        self.texts = encoders.prompt.texts([prompt.of_class for prompt in self.prompts])
        self.plain = float(self.fidelities(0.0, NO_GUIDES)[1].mean())

    def fidelities(self, strength: float, guides: Guides) -> tuple[Tensor, Tensor]:
        """Likeness to the subject's photos, and to the prompt, of each prompt's picture."""
        base = bases.load(SPEC)
        words = [p.of_subject if strength else p.of_class for p in self.prompts]
        stack = Stack((Slot(self.adapter, strength),) if strength else ())
        with applied(base, stack), guided(base, guides, guidance=base.spec.sampling.guidance):
            pictures = draw_each(base, words, range(len(words)), Settings(steps=STEPS))
        subject = (self.encoders.subject.images(pictures) @ self.own.T).mean(1)
        return subject, (self.encoders.prompt.images(pictures) * self.texts).sum(1)

    def products(self, strength: float, guides: Guides = NO_GUIDES) -> list[float]:
        """By prompt: both as shares, each at most one, multiplied, as the reports rank."""
        subject, prompt = self.fidelities(strength, guides)
        shares = (subject / self.real).clamp(max=1) * (prompt / self.plain).clamp(max=1)
        return [float(share) for share in shares]


def taught(folder: Path, encoders: Any) -> dict[str, Taught]:
    """The ready dog, and three held-out subjects by the default recipe, which the folder keeps."""
    ready = read(ASSETS / "adapters" / "crowned-dog.safetensors")
    paths = sorted((ASSETS / "examples" / "crowned-dog").glob("[0-9]*.png"))
    photos = [Image.open(path).convert("RGB") for path in paths]
    found = {"crowned dog": Taught(ready, photos, encoders)}
    for name in ("checkers", "duchess", "taxi"):
        photos = [draw_scene(scene, 128) for scene in SUBJECTS[name].scenes(5, SEED)]
        found[name] = Taught(adapter_of(name, folder), photos, encoders)
    return found


def trained_figures(folder: Path, encoders: Any) -> dict[str, list[float]]:
    """By prompt, each LoRA alone at its better weight, and with a photo beside it.

    "more": how much more that is, over the prompts of all.
    """
    found: dict[str, list[float]] = {}
    for name, each in taught(folder, encoders).items():
        by_strength = {strength: each.products(strength) for strength in STRENGTHS}
        strength = max(by_strength, key=lambda s: statistics.fmean(by_strength[s]))
        alone = found[f"{name}, alone at {strength:g}"] = by_strength[strength]
        for weight, reach in BESIDE:
            guides = Guides(Reference((each.photos[0],), weight, reach))
            beside = each.products(strength, guides)
            found[f"{name}, {weight:g} of {reach}"] = beside
            more = torch.tensor(beside) - torch.tensor(alone)
            found.setdefault(f"more by {weight:g} of {reach}", []).extend(more.tolist())
            print(name, strength, weight, reach, f"{float(more.mean()):+.3f}", flush=True)
    return found
