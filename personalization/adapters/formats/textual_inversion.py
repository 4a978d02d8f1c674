"""Learned words: what textual inversion writes in diffusers, kohya's scripts, A1111, OneTrainer.

{token: (n, d)}                           diffusers, and ours
{"emb_params": (n, d)}                    kohya, A1111; OneTrainer: "emp_params"; once: "*"
{"clip_l": (n, 768), "clip_g": (n, 1280)} SDXL, or one of the two
{"bundle_emb.mug.string_to_param.*": ...} inside a LoRA, as A1111 reads it

Where the key is no word, the word is the file's name, as A1111 and ComfyUI have it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import TEXTUAL_INVERSION, WORD
from personalization.adapters.formats import family, names
from personalization.adapters.formats.source import SUFFIX, Shapes, Source
from personalization.data.concept import MAX_TOKEN_LENGTH
from personalization.errors import AdapterError

BUNDLE = "bundle_emb."
ENCODERS = ("clip_l", "clip_g")
_NO_WORDS = (*ENCODERS, "emb_params", "emp_params", "*", "string_to_param")
_VECTORS = ("string_to_param.*", "clip_l_out", "clip_g_out")  # with a dot or an end of their own


def detect(source: Source) -> bool:
    """Whether the file holds a word and nothing else."""
    shapes = source.shapes
    if shapes and set(shapes) <= set(ENCODERS):
        return True
    return len(shapes) == 1 and all(
        len(shape) in (1, 2) and names.parse(name) is None and ("." not in name or "<" in name)
        for name, shape in shapes.items()
    )


def described(source: Source) -> Description:
    """What a stranger's file tells of its word."""
    return Description(
        TEXTUAL_INVERSION,
        family.of_word(source.shapes),
        placeholder_token=_placeholder_token(source.shapes, source.path),
        rank=vectors(source.shapes),
        title=source.path.stem,
    )


def read(source: Source, description: Description) -> Adapter:
    """The rows under our names: the word's own, or those of SDXL's encoders."""
    tensors = source.tensors()
    for name, rows in tensors.items():
        check_rows(name, rows, source.path.name)
    if set(tensors) <= set(ENCODERS):
        return Adapter(description, tensors)
    rows = next(iter(tensors.values()))
    return Adapter(description, {description.placeholder_token: rows.reshape(-1, rows.shape[-1])})


def write(adapter: Adapter, path: Path) -> list[Path]:
    """The file for diffusers: `load_textual_inversion` takes the word from its key."""
    return [adapter.save(path)]


def write_for_file_name(adapter: Adapter, path: Path) -> list[Path]:
    """The file for A1111, ComfyUI and Forge, beside `path` and called as the word is.

    They know a word by its file's name and by nothing else. < and > have no place in one.
    """
    rows = adapter.tensors
    if not set(rows) <= set(ENCODERS):
        rows = {"emb_params": next(iter(rows.values()))}
    file = path.with_name(file_stem(adapter.description.placeholder_token) + SUFFIX)
    return [Adapter(adapter.description, rows).save(file)]


def file_stem(placeholder_token: str) -> str:
    """The word as a file's name."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "", placeholder_token).strip(". ") or "word"


def vectors(shapes: Shapes) -> int:
    """How many rows the word has."""
    shape = next(iter(shapes.values()))
    return shape[0] if len(shape) == 2 else 1


def check_rows(name: str, rows: Tensor, file: str) -> None:
    """Raise `AdapterError` unless these are vectors."""
    if rows.dim() not in (1, 2) or not rows.numel():
        raise AdapterError(
            f"“{name[:80]}” in {file} holds no vectors ({tuple(rows.shape)}), and a word is one "
            "or several. Ask who made it for the whole file.",
            field="adapter",
        )


def is_bundled(name: str) -> bool:
    """Whether a tensor is of a word that lies in a file with something else."""
    return name.startswith((WORD, BUNDLE))


def bundled_word(tensor_names: Iterable[str], file: str) -> str:
    """The word that lies in a LoRA's file; "" without one, or where its own header names it.

    Raises `AdapterError` for several: an adapter here has one.
    """
    words = sorted({_bundled(name)[0] for name in tensor_names if name.startswith(BUNDLE)})
    if len(words) > 1:
        raise AdapterError(
            f"{file} holds {len(words)} learned words ({', '.join(words)}), and an adapter here "
            "has room for one: none of them is left out in silence. Ask for a file of each.",
            field="adapter",
        )
    return words[0] if words else ""


def bundled_name(name: str, placeholder_token: str, file: str) -> str:
    """Our name of a bundled word's rows. Raises `AdapterError` for output vectors."""
    if name.startswith(WORD):
        return name
    vector = _bundled(name)[1]
    if vector.endswith("_out"):
        raise AdapterError(
            f"{file} holds output vectors (“{name[:80]}”), which take the place of what a text "
            "encoder says. They are not applied here, and the word is nothing without them.",
            field="adapter",
        )
    return f"{WORD}{vector if vector in ENCODERS else placeholder_token}"


def bundled_for_a1111(adapter: Adapter) -> dict[str, Tensor]:
    """The rows of a LoRA's word as A1111 reads them in its file."""
    bundled = {}
    for name, rows in adapter.tensors.items():
        if name.startswith(WORD):
            vector = name.removeprefix(WORD)
            vector = vector if vector in ENCODERS else "string_to_param.*"
            bundled[f"{BUNDLE}{adapter.description.placeholder_token}.{vector}"] = rows
    return bundled


def _bundled(name: str) -> tuple[str, str]:
    """Word and vector of "bundle_emb.<mug>.clip_l"; a word may have dots of its own."""
    rest = name.removeprefix(BUNDLE)
    for vector in _VECTORS:
        if rest.endswith(f".{vector}"):
            return rest.removesuffix(f".{vector}"), vector
    word, _, vector = rest.rpartition(".")
    return word, vector


def _placeholder_token(shapes: Shapes, path: Path) -> str:
    """The word that the file teaches: its key, or else the file's own name, made fit for a word."""
    name = next(iter(shapes))
    if name not in _NO_WORDS:
        return name
    stem = unicodedata.normalize("NFC", path.stem)
    text = "".join(c if c in "<>_" or _belongs(c) else "-" for c in stem)
    return re.sub("-+", "-", text).strip("-")[:MAX_TOKEN_LENGTH].strip("-") or "word"


def _belongs(character: str) -> bool:
    """Whether it is a letter, a mark, a digit or a pictograph of any script."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "So"
