"""A recipe: every choice of a run that is not the concept, frozen, checked and shareable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from statistics import pvariance
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from personalization.errors import RecipeError

FORMAT: Final = 2  # of a recipe's file
_KNOWN_ONLY = ConfigDict(extra="forbid")  # a setting that is not known is refused
_TYPE_IN_0_1 = "word"  # of a learned embedding

LowRankKind = Literal["lora", "loha", "lokr", "dora"]
PriorKind = Literal["images", "adapter_off"]
# Of the photos: the square in the middle, their own shape, or what is around the subject.
Framing = Literal["crop", "shape", "subject"]

FIXED_BATCH_EVERY = 5  # steps between two looks at the fixed batch
WINDOW = 8  # looks
SETTLED = 0.15  # share of the variance


def _since_0_1(name: Any) -> Any:
    return "textual_inversion" if name == _TYPE_IN_0_1 else name


@dataclass(frozen=True)
class LearnedEmbedding:
    """Textual inversion (Gal et al. 2022): new rows of the embedding table, nothing else."""

    __pydantic_config__ = _KNOWN_ONLY

    vectors: int = 1
    # The word or words that the rows start from; empty: the class noun.
    initializer_token: Annotated[
        str, Field(validation_alias=AliasChoices("initializer_token", "initial"))
    ] = ""
    learning_rate: float = 5e-3
    type: Annotated[Literal["textual_inversion"], BeforeValidator(_since_0_1)] = "textual_inversion"


@dataclass(frozen=True)
class LowRank:
    """An adapter of low rank on frozen weights: LoRA (Hu et al. 2021) and its kin, by PEFT."""

    __pydantic_config__ = _KNOWN_ONLY

    kind: LowRankKind = "lora"
    rank: int = 8
    alpha: float = 8.0
    text_encoder: bool = False
    targets: tuple[str, ...] = ()  # endings of module names; empty: the base's own
    # Pivotal tuning: a learned word together with the adapter.
    learned_embedding: Annotated[
        LearnedEmbedding | None,
        Field(validation_alias=AliasChoices("learned_embedding", "word")),
    ] = None
    learning_rate: float = 1e-4
    text_learning_rate: float = 1e-4
    type: Literal["low_rank"] = "low_rank"


@dataclass(frozen=True)
class Full:
    """The DreamBooth fine-tune (Ruiz et al. 2022): every weight of the denoiser."""

    __pydantic_config__ = _KNOWN_ONLY

    text_encoder: bool = False
    learning_rate: float = 2e-6
    text_learning_rate: float = 2e-6
    type: Literal["full"] = "full"


def _type_of(method: Any) -> str:
    """Which kind of method this is, or is said to be in a file."""
    name = method.get("type") if isinstance(method, dict) else getattr(method, "type", None)
    return str(_since_0_1(name))


Method = Annotated[
    Annotated[LearnedEmbedding, Tag("textual_inversion")]
    | Annotated[LowRank, Tag("low_rank")]
    | Annotated[Full, Tag("full")],
    Discriminator(_type_of),
]


@dataclass(frozen=True)
class Prior:
    """What keeps the class as it was (Ruiz et al. 2022, section 3.3).

    ``images``: `images` pictures that the untouched base draws of the class.
    ``adapter_off``: the base without its adapter is the teacher on the class prompt; no pictures.
    """

    __pydantic_config__ = _KNOWN_ONLY

    kind: PriorKind = "images"
    weight: float = 1.0  # lambda of the paper
    images: int = 100
    # Of a value of their latents. In 8 those of the pocket's own classes come with it; 32 is what
    # files of before 0.3 mean, which say nothing of it.
    bits: Literal[8, 32] = 8


def _since_0_3(prior: Any) -> Any:
    silent = isinstance(prior, dict) and "bits" not in prior
    return prior | {"bits": 32} if silent else prior


@dataclass(frozen=True)
class Recipe:
    """How to teach. `steps` optimizer steps of `batch_size` photos (and as many of the class)."""

    __pydantic_config__ = _KNOWN_ONLY

    method: Method
    steps: int
    batch_size: int = 1
    prior: Annotated[Prior | None, BeforeValidator(_since_0_3)] = None
    warmup: int = 0
    decay: bool = False  # cosine to a tenth over the run; otherwise constant after the warm-up
    max_grad_norm: float = 1.0
    weight_decay: float = 1e-2
    flip: bool = False  # mirrored photos as well; wrong where the subject has a left and a right
    seed: int = 0
    preview_every: int = 0  # steps; 0: none but the last
    checkpoint_every: int = 50
    gradient_checkpointing: bool = False  # compute activations twice in place of keeping them
    stop_early: bool = False  # end when the loss on one fixed batch has settled (see `settled`)
    # The base looks at the photos first: of a thing it finds where it is in photos without a mask,
    # of a style it says what pictures without a caption show, where it has `BaseSpec.classes`.
    annotate: bool = False
    background: float = 0.1  # what it counts beside the subject, in photos that have a mask
    resolution: int = 0  # pixels to a side of the photos, as trained on; 0: the base's own
    framing: Framing = "crop"  # see `data.frames`
    format: Literal[2] = FORMAT

    def check(self) -> Recipe:
        """Return self, or raise `RecipeError` with the setting, its limits and the remedy."""
        for name, value, low, high in self._limits():
            if not low <= value <= high:
                figure = f"{value:g}" if value < 1e100 else "far too large"
                raise RecipeError(
                    f"{name} is {figure}; it must lie between {low:g} and {high:g}.", field=name
                )
        if self.resolution and (self.resolution % 32 or not 64 <= self.resolution <= 2048):
            raise RecipeError(
                f"resolution is {self.resolution}; it must be a multiple of 32 from 64 to 2048, or "
                "0 for the base’s own.",
                field="resolution",
            )
        if isinstance(self.method, LearnedEmbedding) and self.prior is not None:
            raise RecipeError(
                "A learned word changes no weights, so nothing of the class can be lost: "
                "switch prior preservation off.",
                field="prior",
            )
        if isinstance(self.method, Full) and self.prior and self.prior.kind == "adapter_off":
            raise RecipeError(
                "A full fine-tune has no adapter to switch off: "
                "use class images for prior preservation.",
                field="prior",
            )
        return self

    def size(self, own: int) -> int:
        """Pixels to a side, on a base that draws `own`."""
        return self.resolution or own

    def _limits(self) -> list[tuple[str, float, float, float]]:
        limits = [
            ("steps", self.steps, 1, 20_000),
            ("batch size", self.batch_size, 1, 64),
            ("seed", self.seed, 0, 2**32 - 1),
            ("learning rate", self.method.learning_rate, 1e-8, 1.0),
            ("warm-up", self.warmup, 0, 20_000),
            ("gradient norm", self.max_grad_norm, 1e-6, 1e6),
            ("weight decay", self.weight_decay, 0, 1),
            ("background", self.background, 0, 1),
            ("steps between previews", self.preview_every, 0, 20_000),
            ("steps between checkpoints", self.checkpoint_every, 1, 20_000),
        ]
        if isinstance(self.method, LowRank):
            limits += [("rank", self.method.rank, 1, 256), ("alpha", self.method.alpha, 0.01, 1024)]
        if not isinstance(self.method, LearnedEmbedding) and self.method.text_encoder:
            limits.append(("text learning rate", self.method.text_learning_rate, 1e-8, 1.0))
        if self.learned_embedding:
            limits.append(("vectors", self.learned_embedding.vectors, 1, 16))
            limits.append(
                (
                    "learned embedding’s learning rate",
                    self.learned_embedding.learning_rate,
                    1e-8,
                    1.0,
                )
            )
        if self.prior:
            limits.append(("prior weight", self.prior.weight, 0, 10))
            if self.prior.kind == "images":
                limits.append(("class images", self.prior.images, 1, 1000))
        return limits

    @property
    def learned_embedding(self) -> LearnedEmbedding | None:
        """The word that is learned, alone or beside an adapter (pivotal tuning), or None."""
        if isinstance(self.method, LowRank):
            return self.method.learned_embedding
        return self.method if isinstance(self.method, LearnedEmbedding) else None

    @property
    def trains_weights(self) -> bool:
        """Whether more than a word is learned."""
        return not isinstance(self.method, LearnedEmbedding)

    @property
    def method_name(self) -> str:
        """``textual_inversion``, ``lora``, ``loha``, ``lokr``, ``dora`` or ``full``."""
        if isinstance(self.method, LowRank):
            return self.method.kind
        return "textual_inversion" if isinstance(self.method, LearnedEmbedding) else "full"

    def learning_rate_factor(self, step: int) -> float:
        """The schedule: a pure function of the step (from 0)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.decay:
            return 1.0
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.1 + 0.45 * (1 + cos(pi * progress))

    def settled(self, fixed_batch_losses: Sequence[float]) -> bool:
        """Whether the run may end: the loss on a fixed batch moves no more.

        DVAR (Voronov et al. 2023, arXiv 2302.04841): the running loss is noisy because noise and
        timestep are drawn anew; on a fixed batch it is not, and when the variance of its last
        `WINDOW` values is less than `SETTLED` of the variance of all, it has converged.
        """
        if not self.stop_early or len(fixed_batch_losses) < 2 * WINDOW:
            return False
        overall = pvariance(fixed_batch_losses)
        return overall > 0 and pvariance(fixed_batch_losses[-WINDOW:]) / overall < SETTLED

    def changed(self, **changes: Any) -> Recipe:
        """A copy with some settings changed, checked."""
        return replace(self, **changes).check()

    def to_json(self) -> str:
        """The recipe as a file that others can use."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote, now or in 0.1.0; raises `RecipeError` on anything else."""
        try:
            recipe = _RECIPE.validate_json(text, strict=True)
        except ValidationError as error:
            raise RecipeError(_what_is_wrong(error), field="recipe") from None
        return recipe.check()


_RECIPE = TypeAdapter(Recipe)


def _what_is_wrong(error: ValidationError) -> str:
    """The first fault in a person's words, by the name of the setting."""
    faults = error.errors(include_url=False)
    names = [[part for part in fault["loc"] if isinstance(part, str)] for fault in faults]
    settings = [path[-1][:40] if path else "" for path in names]
    if "format" in settings:
        return "This recipe was saved by a later version of the app. Update the app, or teach anew."
    fault, setting = faults[0], settings[0]
    if not setting or fault["type"].startswith(("dataclass", "union_tag", "json")):
        return "This is not a recipe that the app wrote. Save one here, or check the file."
    if fault["type"] == "unexpected_keyword_argument":
        return f"The recipe names an unknown setting: {setting}."
    if fault["type"] == "missing":
        return f"The recipe does not say {setting}. Save one here, or check the file."
    return f"The recipe says {setting} is {str(fault['input'])[:40]}, which is of the wrong kind."
