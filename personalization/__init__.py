"""Teach a text-to-image model a word, a subject or a style from a handful of photos.

    from personalization import CATALOG, Concept, load, open_photos, start, train

    base = load("pocket")
    photos, _ = open_photos(Path("photos").iterdir())
    concept = Concept("creature", "sks", "dog", photos)
    run = start(Path("run"), base, concept, CATALOG["pocket"].recipes["subject"])
    for event in train(base, run):
        print(event)

    with applied(base, Stack((Slot(read(run.adapter_path), 0.8),))):
        pictures = draw(base, Settings("a photo of sks dog on the beach"))

Each name is imported when it is first used: torch and diffusers take seconds.
"""

from importlib import import_module
from typing import Any

__version__ = "0.4.0"

_MODULES = {
    "CATALOG": "bases.catalog",
    "Concept": "data.concept",
    "PersonalizationError": "errors",
    "Recipe": "recipe",
    "Report": "evaluation.report",
    "Run": "training.run",
    "Settings": "sampling.settings",
    "Slot": "stacking.stack",
    "Stack": "stacking.stack",
    "Sweep": "sampling.sweep",
    "applied": "stacking.application",
    "draw": "sampling.generate",
    "evaluate": "evaluation.evaluate",
    "load": "bases",
    "open_photos": "data.photos",
    "read": "adapters.formats",
    "start": "training.start",
    "sweep": "sampling.sweep",
    "train": "training.loop",
}

__all__ = [
    "CATALOG",
    "Concept",
    "PersonalizationError",
    "Recipe",
    "Report",
    "Run",
    "Settings",
    "Slot",
    "Stack",
    "Sweep",
    "applied",
    "draw",
    "evaluate",
    "load",
    "open_photos",
    "read",
    "start",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
