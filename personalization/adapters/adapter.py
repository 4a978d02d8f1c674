"""An adapter: one self-describing safetensors file.

The tensors are named as diffusers names them, so that a plain pipeline loads the file with
`load_lora_weights` or `load_textual_inversion`; what the app knows beside them is in the header,
where `describe` reads it without touching a tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter
from safetensors import SafetensorError

from personalization.errors import AdapterError
from personalization.files import Header, read_header, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

HEADER = "personalization"  # the key of our JSON in the file's metadata
MAX_SAID = 2**20  # characters of that; the app writes some 2,000
MAX_TEXT = 200  # of one of its texts: what is longer is cut
MAX_TRIGGER_WORDS = 12
MAX_TRIGGER_WORD = 64  # characters


def _cut(most: int) -> BeforeValidator:
    """No more of a text, or of a list, than that."""
    return BeforeValidator(lambda value: value[:most] if isinstance(value, (str, list)) else value)


Text = Annotated[str, _cut(MAX_TEXT)]
TriggerWords = Annotated[list[Annotated[str, _cut(MAX_TRIGGER_WORD)]], _cut(MAX_TRIGGER_WORDS)]


def _renamed(method: Any) -> Any:
    """Version 0.1.0 called a learned word so."""
    return "textual_inversion" if method == "word" else method


@dataclass(frozen=True)
class Description:
    """What an adapter file says of itself, without its tensors."""

    # textual_inversion, lora, loha, lokr, dora, full
    method: Annotated[Text, BeforeValidator(_renamed)]
    family: Text
    base: Text = ""  # name of the base in the catalog; empty where the file does not say
    fingerprint: Text = ""  # of the base's weights
    placeholder_token: Annotated[
        Text, Field(validation_alias=AliasChoices("placeholder_token", "token"))
    ] = ""
    class_noun: Annotated[str, Field(validation_alias=AliasChoices("class_noun", "noun"))] = ""
    kind: Text = ""  # object, creature, person, style
    rank: int = 0
    alpha: float = 0.0
    strength: float = 1.0  # recommended weight
    title: Text = ""
    trigger_words: TriggerWords = field(default_factory=list, hash=False)  # that others' files name
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    report: dict[str, Any] = field(default_factory=dict, hash=False)
    software: dict[str, str] = field(default_factory=dict, hash=False)
    created: Text = ""
    source: Text = ""  # on the Hub, as owner/repository/file, where anyone can have it from

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


def embedded_description(header: Header) -> Description | None:
    """What the app wrote into the header, or None where the file is somebody else's."""
    text = header.metadata.get(HEADER)
    if text is None or len(text) > MAX_SAID:
        return None
    try:
        return _DESCRIPTION.validate_json(text, strict=True)
    except ValueError:  # pydantic's ValidationError is one
        return None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, on the CPU, those of 8 bits in float32, which holds every value of theirs.

    Refuses NaN, infinity and what is no number in a form that can be computed with. Raises
    `AdapterError` by file name.
    """
    from safetensors.torch import load as load_tensors

    path = Path(path)
    read_header(path)
    try:
        tensors = load_tensors(path.read_bytes())
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise AdapterError(f"{path.name} is damaged ({error}).", field="adapter") from error
    return {name: _finite(tensor, name, path.name) for name, tensor in tensors.items()}


def _finite(tensor: Tensor, name: str, file: str) -> Tensor:
    """The tensor, fit to compute with. Raises `AdapterError`."""
    if tensor.dtype.itemsize == 1 and tensor.is_floating_point():
        tensor = tensor.float()
    if tensor.is_complex() or (tensor.dim() > 0 and not tensor.is_floating_point()):
        raise AdapterError(
            f"{file} holds {str(tensor.dtype).removeprefix('torch.')} values (in {name}), which "
            "mean something to the program that wrote them alone. Ask for it in 16 bits.",
            field="adapter",
        )
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise AdapterError(
            f"{file} holds values that are no numbers (in {name}): "
            "its training has failed, and it would draw black pictures.",
            field="adapter",
        )
    return tensor


def read(path: Path) -> Adapter:
    """An adapter that the app wrote; files of others come through `adapters.formats`."""
    description = embedded_description(read_header(path))
    if description is None:
        raise AdapterError(
            f"{Path(path).name} does not say what it is: import it instead.", field="adapter"
        )
    return Adapter(description, read_tensors(path))
