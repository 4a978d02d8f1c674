"""Recipes by base: those of a first minute, and those of diffusers' example scripts beside them.

docs/RECIPES.md says where each figure is from, and what each recipe takes on four machines. Of the
first minutes none but the pocket's has been measured on weights that have learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe

Purpose = Literal["word", "subject", "full", "lokr"]
Recipes = dict[Purpose, Recipe]
"""A low-rank method without a recipe of its own goes by that of the subject."""

# A LoKr begins at a factor of zeros, and a product of two moves by less than either: at a LoRA's
# rate it has hardly learned when the run ends (docs/LOG.md has the figures).
POCKET_LOKR = 2e-2
_POCKET_LORA = LowRank(
    "lora", rank=8, alpha=8, text_encoder=True, learning_rate=3.6e-3, text_learning_rate=3.6e-3
)
_POCKET_SUBJECT = Recipe(
    _POCKET_LORA,
    steps=145,
    batch_size=2,
    prior=Prior("images", weight=1.0, images=16),
    warmup=10,
    decay=True,
    preview_every=70,
    checkpoint_every=25,
    framing="shape",
    annotate=True,
)

POCKET: Recipes = {
    "word": Recipe(
        LearnedEmbedding(vectors=3, learning_rate=8e-3),
        steps=150,
        batch_size=4,
        warmup=10,
        decay=True,
        weight_decay=0.0,
        preview_every=50,
        checkpoint_every=25,
        framing="shape",
        annotate=True,
    ),
    "subject": _POCKET_SUBJECT,
    "lokr": replace(
        _POCKET_SUBJECT,
        method=replace(
            _POCKET_LORA, kind="lokr", learning_rate=POCKET_LOKR, text_learning_rate=POCKET_LOKR
        ),
        steps=210,  # as it was measured
    ),
    "full": Recipe(
        Full(text_encoder=False, learning_rate=3e-4),
        steps=200,
        batch_size=4,
        prior=Prior("images", weight=1.0, images=32),
        warmup=10,
        preview_every=50,
        checkpoint_every=50,
        framing="shape",
    ),
}


@dataclass(frozen=True)
class Script:
    """What one of the example scripts' READMEs runs, where they differ."""

    word_steps: int
    word_rate: float
    lora_rate: float
    full_rate: float
    text_rate: float = 1e-4
    steps: int = 500  # of DreamBooth, of one photo each
    batch_size: int = 4  # of textual inversion
    warmup: int = 0


def as_the_scripts(script: Script) -> Recipes:
    """What the READMEs of diffusers' example scripts run.

    The class is kept by the base with its adapter off, which costs a forward in place of 100
    pictures; a full fine-tune has no adapter, and needs the pictures. The scripts accumulate four
    steps at 1024 px, where four pictures at once would take 30 GiB: there it is more steps of one.
    """
    shown: dict[str, Any] = {"preview_every": 100, "checkpoint_every": 50}
    return {
        "word": Recipe(
            LearnedEmbedding(vectors=1, learning_rate=script.word_rate),
            steps=script.word_steps,
            batch_size=script.batch_size,
            **shown,
        ),
        "subject": Recipe(
            LowRank(
                "lora",
                rank=4,
                alpha=4,
                learning_rate=script.lora_rate,
                text_learning_rate=script.text_rate,
            ),
            steps=script.steps,
            batch_size=1,
            prior=Prior("adapter_off", weight=1.0),
            warmup=script.warmup,
            **shown,
        ),
        "full": Recipe(
            Full(text_encoder=False, learning_rate=script.full_rate),
            steps=400,
            batch_size=1,
            prior=Prior("images", weight=1.0, images=100),
            preview_every=100,
            checkpoint_every=200,  # each writes the weights and two more of their size
        ),
    }


_LARGE = Script(2000, 5e-4, 1e-4, 1e-6, text_rate=5e-6, steps=1000, batch_size=1)
SD1_SCRIPTS = as_the_scripts(Script(3000, 5e-4, 1e-4, 2e-6))
SDXL_SCRIPTS = as_the_scripts(_LARGE)
SD3_SCRIPTS = as_the_scripts(replace(_LARGE, lora_rate=4e-4))
FLUX2_SCRIPTS = as_the_scripts(replace(_LARGE, text_rate=1e-4, warmup=100))
Z_IMAGE_SCRIPTS = FLUX2_SCRIPTS  # README_z_image.md has the same figures


def first_minute(
    scripts: Recipes, *, word_steps: int, steps: int, rate: float, batch_size: int
) -> Recipes:
    """Recipes that end while a visitor waits, from those of the scripts.

    A word: three vectors at 5e-3, ten times the script's rate and what the paper trained with (Gal
    et al. 2022, arXiv 2208.01618, 4.1), since the loss stops moving two to eight times sooner than
    the scripts do (DVAR, arXiv 2302.04841). A subject: rank 8; Adam moves a weight by about the
    rate at each step, so that fewer steps at a higher rate go as far. Both warm up and decay, which
    the higher rates ask for and the pocket's measured recipes do. Photos keep their shape, which
    the scripts crop.
    """
    word, subject = scripts["word"], scripts["subject"]
    assert isinstance(subject.method, LowRank)
    calm: dict[str, Any] = {"warmup": 20, "decay": True, "framing": "shape"}
    return {
        "full": replace(scripts["full"], framing="shape"),
        "word": replace(
            word,
            method=LearnedEmbedding(vectors=3, learning_rate=5e-3),
            steps=word_steps,
            batch_size=batch_size,
            weight_decay=0.0,
            preview_every=0,
            **calm,
        ),
        "subject": replace(
            subject,
            method=replace(subject.method, rank=8, alpha=8, learning_rate=rate),
            steps=steps,
            preview_every=0,
            **calm,
        ),
    }


# A visitor's day on ZeroGPU holds both (docs/RECIPES.md); 125 steps at 4e-4 are 500 at 1e-4.
SD1 = first_minute(SD1_SCRIPTS, word_steps=200, steps=125, rate=4e-4, batch_size=2)
SD2 = SD1
SDXL = first_minute(SDXL_SCRIPTS, word_steps=200, steps=110, rate=4e-4, batch_size=1)
SD3 = first_minute(SD3_SCRIPTS, word_steps=200, steps=200, rate=8e-4, batch_size=1)
FLUX2 = first_minute(FLUX2_SCRIPTS, word_steps=200, steps=200, rate=4e-4, batch_size=1)
Z_IMAGE = FLUX2
