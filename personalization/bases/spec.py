"""The catalog: each base as a frozen entry, name to spec. Nothing here loads anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from personalization.recipe import Full, LowRank, Prior, Recipe, Word

ASSETS = Path(__file__).resolve().parents[2] / "assets"

Purpose = Literal["word", "subject", "full"]


@dataclass(frozen=True)
class Sampling:
    """How the base draws when nobody says otherwise."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class BaseSpec:
    """What the app needs to know of a base before it is loaded."""

    name: str
    title: str
    family: str  # adapters are for a family: the same names and shapes
    module: str  # the file in bases/ that loads it
    source: str  # a folder, or a repository on the Hub
    revision: str | None
    licence: str
    size: int  # native pixels, a side
    sampling: Sampling
    targets: tuple[str, ...]  # module-name endings that a low-rank adapter adapts by default
    text_targets: tuple[str, ...]
    recipes: dict[Purpose, Recipe] = field(hash=False)
    judge: str = "pocket"
    gated: bool = False


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")

CATALOG: dict[str, BaseSpec] = {
    "pocket": BaseSpec(
        name="pocket",
        title="Pocket, a Stable Diffusion in miniature",
        family="pocket",
        module="unet",
        source=str(ASSETS / "pocket"),
        revision=None,
        licence="apache-2.0",
        size=128,
        sampling=Sampling(steps=20, guidance=4.0),
        targets=ATTENTION,
        text_targets=CLIP_ATTENTION,
        recipes={
            "word": Recipe(
                Word(vectors=1, learning_rate=1e-2),
                steps=200,
                batch_size=4,
                warmup=10,
                decay=True,
                weight_decay=0.0,
                preview_every=50,
                checkpoint_every=25,
            ),
            "subject": Recipe(
                LowRank(
                    "lora",
                    rank=8,
                    alpha=8,
                    text_encoder=True,
                    learning_rate=1e-3,
                    text_learning_rate=3e-4,
                ),
                steps=200,
                batch_size=4,
                prior=Prior("images", weight=1.0, images=32),
                warmup=10,
                decay=True,
                preview_every=50,
                checkpoint_every=25,
            ),
            "full": Recipe(
                Full(text_encoder=False, learning_rate=5e-5),
                steps=200,
                batch_size=4,
                prior=Prior("images", weight=1.0, images=32),
                warmup=10,
                preview_every=50,
                checkpoint_every=50,
            ),
        },
    ),
}
