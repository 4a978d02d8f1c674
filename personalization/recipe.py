"""A recipe: every choice of a run that is not the concept, frozen, checked and shareable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from statistics import pvariance
from typing import Any, Literal, get_args, get_origin, get_type_hints

from personalization.errors import RecipeError

LowRankKind = Literal["lora", "loha", "lokr", "dora"]
PriorKind = Literal["images", "adapter_off"]

FIXED_BATCH_EVERY = 5  # steps between two looks at the fixed batch
WINDOW = 8  # looks
SETTLED = 0.15  # share of the variance


@dataclass(frozen=True)
class LearnedEmbedding:
    """Textual inversion (Gal et al. 2022): new rows of the embedding table, nothing else."""

    vectors: int = 1
    initializer_token: str = ""  # the word or words that the rows start from; empty: the class noun
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class LowRank:
    """An adapter of low rank on frozen weights: LoRA (Hu et al. 2021) and its kin, by PEFT."""

    kind: LowRankKind = "lora"
    rank: int = 8
    alpha: float = 8.0
    text_encoder: bool = False
    targets: tuple[str, ...] = ()  # endings of module names; empty: the base's own
    learned_embedding: LearnedEmbedding | None = (
        None  # pivotal tuning: a learned word together with the adapter
    )
    learning_rate: float = 1e-4
    text_learning_rate: float = 1e-4


@dataclass(frozen=True)
class Full:
    """The DreamBooth fine-tune (Ruiz et al. 2022): every weight of the denoiser."""

    text_encoder: bool = False
    learning_rate: float = 2e-6
    text_learning_rate: float = 2e-6


Method = LearnedEmbedding | LowRank | Full
_METHODS: dict[str, type[LearnedEmbedding] | type[LowRank] | type[Full]] = {
    "textual_inversion": LearnedEmbedding,
    "low_rank": LowRank,
    "full": Full,
}


_NAMES_IN_0_1 = {"initial": "initializer_token", "word": "learned_embedding"}


@dataclass(frozen=True)
class Prior:
    """What keeps the class as it was (Ruiz et al. 2022, section 3.3).

    ``images``: `images` pictures that the untouched base draws of the class.
    ``adapter_off``: the base without its adapter is the teacher on the class prompt; no pictures.
    """

    kind: PriorKind = "images"
    weight: float = 1.0  # lambda of the paper
    images: int = 100


@dataclass(frozen=True)
class Recipe:
    """How to teach. `steps` optimizer steps of `batch_size` photos (and as many of the class)."""

    method: Method
    steps: int
    batch_size: int = 1
    prior: Prior | None = None
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
    background: float = 0.1  # what it counts beside the subject, in photos that have a mask

    def check(self) -> Recipe:
        """Return self, or raise `RecipeError` with the setting, its limits and the remedy."""
        for name, value, low, high in self._limits():
            if not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value:g}; it must lie between {low:g} and {high:g}.", field=name
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
    def method_name(self) -> str:
        """``word``, ``lora``, ``loha``, ``lokr``, ``dora`` or ``full``."""
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
        data = asdict(self)
        tag = next(tag for tag, kind in _METHODS.items() if type(self.method) is kind)
        data["method"] = {"type": tag, **data["method"]}
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote; raises `RecipeError` on anything else."""
        try:
            data = dict(json.loads(text))
            method = dict(data.pop("method"))
            tag = method.pop("type")
            kind = _METHODS["textual_inversion" if tag == "word" else tag]
            method = {_NAMES_IN_0_1.get(key, key): value for key, value in method.items()}
            if method.get("learned_embedding"):
                inner = method["learned_embedding"].items()
                method["learned_embedding"] = _read(
                    LearnedEmbedding, {_NAMES_IN_0_1.get(key, key): value for key, value in inner}
                )
            if isinstance(method.get("targets"), list):
                method["targets"] = tuple(method["targets"])
            data["method"] = _read(kind, method)
            if data.get("prior"):
                data["prior"] = _read(Prior, data["prior"])
            return _read(cls, data).check()
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            raise RecipeError(
                "This is not a recipe that the app wrote. Save one here, or check the file.",
                field="recipe",
            ) from None


def _read(kind: type, data: dict[str, Any]) -> Any:
    """`data` as a `kind`, every setting known and of its own type. Raises `RecipeError`."""
    types = get_type_hints(kind)
    for name, value in data.items():
        if name not in types:
            raise RecipeError(f"The recipe names an unknown setting: {name[:40]}.", field="recipe")
        if not _is(value, types[name]):
            raise RecipeError(
                f"The recipe says {name} is {str(value)[:40]}, which is of the wrong kind.",
                field="recipe",
            )
    return kind(**data)


def _is(value: Any, expected: Any) -> bool:
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_origin(expected) is tuple:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if expected in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if expected is float else expected)
