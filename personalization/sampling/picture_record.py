"""A picture's record: how it came to be, written into the PNG and read from it again.

Anyone may have written what is read. So nothing of a record is more than it should be: numbers
are brought within their bounds, texts and lists are cut, and what has a wrong type is left at its
default.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from personalization.bases.catalog import Task
from personalization.data.maps import MAPS
from personalization.files import write_atomically
from personalization.sampling.guides import MAX_REFERENCES, REACHES, Reference, Structure
from personalization.sampling.guides import MAX_WEIGHT as MAX_GUIDE_WEIGHT
from personalization.sampling.settings import (
    GUIDANCE,
    MAX_PROMPT,
    SEEDS,
    STEPS,
    STRENGTH,
    Settings,
)
from personalization.stacking.regions import WHOLE, Box, Region
from personalization.stacking.stack import COMBINATIONS, MAX_SLOTS, MAX_WEIGHT, Slot

KEY = "personalization"  # of the record in a PNG's text
MAX_RECORD = 100_000  # characters of a record that is read
MAX_NAME = 200
MAX_BLOCKS = 64
MAX_SIZE = 4096  # pixels
MAX_RANK = 4096
WEIGHTS = (-MAX_WEIGHT, MAX_WEIGHT)


def _number(default: float | None, low: float, high: float) -> BeforeValidator:
    """Brings a number within its bounds; what is none becomes `default`."""
    return BeforeValidator(lambda value: _clamped(value, default, low, high))


def _whole(default: int | None, low: int, high: int) -> BeforeValidator:
    def validate(value: Any) -> int | None:
        number = _clamped(value, default, low, high)
        return None if number is None else int(number)

    return BeforeValidator(validate)


def _clamped(value: Any, default: float | None, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if isinstance(value, float) and not math.isfinite(value):
        return default
    clamped: float = min(max(value, low), high)
    return clamped


def _text(length: int, default: str | None = "") -> BeforeValidator:
    return BeforeValidator(lambda value: value[:length] if isinstance(value, str) else default)


def _one_of(known: tuple[str, ...], default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value in known else default)


def _blocks(value: Any) -> dict[str, float]:
    """Factors by the path of a part of the denoiser (see `Slot`)."""
    factors = list(value.items())[:MAX_BLOCKS] if isinstance(value, dict) else []
    return {str(k)[:MAX_NAME]: _clamped(v, 1.0, *WEIGHTS) or 0.0 for k, v in factors}


def _adapters(value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list | tuple) else []
    return [entry for entry in entries if isinstance(entry, dict)][:MAX_SLOTS]


def _names(value: Any) -> tuple[str, ...]:
    """Of at most as many pictures as are looked at together."""
    entries = value if isinstance(value, list | tuple) else ()
    return tuple(entry[:MAX_NAME] for entry in entries if isinstance(entry, str))[:MAX_REFERENCES]


def _mapping(value: Any) -> Any:
    """An object, or one that says nothing."""
    return value if isinstance(value, dict | ReferenceRecord | StructureRecord) else {}


Name = Annotated[str, _text(MAX_NAME)]
Prompt = Annotated[str, _text(MAX_PROMPT)]


def _box(value: Any) -> Box:
    """What is no box is the whole picture."""
    sides = value if isinstance(value, list | tuple) and len(value) == 4 else WHOLE
    left, top, right, bottom = (_clamped(side, math.nan, 0, 1) for side in sides)
    box = (left or 0.0, top or 0.0, right or 0.0, bottom or 0.0)
    return box if box[0] < box[2] and box[1] < box[3] else WHOLE


@dataclass(frozen=True)
class RegionRecord:
    """Where an adapter counted and what was drawn there; `mask` is what a workspace finds it by."""

    box: Annotated[Box, BeforeValidator(_box)] = WHOLE
    prompt: Prompt = ""
    mask: Name = ""

    @staticmethod
    def of(region: Region | None) -> RegionRecord | None:
        """What there is to say of it."""
        return RegionRecord(region.box, region.prompt, region.key) if region else None


def _region(value: Any) -> Any:
    return value if isinstance(value, dict | RegionRecord) else None


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter that a picture was drawn with; `name` is what the library knows it by."""

    name: Name = ""
    title: Name = ""
    trigger: Name = ""
    sha256: Name = ""
    weight: Annotated[float, _number(1.0, *WEIGHTS)] = 1.0
    text_weight: Annotated[float | None, _number(None, *WEIGHTS)] = None
    blocks: Annotated[Mapping[str, float], BeforeValidator(_blocks)] = field(
        default_factory=dict, hash=False
    )
    region: Annotated[RegionRecord | None, BeforeValidator(_region)] = None

    @staticmethod
    def of(slot: Slot) -> AdapterRecord:
        """What there is to say of an adapter in a stack."""
        description = slot.adapter.description
        return AdapterRecord(
            slot.library_name or slot.name,
            description.title,
            description.trigger,
            slot.adapter.sha256,
            slot.weight,
            slot.text_weight,
            dict(slot.blocks),
            RegionRecord.of(slot.region),
        )


