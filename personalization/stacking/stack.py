"""A stack: several adapters, each with its weight, and how they are combined.

with applied(base, Stack((Slot(mug, 0.8), Slot(style, -0.3)))):
    pictures = draw(base, settings)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from personalization.adapters.adapter import Adapter
from personalization.bases.catalog import BaseSpec, has_family
from personalization.errors import AdapterError, StackError
from personalization.stacking.regions import Region, check_apart, cover_all

if TYPE_CHECKING:
    from personalization.adapters.module_keys import ModuleKey

MAX_WEIGHT = 2.0
MAX_SLOTS = 8

COMBINATIONS: dict[str, str] = {
    "sum": "Adds them up. For one or two adapters, or any that change different things.",
    "svd": "Adds them up and keeps the strongest directions. For many adapters whose sum is noisy.",
    "ties": "Keeps each one's largest changes and, where they pull apart, the majority's. "
    "For several adapters of one kind.",
    "dare": "Drops changes at random and scales up the rest. For those that wash each other out.",
    "orthogonal": "Takes from each what a heavier one changes already. "
    "For two subjects that blend into one.",
    "switch": "One adapter at each step, in turn. For many subjects in one picture.",
    "composite": "Every adapter at each step, their predictions averaged. "
    "For many subjects in one picture; takes as many times longer.",
}
IN_TIME = ("switch", "composite")  # combined while sampling, not in the weights


@dataclass(frozen=True)
class Slot:
    """An adapter and how much of it, in [-2, 2]: 0 is none of it, 1 is as it was trained.

    `text_weight` is that of its text-encoder part where it differs. `blocks` multiplies the weight
    in the parts of the denoiser whose path begins with the key ("up_blocks.1", "mid_block"); the
    longest key that fits counts.

    `library_name` is what the library knows it by, for a picture's record.

    A learned word has no half: a weight of 0 leaves it out, and any other gives the whole word.
    Its rows were trained from others that the file does not hold, so there is nothing to
    interpolate from; scaled rows are no word that the text encoder has seen.
    """

    adapter: Adapter
    weight: float = 1.0
    text_weight: float | None = None
    blocks: Mapping[str, float] = field(default_factory=dict, hash=False)
    library_name: str = ""
    region: Region | None = None  # where it counts; None: everywhere

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
    def is_full(self) -> bool:
        """Whether it is a full fine-tune: at 1 the base becomes it, at 0.5 it is half way."""
        return self.adapter.description.method == "full"

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.weight and not self.text_weight

    def check(self, spec: BaseSpec) -> None:
        """Raise `StackError` for a weight out of range, `AdapterError` for another family."""
        weights = [self.weight, self.text_weight or 0.0]
        weights += [self.weight * factor for factor in self.blocks.values()]
        for weight in weights:
            if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:  # NaN is outside as well
                raise StackError(
                    f"The weight of “{self.name}” is {weight:g}; it must lie between "
                    f"{-MAX_WEIGHT:g} and {MAX_WEIGHT:g}.",
                    field="weight",
                )
        if misfit := self.misfit(spec):
            known = has_family(self.adapter.description.family)
            remedy = "choose a base of its family, or" if known else "no base here is, so"
            raise AdapterError(f"{misfit}: {remedy} take it out.", field="adapter")

    def misfit(self, spec: BaseSpec) -> str:
        """What to say of an adapter that was made for another family than the base's, or nothing.

        Of one whose file does not tell its family, nothing is said before its layers are matched.
        """
        family = self.adapter.description.family
        if family in ("", spec.family):
            return ""
        return f"“{self.name}” was made for {family}, and {spec.title} is {spec.family}"


@dataclass(frozen=True)
class Stack:
    """Adapters with their weights, and how they are combined (see `COMBINATIONS`).

    `density` is what TIES and DARE keep, in (0, 1]; `rank` is what SVD keeps in each layer, 0 for
    the largest of the adapters' own.
    """

    slots: tuple[Slot, ...]
    combine: str = "sum"
    density: float = 0.5
    rank: int = 0

    def check(self, spec: BaseSpec) -> Stack:
        """Return self, or say what cannot be applied to that base.

        Raises `StackError` for a weight out of range, too many adapters, two words alike or an
        unknown combination, and `AdapterError` for an adapter of another family.
        """
        self._check_combination()
        check_count(len(self.slots))
        for slot in self.slots:
            slot.check(spec)
        _check_words(self.active)
        self._check_regions()
        full = next((slot for slot in self.active if slot.is_full), None)
        if full and self.combine in ("svd", "orthogonal"):
            raise StackError(
                f"“{full.name}” is a full fine-tune, which has no small rank to combine by "
                f"“{self.combine}”. Take another way, or extract it as a LoRA first.",
                field="combine",
            )
        return self

    def fitting(self, spec: BaseSpec) -> tuple[Stack, list[str]]:
        """Without the adapters of other families, and a sentence for each: the rest can be drawn.

        Raises what `check` does of the rest.
        """
        misfits = [slot.misfit(spec) for slot in self.slots]
        fitting = (slot for slot, why in zip(self.slots, misfits, strict=True) if not why)
        left_out = [f"{why}. It was left out." for why in misfits if why]
        return replace(self, slots=tuple(fitting)).check(spec), left_out

    @property
    def active(self) -> tuple[Slot, ...]:
        """The slots that change anything."""
        return tuple(slot for slot in self.slots if not slot.is_empty)

    @property
    def has_regions(self) -> bool:
        """Whether any adapter counts in a part of the picture alone."""
        return any(slot.region for slot in self.active)

    @property
    def passes(self) -> int:
        """How often the denoiser is asked at a step, at most: for each region, for each adapter."""
        if self.has_regions:
            return len(self.by_region())
        return max(1, len(self.active)) if self.combine == "composite" else 1

    def said(self, prompt: str) -> str:
        """The prompt and the regions' own, which may call what it does not."""
        regions = (slot.region for slot in self.active)
        return " ".join([prompt, *(region.prompt for region in regions if region)])

    def by_region(self) -> list[tuple[Region | None, Stack]]:
        """Each region with what counts there: its own adapters, and those that count everywhere.

        The last is what lies outside of all regions, where there is any.
        """
        regions = dict.fromkeys(slot.region for slot in self.active if slot.region)
        found: list[tuple[Region | None, Stack]] = [
            (region, self._inside(region)) for region in regions
        ]
        return found if cover_all(list(regions)) else [*found, (None, self._inside(None))]

    def _inside(self, region: Region | None) -> Stack:
        slots = (slot for slot in self.active if slot.region in (None, region))
        return replace(self, slots=tuple(replace(slot, region=None) for slot in slots))

    def _check_regions(self) -> None:
        if not self.has_regions:
            return
        if self.combine in IN_TIME:
            raise StackError(
                f"“{self.combine}” changes the weights from step to step, and a region from place "
                "to place: they do not go together. Take another way, or let every adapter count "
                "everywhere.",
                field="combine",
            )
        placed = [(slot.name, slot.region) for slot in self.active if slot.region]
        for name, region in placed:
            region.check(name)
        check_apart(placed)

    def _check_combination(self) -> None:
        if self.combine not in COMBINATIONS:
            raise StackError(
                f"There is no way to combine called “{self.combine[:20]}”. "
                f"Choose one of {', '.join(COMBINATIONS)}.",
                field="combine",
            )
        if not 0 < self.density <= 1 or self.rank < 0:
            raise StackError(
                f"The density is {self.density:g} and the rank {self.rank}; the density must lie "
                "above 0 and up to 1, and the rank must not be negative.",
                field="combine",
            )


def check_count(adapters: int) -> None:
    """Raise `StackError` for more adapters than go together; best before any of them is read."""
    if adapters > MAX_SLOTS:
        raise StackError(
            f"There are {adapters} adapters; at most {MAX_SLOTS} go together. Take some out.",
            field="stack",
        )


def _check_words(slots: Sequence[Slot]) -> None:
    """Raise `StackError` where two slots define the same word."""
    from personalization.adapters.adapter_deltas import learned_rows  # brings torch, for seconds

    by_word: dict[str, Slot] = {}
    for slot in slots:
        if not learned_rows(slot.adapter):
            continue
        word = slot.adapter.description.placeholder_token.lower()
        other = by_word.setdefault(word, slot)
        if other is not slot:
            raise StackError(
                f"“{other.name}” and “{slot.name}” both define the word “{word}”. "
                "Set the weight of one to 0, or take it out.",
                field="stack",
            )
