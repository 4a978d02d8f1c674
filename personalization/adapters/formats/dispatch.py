"""Anybody's adapter files: what one is, from its header; read into ours; ours as theirs.

A file that the app wrote says what it is; of any other the names and shapes of its tensors tell.
Nothing is unpickled, and no file is read in part: a tensor that is not understood refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import (
    FULL,
    layers_of,
    match_modules,
)
from personalization.adapters.formats import (
    description,
    diffusers,
    family,
    kohya,
    names,
    peft,
    source,
    textual_inversion,
)
from personalization.adapters.formats.comparison import difference
from personalization.adapters.formats.source import Format, Source
from personalization.bases.base import Base
from personalization.errors import AdapterError
from personalization.files import Header

FormatName = Literal["diffusers", "kohya", "peft"]
FORMATS: dict[FormatName, str] = {
    "diffusers": "diffusers: load_lora_weights, load_textual_inversion",
    "kohya": "kohya: ComfyUI, A1111, Forge",
    "peft": "PEFT: PeftModel.from_pretrained",
}
_WRITERS: dict[FormatName, Format] = {"diffusers": diffusers, "kohya": kohya, "peft": peft}
_READERS: tuple[Format, ...] = (textual_inversion, peft, kohya, diffusers)  # the first that detects
TOLERANCE = 1e-5  # how far a written file's delta may be from the adapter's, relatively


@dataclass(frozen=True)
class Contents:
    """What a file holds, from its header alone."""

    description: Description
    modules: int  # whose weights it changes
    text_encoder: bool  # whether some of them are a text encoder's
    vectors: int  # of its learned word; 0 without one


def describe(path: Path) -> Description:
    """What the file says of itself, or else what its names and shapes tell.

    Reads headers only. Raises `AdapterError` for what is no adapter.
    """
    opened = source.opened(Path(path))
    return opened.own or _contents(opened).description


def contents(path: Path) -> Contents:
    """What the file, or PEFT's folder, holds. Reads headers only; raises `AdapterError`."""
    return _contents(source.opened(Path(path)))


def contents_of_header(path: Path, header: Header) -> Contents:
    """The same of a file whose header alone is here, as the Hub gives it. Raises `AdapterError`."""
    return _contents(Source(path, {path: header}))


def read(path: Path, base: Base | None = None) -> Adapter:
    """The adapter in anybody's file, named and scaled as ours are.

    With `base`, whatever is for another family or does not fit it is refused. Raises
    `AdapterError` by file name.
    """
    opened = source.opened(Path(path))
    described = opened.own or _contents(opened).description
    if base is not None and described.family not in ("", base.spec.family):
        raise family.refusal(opened.path.name, described.family, base.spec)
    foreign = opened.own is None and not family.is_known(described.family)
    if foreign and not all(map(names.parse, opened.shapes)):
        raise AdapterError(
            f"{opened.path.name} was made for {described.family}, and no base here is of it.",
            field="adapter",
        )
    if described.method == FULL:
        adapter = Adapter(described, opened.tensors())
    else:
        adapter = _reader(opened).read(opened, described)
    if base is None:
        return adapter
    match_modules(base.modules, adapter, opened.path.name)
    return adapter if described.family else adapter.described(family=base.spec.family)


def export(adapter: Adapter, path: Path, format: FormatName = "diffusers") -> list[Path]:
    """Write the adapter as others want it, read it back, compare; returns the files.

    `path` is a file, and for PEFT a folder. Where a LoRA has a learned word with it, kohya's file
    holds both; the others get the word's own file beside it, since their loaders want it apart.
    A word alone is called by its file's name in kohya's world: there the file is named after it.
    Raises `AdapterError` for what the format cannot hold, or where what was read differs.
    """
    path = Path(path)
    if adapter.description.method == FULL:
        raise AdapterError(
            "A full fine-tune is the base's own parameters, and no adapter: "
            "extract it as a LoRA, and export that.",
            field="format",
        )
    written = _WRITERS[format].write(adapter, path)
    distance = difference(adapter, read(path if format == "peft" else written[0]))
    if not distance <= TOLERANCE:
        raise AdapterError(
            f"{path.name} was written and read back, and differs by {distance:.1e} of its size: "
            "it is not offered. Try another format.",
            field="format",
        )
    return written


def _reader(opened: Source) -> Format:
    return next(reader for reader in _READERS if reader.detect(opened))


def _contents(opened: Source) -> Contents:
    shapes, file = opened.shapes, opened.path.name
    if not shapes:
        raise AdapterError(f"{file} holds no adapter: it is empty.", field="adapter")
    if opened.own and opened.own.method == FULL:
        text = any(name.startswith("text_encoder") for name in shapes)
        modules = sum(name.endswith(".weight") for name in shapes)
        return Contents(opened.own, modules, text, 0)
    described = opened.own or description.of_stranger(opened)
    if textual_inversion.detect(opened):
        return Contents(described, 0, False, textual_inversion.vectors(shapes))
    rows = {n: shape for n, shape in shapes.items() if textual_inversion.is_bundled(n)}
    vectors = textual_inversion.vectors(rows) if rows else 0
    others = [name for name in shapes if name not in rows]
    if not family.is_known(described.family):  # no base here is of it: not all need be understood
        others = [name for name in others if names.parse(name)]
    keys = {layer for key, _ in names.parsed(others, file).values() for layer in layers_of(key)}
    text = any(key.component.startswith("text_encoder") for key in keys)
    return Contents(described, len(keys), text, vectors)
