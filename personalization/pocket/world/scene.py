"""A scene says everything about one picture, and `sample` draws one at random."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import vocabulary as v

# Sampled individuals stay below this number; held-out subjects are numbered from it upwards.
FIRST_HELD_OUT_INDIVIDUAL = 2**31


@dataclass(frozen=True)
class Scene:
    """What a picture shows. Hashable, and JSON-friendly through `dataclasses.asdict`.

    x: centre of the figure, as a fraction of the frame's width.
    scale: height of a figure of height 1, as a fraction of the frame's height.
    lean: rotation about the feet in radians, positive to the right.
    individual: seed of this individual's shape (ears, tail, proportions, pattern layout).
    seed: seed of everything else (background details, light).
    belly: colour of a patch on the belly; never drawn in training.
    """

    kind: str
    colour: str
    pattern: str = "plain"
    accessory: str = "none"
    place: str = "beach"
    style: str = "cartoon"
    backdrop: str | None = None
    x: float = 0.5
    scale: float = 0.64
    flip: bool = False
    lean: float = 0.0
    individual: int = 0
    seed: int = 0
    belly: str | None = None


def facts(scene: Scene) -> dict[str, str]:
    """The truth about a scene, in words."""
    names = ("kind", "colour", "pattern", "accessory", "place", "style")
    return {name: getattr(scene, name) for name in names}


def pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    """One of the names, each as likely as the others."""
    return names[int(rng.integers(len(names)))]


def sample_setting(rng: np.random.Generator, colour: str) -> dict[str, Any]:
    """A place, a pose and a seed: the fields in which photos of one subject differ."""
    place = pick(rng, v.PLACES)
    backdrops = [name for name in v.BACKDROPS if name != colour]
    return {
        "place": place,
        "backdrop": pick(rng, backdrops) if place == "plain" else None,
        "x": round(float(np.clip(rng.normal(0.5, 0.055), 0.38, 0.62)), 4),
        "scale": round(float(rng.uniform(0.56, 0.74)), 4),
        "flip": bool(rng.random() < 0.5),
        "lean": round(float(rng.normal(0, 0.045)), 4),
        "seed": int(rng.integers(2**31)),
    }


def sample(rng: np.random.Generator, *, held_out_words: bool = True) -> Scene:
    """A random known scene: 70 % cartoon, 12 % sketch, the rest of held-out words, if wanted."""
    colours = [*v.COLOURS, *(v.HELD_OUT_COLOUR_WORDS if held_out_words else ())]
    styles = [*v.STYLES, *(v.HELD_OUT_STYLE_WORDS if held_out_words else ())]
    weights = np.array([0.70, 0.12, 0.09, 0.09][: len(styles)])
    colour = pick(rng, colours)
    return Scene(
        kind=pick(rng, v.CLASSES),
        colour=colour,
        pattern=str(rng.choice(v.PATTERNS, p=(0.5, 0.25, 0.25))),
        accessory=str(rng.choice(v.ACCESSORIES, p=(0.4, 0.15, 0.15, 0.15, 0.15))),
        style=str(rng.choice(styles, p=weights / weights.sum())),
        individual=int(rng.integers(FIRST_HELD_OUT_INDIVIDUAL)),
        **sample_setting(rng, colour),
    )
