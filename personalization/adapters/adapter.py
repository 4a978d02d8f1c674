"""An adapter: one self-describing safetensors file.

The tensors are named as diffusers names them, so that a plain pipeline loads the file with
`load_lora_weights` or `load_textual_inversion`; what the app knows beside them is in the header,
where `describe` reads it without touching a tensor.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter
from safetensors import SafetensorError

from personalization.errors import AdapterError
from personalization.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
HEADER = "personalization"  # the key of our JSON in the file's metadata
MAX_HEADER = 32 * 2**20  # bytes
# What a file that lies about itself makes the readers stumble over.
_MALFORMED = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
)


_METHODS_BEFORE_2: dict[Any, str] = {"word": "textual_inversion"}


@dataclass(frozen=True)
class Description:
    """What an adapter file says of itself, without its tensors."""

    # textual_inversion, lora, loha, lokr, dora, full
    method: Annotated[str, BeforeValidator(lambda said: _METHODS_BEFORE_2.get(said, said))]
    family: str
    base: str = ""  # name of the base in the catalog; empty where the file does not say
    fingerprint: str = ""  # of the base's weights
    placeholder_token: Annotated[
        str, Field(validation_alias=AliasChoices("placeholder_token", "token"))
    ] = ""
    class_noun: Annotated[str, Field(validation_alias=AliasChoices("class_noun", "noun"))] = ""
    kind: str = ""  # object, creature, person, style
    rank: int = 0
    alpha: float = 0.0
    strength: float = 1.0  # recommended weight
    title: str = ""
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    report: dict[str, Any] = field(default_factory=dict, hash=False)
    software: dict[str, str] = field(default_factory=dict, hash=False)
    created: str = ""
    format: int = FORMAT

    @property
    def trigger(self) -> str:
        """The words that call it in a prompt."""
        return (
            self.placeholder_token
            if self.method == "textual_inversion"
            else f"{self.placeholder_token} {self.class_noun}".strip()
        )


_DESCRIPTION = TypeAdapter(Description)


@dataclass(frozen=True)
class Adapter:
    """A description with its tensors, named as in the file."""

    description: Description
    tensors: dict[str, Tensor] = field(hash=False, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Of the tensors alone: the same weights have the same hash whatever is said of them."""
        import torch  # takes seconds, and headers are read before

        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def described(self, **changes: Any) -> Adapter:
        """The same weights, described anew (title, strength, report, ...)."""
        return replace(self, description=replace(self.description, **changes))

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
        """Write the file atomically; `metadata` is what other programs want in the header."""
        from safetensors.torch import save as save_tensors

        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()
        }
        header = {"format": "pt", **(metadata or {}), HEADER: json.dumps(asdict(self.description))}
        return write_atomically(path, save_tensors(tensors, metadata=header))


@dataclass(frozen=True)
class Header:
    """The head of a safetensors file: enough to say what the file is."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]  # by tensor name


def read_header(path: Path) -> Header:
    """Read a safetensors file's header and nothing else. Raises `AdapterError` by file name."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip of pickles, or a pickle
                    raise AdapterError(
                        f"{path.name} is a pickle, whatever its name says, and could run code: "
                        "it is not opened. Ask for a .safetensors file.",
                        field="adapter",
                    )
                raise AdapterError(
                    f"{path.name} is not a whole safetensors file: its header claims {length} "
                    f"bytes of {size}. Download it again.",
                    field="adapter",
                )
            data = json.loads(file.read(length))
        metadata = data.pop("__metadata__", {})
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in data.items()}
        end = max((int(entry["data_offsets"][1]) for entry in data.values()), default=0)
        strings = {str(key): str(value) for key, value in metadata.items()}
    except _MALFORMED as error:
        raise AdapterError(
            f"{path.name} cannot be read as a safetensors file ({error}). Download it again.",
            field="adapter",
        ) from error
    if 8 + length + end != size:
        raise AdapterError(
            f"{path.name} is cut short or padded: {8 + length + end} bytes are announced, "
            f"{size} are there. Download it again.",
            field="adapter",
        )
    return Header(strings, shapes)


def embedded_description(header: Header) -> Description | None:
    """What the app wrote into the header, or None where the file is somebody else's."""
    text = header.metadata.get(HEADER)
    if text is None:
        return None
    try:
        return _DESCRIPTION.validate_json(text, strict=True)
    except _MALFORMED:  # pydantic's ValidationError is a ValueError
        return None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, on the CPU; refuses NaN and infinity. Raises `AdapterError` by file name."""
    from safetensors.torch import load as load_tensors

    path = Path(path)
    read_header(path)
    try:
        tensors = load_tensors(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} is damaged ({error}).", field="adapter") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise AdapterError(
                f"{path.name} holds values that are no numbers (in {name}): "
                "its training has failed, and it would draw black pictures.",
                field="adapter",
            )
    return tensors


def read(path: Path) -> Adapter:
    """An adapter that the app wrote; files of others come through `adapters.formats`."""
    description = embedded_description(read_header(path))
    if description is None:
        raise AdapterError(
            f"{Path(path).name} does not say what it is: import it instead.", field="adapter"
        )
    return Adapter(description, read_tensors(path))
