"""What guides a picture beside its prompt: a reference picture, a map of where things go.

Both are adapters that somebody has trained; `guiding` draws with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import (
    LOOKS_ITSELF,
    READ_REFERENCES,
    REFERENCES,
    StructureSpec,
    reference_spec,
    structure_spec,
)
from personalization.data.image_file import size_words
from personalization.data.maps import MAPS, MapKind, fitted
from personalization.errors import PersonalizationError, RecipeError

Reach = Literal["all", "style", "layout"]
REACHES: dict[Reach, str] = {
    "all": "Everything that the picture shows.",
    "style": "How it is drawn, and less of what is on it (Wang et al. 2024, arXiv 2404.02733).",
    "layout": "Where things are, and less of how they look.",
}
MAX_REFERENCES = 4
MAX_WEIGHT = 1.5
BESIDE_A_SUBJECT = 0.15  # a reference's weight where a subject was taught: more takes from it
SHAPE = 0.05  # by which a map's shape may differ from that of what is drawn


@dataclass(frozen=True)
class Reference:
    """Pictures to look at, how much, and which layers see them."""

    pictures: tuple[Image.Image, ...]
    weight: float = 1.0
    reach: Reach = "all"
    keys: tuple[str, ...] = ()  # what the visitor's workspace finds them by again
    by: str = ""  # the name of who looks, where its family has several; empty: the first

    def check(self) -> Reference:
        """Return self, or raise `RecipeError` with the field and its limits."""
        if not 1 <= len(self.pictures) <= MAX_REFERENCES:
            raise RecipeError(
                f"There are {len(self.pictures)} reference pictures; one to {MAX_REFERENCES} "
                "are looked at together.",
                field="reference",
            )
        _within("reference weight", self.weight, MAX_WEIGHT)
        if self.reach not in REACHES:
            raise RecipeError(
                f"A reference reaches {', '.join(REACHES)}, not “{str(self.reach)[:20]}”.",
                field="reach",
            )
        return self


@dataclass(frozen=True)
class Structure:
    """A picture whose map is followed: how strongly, and up to which share of the steps."""

    picture: Image.Image
    kind: MapKind = "edges"
    weight: float = 1.0
    until: float = 1.0
    is_map: bool = False  # the picture is the map itself: drawn, or made elsewhere
    key: str = ""  # what the visitor's workspace finds it by again
    by: str = ""  # the repository of who follows it; empty: the family's first

    def check(self) -> Structure:
        """Return self, or raise `RecipeError` with the field and its limits."""
        _within("structure weight", self.weight, MAX_WEIGHT)
        _within("until", self.until, 1.0)
        if self.kind not in MAPS:
            raise RecipeError(
                f"A structure is {' or '.join(MAPS)}, not “{str(self.kind)[:20]}”.", field="map"
            )
        return self

    def spec(self, base: BaseSpec) -> StructureSpec:
        """Who follows it on that base. Raises `PersonalizationError` where none does."""
        return structure_spec(base.family, self.kind, self.by)

    def fitted(self, size: tuple[int, int]) -> Image.Image:
        """The picture in the size that is drawn, (width, height): cropped around its middle.

        Raises `PersonalizationError` for a map of another shape: of it, nothing may go.
        """
        width, height = self.picture.size
        if self.is_map and abs(width * size[1] / (height * size[0]) - 1) > SHAPE:
            raise PersonalizationError(
                f"The map is {size_words(self.picture)} pixels, and what is drawn "
                f"{size[0]} × {size[1]}: crop the map to that shape.",
                field="structure",
            )
        return fitted(self.picture, size)


@dataclass(frozen=True)
class Guides:
    """What guides a picture; nothing does by default."""

    reference: Reference | None = None
    structure: Structure | None = None

    def check(self, spec: BaseSpec) -> Guides:
        """Return self, or raise `RecipeError`, or what is missing for that base."""
        if self.reference:
            _check_reference(self.reference.check(), spec)
        if self.structure:
            self.structure.check().spec(spec)
        return self


NO_GUIDES = Guides()


def without_training(picture: Image.Image, kind: str, key: str = "") -> Guides:
    """One photo in place of a training; of a style, how it is drawn and not what is on it."""
    return Guides(Reference((picture,), 1.0, "style" if kind == "style" else "all", (key,)))


def _within(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # NaN is outside as well
        raise RecipeError(f"{name} is {value:g}; it must lie between 0 and {most:g}.", field=name)


def _check_reference(reference: Reference, spec: BaseSpec) -> None:
    if spec.family not in READ_REFERENCES:
        raise PersonalizationError(
            f"{spec.title} has nothing here that reads a reference picture. Take it out, "
            f"or choose a base of {' or '.join(READ_REFERENCES)}.",
            field="reference",
        )
    if spec.family in REFERENCES:
        reference_spec(spec.family, reference.by)
    if spec.family in LOOKS_ITSELF and (reference.weight, reference.reach) != (1.0, "all"):
        raise PersonalizationError(
            f"{spec.title} looks at a reference whole: give it the weight 1 and all of its layers.",
            field="reference",
        )