@dataclass(frozen=True)
class ReferenceRecord:
    """The reference pictures, by what the visitor's workspace finds them by, and how they counted.

    Without pictures there was none.
    """

    pictures: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    weight: Annotated[float, _number(1.0, 0, MAX_GUIDE_WEIGHT)] = 1.0
    reach: Annotated[str, _one_of(tuple(REACHES), "all")] = "all"
    by: Name = ""  # who looked, where that is not the family's first

    @staticmethod
    def of(reference: Reference | None) -> ReferenceRecord:
        """What there is to say of it."""
        if reference is None:
            return ReferenceRecord()
        return ReferenceRecord(reference.keys, reference.weight, reference.reach, reference.by)


@dataclass(frozen=True)
class StructureRecord:
    """The picture whose map was followed, and how far. Without a kind there was none."""

    kind: Annotated[str, _one_of(tuple(MAPS), "")] = ""
    picture: Name = ""
    weight: Annotated[float, _number(1.0, 0, MAX_GUIDE_WEIGHT)] = 1.0
    until: Annotated[float, _number(1.0, 0, 1)] = 1.0
    is_map: Annotated[bool, BeforeValidator(lambda value: value is True)] = False
    by: Name = ""  # whose repository, where that is not the family's first

    @staticmethod
    def of(structure: Structure | None) -> StructureRecord:
        """What there is to say of it."""
        if structure is None:
            return StructureRecord()
        key, weight, until = structure.key, structure.weight, structure.until
        return StructureRecord(structure.kind, key, weight, until, structure.is_map, structure.by)


@dataclass(frozen=True)
class PictureRecord:
    """How a picture came to be. None stands for the base's own."""

    prompt: Prompt = ""
    negative: Prompt = ""
    seed: Annotated[int, _whole(0, 0, SEEDS - 1)] = 0
    steps: Annotated[int | None, _whole(None, *STEPS)] = None
    guidance: Annotated[float | None, _number(None, *GUIDANCE)] = None
    scheduler: Annotated[str | None, _text(MAX_NAME, None)] = None
    width: Annotated[int | None, _whole(None, 1, MAX_SIZE)] = None
    height: Annotated[int | None, _whole(None, 1, MAX_SIZE)] = None
    task: Annotated[Task, _one_of(("text", "image", "inpaint"), "text")] = "text"
    strength: Annotated[float, _number(0.6, *STRENGTH)] = 0.6
    fast: Annotated[bool, BeforeValidator(lambda value: value is True)] = False
    base: Name = ""
    fingerprint: Name = ""  # of the base's weights
    adapters: Annotated[tuple[AdapterRecord, ...], BeforeValidator(_adapters)] = ()
    combine: Annotated[str, _one_of(tuple(COMBINATIONS), "sum")] = "sum"
    density: Annotated[float, _number(0.5, 0.05, 1)] = 0.5
    rank: Annotated[int, _whole(0, 0, MAX_RANK)] = 0
    start: Name = ""  # what the visitor's workspace finds by it, if it was drawn from a picture
    reference: Annotated[ReferenceRecord, BeforeValidator(_mapping)] = ReferenceRecord()
    structure: Annotated[StructureRecord, BeforeValidator(_mapping)] = StructureRecord()

    @property
    def settings(self) -> Settings:
        """Those that draw it again."""
        return Settings(
            prompt=self.prompt,
            negative=self.negative,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            scheduler=self.scheduler,
            width=self.width,
            height=self.height,
            task=self.task,
            strength=self.strength,
            fast=self.fast,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values: dict[str, Any] = _RECORD.dump_python(self, mode="json")
        return values

    @staticmethod
    def from_json(text: str) -> PictureRecord | None:
        """The record in a text, or None where there is none."""
        if len(text) > MAX_RECORD:
            return None
        try:
            return _RECORD.validate_json(text)
        except ValidationError:
            return None


_RECORD = TypeAdapter(PictureRecord)


@dataclass(frozen=True)
class Picture:
    """An image and the record of how it came to be."""

    image: Image.Image
    record: PictureRecord

    def save(self, path: Path) -> Path:
        """Write a PNG with the record in its text."""
        info = PngInfo()
        buffer = io.BytesIO()
        info.add_text(KEY, json.dumps(self.record.to_dict()))
        self.image.save(buffer, "PNG", pnginfo=info)
        return write_atomically(path, buffer.getvalue())


def read_record(path: Path) -> PictureRecord | None:
    """The record in a PNG that the app drew, or None."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = getattr(image, "text", {}).get(KEY, "")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return PictureRecord.from_json(text)
