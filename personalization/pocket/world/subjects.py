"""What nobody trained on: subjects and styles held out, and the looks that lost their word."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import vocabulary as v
from .scene import FIRST_HELD_OUT_INDIVIDUAL, Scene, facts, sample, sample_setting


@dataclass(frozen=True)
class Subject:
    """One individual that no training picture shows; `likeness` carries what never changes."""

    name: str
    likeness: Scene

    @property
    def class_noun(self) -> str:
        """What the world calls it."""
        return self.likeness.kind

    @property
    def facts(self) -> dict[str, str]:
        """What is true in every photo: kind, colour, pattern, accessory, and the belly if any."""
        known = {key: value for key, value in facts(self.likeness).items() if key != "place"}
        return known | ({"belly": self.likeness.belly} if self.likeness.belly else {})

    def scenes(self, n: int, seed: int) -> list[Scene]:
        """n photos: each in another place as long as there are places, each in another pose."""
        rng = np.random.default_rng((seed, self.likeness.individual))
        photos: list[Scene] = []
        while len(photos) < n:
            photo = replace(self.likeness, **sample_setting(rng, self.likeness.colour))
            shown = [p.place for p in photos[len(photos) // len(v.PLACES) * len(v.PLACES) :]]
            if photo.place not in shown:
                photos.append(photo)
        return photos


@dataclass(frozen=True)
class StyleSubject:
    """A held-out style: the contents vary, the style stays."""

    name: str

    def scenes(self, n: int, seed: int) -> list[Scene]:
        """n pictures of different classes in this style."""
        return [replace(scene, style=self.name) for scene in varied_scenes(n, seed)]


def varied_scenes(n: int, seed: int) -> list[Scene]:
    """n known cartoon scenes, no class twice before every class came once."""
    rng = np.random.default_rng(seed)
    kinds = [v.CLASSES[i] for _ in range(-(-n // 16)) for i in rng.permutation(len(v.CLASSES))]
    scenes = [sample(rng, held_out_words=False) for _ in range(n)]
    return [replace(s, kind=k, style="cartoon") for s, k in zip(scenes, kinds, strict=False)]


def held_out_word_scenes(word: str, n: int, seed: int) -> list[Scene]:
    """n pictures of what a removed word meant: a style of HELD_OUT_STYLE_WORDS or a colour."""
    if word in v.HELD_OUT_STYLE_WORDS:
        return [replace(scene, style=word) for scene in varied_scenes(n, seed)]
    if word in v.HELD_OUT_COLOUR_WORDS:
        return [replace(scene, colour=word) for scene in varied_scenes(n, seed)]
    known = ", ".join(v.HELD_OUT_STYLE_WORDS + v.HELD_OUT_COLOUR_WORDS)
    raise ValueError(f"{word!r} is not a held-out word; these are: {known}")


def subject(number: int, name: str, **likeness: Any) -> Subject:
    """A subject whose individual number lies beyond those that are sampled."""
    return Subject(name, Scene(individual=FIRST_HELD_OUT_INDIVIDUAL + number, **likeness))


SUBJECTS: dict[str, Subject] = {
    s.name: s
    for s in (
        subject(1, "pocket", kind="dog", colour="teal", accessory="crown", belly="yellow"),
        subject(2, "checkers", kind="cat", colour="orange", pattern="checkered"),
        subject(3, "valentine", kind="bear", colour="white", pattern="hearts"),
        subject(4, "duchess", kind="rabbit", colour="purple", accessory="crown"),
        subject(5, "professor", kind="owl", colour="brown", accessory="glasses"),
        subject(6, "peanut", kind="elephant", colour="blue", accessory="party hat"),
        subject(7, "dash", kind="snail", colour="red", pattern="striped"),
        subject(8, "apollo", kind="rocket", colour="white", pattern="spotted"),
        subject(9, "sprocket", kind="robot", colour="yellow", belly="purple", accessory="bow tie"),
        subject(10, "taxi", kind="car", colour="yellow", pattern="checkered"),
        subject(11, "earl grey", kind="teapot", colour="blue", pattern="hearts"),
        subject(12, "waddles", kind="penguin", colour="pink", accessory="scarf", belly="blue"),
    )
}
STYLE_SUBJECTS: dict[str, StyleSubject] = {name: StyleSubject(name) for name in v.HELD_OUT_STYLES}
