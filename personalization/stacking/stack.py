"""A stack: several adapters at once, each with its weight, applied to a base and taken off again.

    with applied(base, Stack((Slot(mug, 0.8), Slot(style, -0.3)))):
        pictures = draw(base, settings)

Inside, each touched weight is W0 + what the adapters add up to, computed anew from W0; outside, W0
is back. W0 is never written to: a parameter is pointed at another tensor for a while, so nothing
drifts, however often a stack is applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.weight_deltas import FULL, WORD, ModuleKey, learned_rows
from personalization.bases.base import Base, TextEncoder
from personalization.bases.catalog import BaseSpec
from personalization.bases.learned_embedding import ExtendedEmbedding, extended_tokenizer
from personalization.errors import AdapterError, StackError
from personalization.stacking import merge, merged_weights

MAX_WEIGHT = 2.0
MAX_SLOTS = 8


@dataclass(frozen=True)
class Slot:
    """An adapter and how much of it, in [-2, 2]: 0 is none of it, 1 is as it was trained.

    `text_weight` is that of its text-encoder part where it differs. `blocks` multiplies the weight
    in the parts of the denoiser whose path begins with the key ("up_blocks.1", "mid_block"); the
    longest key that fits counts.

    A learned word has no half: a weight of 0 leaves it out, and any other gives the whole word.
    Its rows were trained from others that the file does not hold, so there is nothing to
    interpolate from; scaled rows are no word that the text encoder has seen.
    """

    adapter: Adapter
    weight: float = 1.0
    text_weight: float | None = None
    blocks: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        description = self.adapter.description
        return description.title or description.trigger or description.method

    def weight_at(self, place: ModuleKey) -> float:
        """The weight for one module."""
        if place.component.startswith("text_encoder"):
            return self.weight if self.text_weight is None else self.text_weight
        keys = [k for k in self.blocks if f"{place.path}.".startswith(f"{k}.")]
        return self.weight * (self.blocks[max(keys, key=len)] if keys else 1.0)

    @property
    def whole(self) -> bool:
        """Whether it is a full fine-tune: at 1 the base becomes it, at 0.5 it is half way."""
        return self.adapter.description.method == FULL

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.weight and not self.text_weight


@dataclass(frozen=True)
class Stack:
    """Adapters with their weights, and how they are combined (see `merge.COMBINATIONS`).

    `density` is what TIES and DARE keep, in (0, 1]; `rank` is what SVD keeps in each layer, 0 for
    the largest of the adapters' own; `seed` is that of DARE's choice.
    """

    slots: tuple[Slot, ...]
    combine: str = "sum"
    density: float = 0.5
    rank: int = 0
    seed: int = 0

    def check(self, spec: BaseSpec) -> Stack:
        """Return self, or say what cannot be applied to that base.

        Raises `StackError` for a weight out of range, too many adapters, two words alike or an
        unknown combination, and `AdapterError` for an adapter of another family.
        """
        if self.combine not in merge.COMBINATIONS:
            raise StackError(
                f"There is no way to combine called “{self.combine[:20]}”. "
                f"Choose one of {', '.join(merge.COMBINATIONS)}.",
                field="combine",
            )
        if not 0 < self.density <= 1 or self.rank < 0:
            raise StackError(
                f"The density is {self.density:g} and the rank {self.rank}; the density must lie "
                "above 0 and up to 1, and the rank must not be negative.",
                field="combine",
            )
        if len(self.slots) > MAX_SLOTS:
            raise StackError(
                f"There are {len(self.slots)} adapters; at most {MAX_SLOTS} go together. "
                "Take some out.",
                field="stack",
            )
        for slot in self.slots:
            factors = [slot.weight, slot.text_weight or 0.0]
            factors += [slot.weight * factor for factor in slot.blocks.values()]
            for weight in factors:
                if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:  # NaN is outside as well
                    raise StackError(
                        f"The weight of “{slot.name}” is {weight:g}; it must lie between "
                        f"{-MAX_WEIGHT:g} and {MAX_WEIGHT:g}.",
                        field="weight",
                    )
            family = slot.adapter.description.family
            if family and family != spec.family:
                raise AdapterError(
                    f"“{slot.name}” was made for {family}, and {spec.title} is {spec.family}: "
                    "choose a base of its family, or take it out.",
                    field="adapter",
                )
        _check_words(self.active)
        whole = next((slot for slot in self.active if slot.whole), None)
        if whole and self.combine in ("svd", "orthogonal"):
            raise StackError(
                f"“{whole.name}” is a full fine-tune, which has no small rank to combine by "
                f"“{self.combine}”. Take another way, or extract it as a LoRA first.",
                field="combine",
            )
        return self

    @property
    def active(self) -> tuple[Slot, ...]:
        """The slots that change anything."""
        return tuple(slot for slot in self.slots if not slot.empty)


@contextmanager
def applied(base: Base, stack: Stack) -> Iterator[None]:
    """While it lasts, the base draws with the stack; afterwards it is as it was, bit for bit.

    The base's lock is held throughout, so that others wait with what they ask for. "switch" and
    "composite" (Zhong et al. 2024, arXiv 2402.16843) change the denoiser alone from step to step;
    text encoders, which speak once before the first step, get the plain sum.

    Raises `StackError`, `AdapterError` or `ConceptError` before anything is touched.
    """
    with base.lock, ExitStack() as undo:
        stack.check(base.spec)
        layers = merged_weights.layers(base, stack)
        per_step_variants: list[merged_weights.Layers] = []
        if stack.combine in merge.IN_TIME:
            per_step_variants = merged_weights.per_step_variants(stack, layers)
            layers = {p: parts for p, parts in layers.items() if parts[0].is_text}
        for slot in stack.active:
            rows = learned_rows(slot.adapter)
            for encoder in base.text_encoders:
                if encoder.name in rows:
                    undo.enter_context(_word(encoder, slot, rows[encoder.name]))
        undo.enter_context(_weights(merged_weights.values(base, layers, stack)))
        if per_step_variants:
            variants = [merged_weights.values(base, turn, stack) for turn in per_step_variants]
            in_time = _switched if stack.combine == "switch" else _averaged
            undo.enter_context(in_time(base.denoiser, variants))
        yield


def suggest(stack: Stack) -> tuple[float, ...]:
    """Weights with which the sum changes the base no more than the strongest adapter alone would.

    All weights are lowered by one factor, so that their balance stays, until the norm of the
    weighted sum, over all layers, is at most that of the largest single adapter at its recommended
    strength. Weights that keep to it already are given back as they are, and so are those of
    learned words, which have no half and add to no sum.
    """
    if not stack.slots:
        return ()
    table = merge.gram([slot.adapter for slot in stack.slots])
    weights = torch.tensor([slot.weight for slot in stack.slots], dtype=torch.float64)
    strengths = [abs(slot.adapter.description.strength) for slot in stack.slots]
    bound = max(s * math.sqrt(float(n)) for s, n in zip(strengths, table.diagonal(), strict=True))
    size = math.sqrt(max(0.0, float(weights @ table @ weights)))
    factor = min(1.0, bound / size) if size else 1.0
    return tuple(
        round(float(weight) * (factor if size else 1.0), 3)
        for weight, size in zip(weights, table.diagonal().tolist(), strict=True)
    )


@dataclass(frozen=True)
class Merged:
    """A stack as one adapter, and how much of its change was lost on the way, relatively."""

    adapter: Adapter
    residual: float


def merged(base: Base, stack: Stack, rank: int = 0, title: str = "") -> Merged:
    """The stack as one LoRA, which at weight 1 changes `base` as the stack does.

    A plain sum is exact, factors laid side by side, but for DoRA, whose change has no small rank.
    Every other combination, and any `rank` that is asked for, goes through an SVD of each layer's
    change, cut at `rank` (0: the adapters' own ranks added up); `residual` is the norm of what was
    cut off, over all layers, as a part of the whole. Raises `StackError` for what no one file can
    hold: two words, a full fine-tune, a combination in time, or no change at all.
    """
    stack.check(base.spec)
    trained = [slot for slot in stack.active if learned_rows(slot.adapter)]
    reason = ""
    if len(trained) > 1:
        reason = "two learned words"
    elif any(slot.whole for slot in stack.active):
        reason = "a full fine-tune, which has no small rank: extract it as a LoRA first"
    elif stack.combine in merge.IN_TIME:
        reason = f"“{stack.combine}”, which is in time"
    if reason:
        raise StackError(f"One file cannot hold {reason}. Keep the stack itself.", field="stack")
    tensors: dict[str, Tensor] = {}
    lost = whole = 0.0
    with base.lock, torch.no_grad():
        for parameter, parts in merged_weights.layers(base, stack).items():
            up, down, cut, size = merged_weights.factored(base, parameter, parts, stack, rank)
            lost, whole = lost + cut, whole + size
            ones, kernel = [1] * (parameter.dim() - 2), parameter.shape[1:]
            tensors[f"{parts[0].place}.lora_A.weight"] = down.reshape(-1, *kernel)
            tensors[f"{parts[0].place}.lora_B.weight"] = up.reshape(*up.shape, *ones)
    if not tensors:
        raise StackError(
            "The stack changes no weights, so there is nothing to merge. "
            "Add a LoRA or its kin, or raise a weight.",
            field="stack",
        )
    called = trained or [
        slot for slot in stack.active if slot.adapter.description.placeholder_token
    ]
    source = called[0].adapter.description if len(called) == 1 else Description("lora", "")
    for slot in trained:
        tensors |= {
            n if n.startswith(WORD) else f"{WORD}{n}": t
            for n, t in slot.adapter.tensors.items()
            if n.startswith(WORD) or slot.adapter.description.method == "textual_inversion"
        }
    description = Description(
        "lora",
        base.spec.family,
        base=base.spec.name,
        fingerprint=base.fingerprint,
        placeholder_token=source.placeholder_token,
        class_noun=source.class_noun,
        kind=source.kind,
        rank=max(t.shape[0] for n, t in tensors.items() if n.endswith("lora_A.weight")),
        title=title or " + ".join(slot.name for slot in stack.active),
        recipe={"merged": [record(slot) for slot in stack.slots], "combine": stack.combine},
    )
    return Merged(Adapter(description, tensors), math.sqrt(lost / whole) if whole else 0.0)


def record(slot: Slot) -> dict[str, Any]:
    """What a picture's record says of an adapter in the stack."""
    return {
        "name": slot.name,
        "sha256": slot.adapter.sha256,
        "weight": slot.weight,
        "text_weight": slot.text_weight,
        "blocks": dict(slot.blocks),
    }


def _check_words(slots: tuple[Slot, ...]) -> None:
    trained: dict[str, Slot] = {}
    for slot in slots:
        placeholder_token = slot.adapter.description.placeholder_token.lower()
        if not learned_rows(slot.adapter):
            continue
        if placeholder_token in trained:
            raise StackError(
                f"“{trained[placeholder_token].name}” and “{slot.name}” both define the word "
                f"“{placeholder_token}”. "
                "Set the weight of one to 0, or take it out.",
                field="stack",
            )
        trained[placeholder_token] = slot


@contextmanager
def _weights(values: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    originals = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, original in originals.items():
            parameter.data = original


@contextmanager
def _word(encoder: TextEncoder, slot: Slot, rows: Tensor) -> Iterator[None]:
    model: Any = encoder.model
    table, tokenizer = model.get_input_embeddings(), encoder.tokenizer
    extended = extended_tokenizer(tokenizer, slot.adapter.description.placeholder_token, len(rows))
    if rows.shape[-1] != table.weight.shape[-1]:
        raise AdapterError(
            f"The word “{slot.name}” has {rows.shape[-1]} numbers to a vector, and this base "
            f"reads {table.weight.shape[-1]}: it was made for another family.",
            field="adapter",
        )
    rows = rows.to(table.weight.device, table.weight.dtype)
    try:
        encoder.tokenizer = extended
        model.set_input_embeddings(ExtendedEmbedding(table, rows, first=len(tokenizer)))
        yield
    finally:
        encoder.tokenizer = tokenizer
        model.set_input_embeddings(table)


@contextmanager
def _switched(
    denoiser: nn.Module, variants: Sequence[Mapping[nn.Parameter, Tensor]]
) -> Iterator[None]:
    """LoRA Switch: one variant of the weights at each step, in turn.

    A step is told by its timestep: as long as that is the same, so is the variant; when it rises, a
    new picture has begun, with the first variant.
    """
    forward = denoiser.forward
    turn, last = 0, -math.inf

    def switched(*args: Any, **kwargs: Any) -> Any:
        nonlocal turn, last
        # The UNets' pipelines give it by place, those of the transformers by name.
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        now = float(torch.as_tensor(timestep).max())
        turn = turn + (now < last) if now <= last else 0
        last = now
        with _weights(variants[turn % len(variants)]):
            return forward(*args, **kwargs)

    with _forward(denoiser, switched):
        yield


@contextmanager
def _averaged(
    denoiser: nn.Module, variants: Sequence[Mapping[nn.Parameter, Tensor]]
) -> Iterator[None]:
    """LoRA Composite: the mean of what the denoiser says with each variant of the weights.

    The paper averages predictions after guidance; guidance is linear in them, so that its mean is
    the guided mean, and the pipeline's own guidance does the rest. (Rescaled guidance is not.)
    """
    forward = denoiser.forward

    def averaged(*args: Any, **kwargs: Any) -> Any:
        answers = []
        for variant in variants:
            with _weights(variant):
                answers.append(forward(*args, **kwargs))
        mean = torch.stack([answer[0] for answer in answers]).mean(0)
        return (mean,) if isinstance(answers[0], tuple) else type(answers[0])(mean)

    with _forward(denoiser, averaged):
        yield


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, `module` answers by `forward`."""
    before = module.__dict__.get("forward")  # what offloading may have put over the class's own
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before
