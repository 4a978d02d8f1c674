"""What guides a picture beside its prompt: a reference picture, a map of where things go.

Both are adapters that somebody has trained; `guiding` draws with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from personalization.bases.catalog import BaseSpec
from personalization.bases.guides import REFERENCES, STRUCTURES
from personalization.data.maps import MAPS, MapKind, map_of
from personalization.errors import PersonalizationError, RecipeError

Reach = Literal["all", "style", "layout"]
REACHES: dict[Reach, str] = {
    "all": "Everything that the picture shows.",
    "style": "How it is drawn, and less of what is on it (Wang et al. 2024, arXiv 2404.02733).",
    "layout": "Where things are, and less of how they look.",
}
MAX_REFERENCES = 4
MAX_WEIGHT = 1.5


@dataclass(frozen=True)
class Reference:
    """Pictures to look at, how much, and which layers see them."""

    pictures: tuple[Image.Image, ...]
    weight: float = 1.0
    reach: Reach = "all"
    keys: tuple[str, ...] = ()  # what the visitor's workspace finds them by again

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

    def check(self) -> Structure:
        """Return self, or raise `RecipeError` with the field and its limits."""
        _within("structure weight", self.weight, MAX_WEIGHT)
        _within("until", self.until, 1.0)
        if self.kind not in MAPS:
            raise RecipeError(
                f"A structure is {' or '.join(MAPS)}, not “{str(self.kind)[:20]}”.", field="map"
            )
        return self

    def map(self, size: tuple[int, int]) -> Image.Image:
        """The map in that size, (width, height); mode L."""
        picture = self.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        return picture.convert("L") if self.is_map else map_of(self.kind, picture)


@dataclass(frozen=True)
class Guides:
    """What guides a picture; nothing does by default."""

    reference: Reference | None = None
    structure: Structure | None = None

    def check(self, spec: BaseSpec) -> Guides:
        """Return self, or raise `RecipeError`, or what is missing for that base."""
        if self.reference:
            self.reference.check()
            if spec.family not in REFERENCES:
                raise PersonalizationError(
                    f"{spec.title} has nothing here that reads a reference picture. Take it out, "
                    f"or choose a base of {' or '.join(REFERENCES)}.",
                    field="reference",
                )
        if self.structure:
            self.structure.check()
            if (spec.family, self.structure.kind) not in STRUCTURES:
                raise PersonalizationError(
                    f"{spec.title} has nothing here that follows a map of {self.structure.kind}. "
                    "Take it out, or choose another map or another base.",
                    field="structure",
                )
        return self


NO_GUIDES = Guides()


def _within(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # NaN is outside as well
        raise RecipeError(f"{name} is {value:g}; it must lie between 0 and {most:g}.", field=name)
