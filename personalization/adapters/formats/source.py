"""A file, or PEFT's folder, as it was given: its headers, and its tensors when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from personalization.adapters.adapter import (
    Adapter,
    Description,
    embedded_description,
    read_tensors,
)
from personalization.adapters.formats.names import COMPONENTS
from personalization.errors import AdapterError
from personalization.files import Header, read_header

PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
SUFFIX = ".safetensors"

Shapes = Mapping[str, tuple[int, ...]]  # by tensor name


@dataclass(frozen=True)
class Source:
    """What was given, and the headers of its files: one, or for PEFT one of each component."""

    path: Path
    headers: Mapping[Path, Header]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by its name with the component that a folder names."""
        return {
            _with_component(file, name): shape
            for file, header in self.headers.items()
            for name, shape in header.shapes.items()
        }

    @cached_property
    def own(self) -> Description | None:
        """What the app wrote, or None where the file is somebody else's."""
        return embedded_description(next(iter(self.headers.values())))

    @property
    def metadata(self) -> dict[str, str]:
        """Of the first file's header."""
        return next(iter(self.headers.values())).metadata

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, named as in `shapes`. Raises `AdapterError` by file name."""
        return {
            _with_component(file, name): tensor
            for file in self.headers
            for name, tensor in read_tensors(file).items()
        }


class Format(Protocol):
    """How one world writes its adapters."""

    def detect(self, source: Source) -> bool:
        """Whether the file is one of this world's, from its names alone."""
        ...

    def read(self, source: Source, description: Description) -> Adapter:
        """Its tensors in our names and with one alpha. Raises `AdapterError`."""
        ...

    def write(self, adapter: Adapter, path: Path) -> list[Path]:
        """The files that this world opens. Raises `AdapterError` for what they cannot hold."""
        ...


def opened(path: Path) -> Source:
    """The headers of what lies at `path`. Raises `AdapterError`."""
    if not path.is_dir():
        return Source(path, {path: read_header(path)})
    folders = [folder for folder in (path, *sorted(path.iterdir())) if folder.is_dir()]
    files = [folder / PEFT_WEIGHTS for folder in folders if (folder / PEFT_WEIGHTS).is_file()]
    if not files:
        raise AdapterError(
            f"The folder {path.name} holds no {PEFT_WEIGHTS}: it is no adapter of PEFT's.",
            field="adapter",
        )
    return Source(path, {file: read_header(file) for file in files})


def json_object(text: str) -> dict[str, Any]:
    """What a header's entry holds as JSON; {} for anything but an object."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _with_component(file: Path, name: str) -> str:
    """PEFT names no component: its folder does, if it is called as one."""
    component = file.parent.name
    if file.name != PEFT_WEIGHTS or component not in COMPONENTS:
        return name
    return f"{component}.{name.removeprefix(PEFT_PREFIX)}"
