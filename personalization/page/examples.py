"""The example sets in assets/examples, and what the ready adapters drew of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personalization.adapters.adapter import embedded_description
from personalization.bases.catalog import ASSETS
from personalization.files import read_header
from personalization.sampling.picture_record import read_record


@dataclass(frozen=True)
class ExampleSet:
    """A folder of photos, and what it fills into a tab's form."""

    key: str
    title: str
    photos: tuple[Path, ...]
    fields: dict[str, Any]  # class_noun, kind, and placeholder_token by purpose


def example_sets(purpose: str) -> list[ExampleSet]:
    """The sets for the tab of that purpose."""
    sets = []
    for folder in sorted((ASSETS / "examples").glob("*/")):
        fields = json.loads((folder / "example.json").read_text())
        if purpose in fields["tabs"]:
            photos = tuple(sorted(folder.glob("[0-9]*.png")))
            sets.append(ExampleSet(folder.name, fields["title"], photos, fields))
    return sets


def example_result(purpose: str) -> tuple[tuple[Path, ...], list[tuple[Path, str]]]:
    """An example's photos, and pictures by the ready adapter that was taught from them."""
    for example in example_sets(purpose):
        file = ASSETS / "adapters" / f"{example.key}.safetensors"
        description = embedded_description(read_header(file)) if file.exists() else None
        if description and (description.method == "textual_inversion") == (purpose == "word"):
            drawn = sorted(file.with_suffix("").glob("*.png"))
            records = [(path, read_record(path)) for path in drawn]
            return example.photos[:3], [(path, r.prompt) for path, r in records if r]
    return (), []
