"""Anybody's adapter files: what one is, from its header; read into ours; ours as theirs.

    describe(path) -> Description    read(path) -> Adapter    export(adapter, path, format) -> paths

A file that the app wrote says what it is; of any other the names and shapes of its tensors tell.
Nothing is unpickled, and no file is read in part: a tensor that is not understood refuses it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from personalization.adapters.adapter import (
    Adapter,
    Description,
    embedded_description,
    read_tensors,
)
from personalization.adapters.adapter_deltas import (
    FULL,
    WORD,
    deltas_of,
    learned_rows,
    match_modules,
)
from personalization.adapters.formats import diffusers, family, kohya, peft, words
from personalization.adapters.formats.diffusers import metadata as diffusers_metadata
from personalization.adapters.formats.names import COMPONENTS, parse
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import DoRADelta, without_magnitude
from personalization.bases.base import Base
from personalization.errors import AdapterError
from personalization.files import Header, read_header

__all__ = [
    "FORMATS",
    "Contents",
    "Format",
    "contents",
    "describe",
    "difference",
    "diffusers_metadata",
    "export",
    "read",
    "told",
]

Format = Literal["diffusers", "kohya", "peft"]
FORMATS: dict[Format, str] = {
    "diffusers": "diffusers: load_lora_weights, load_textual_inversion",
    "kohya": "kohya: ComfyUI, A1111, Forge",
    "peft": "PEFT: PeftModel.from_pretrained",
}
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
    path = Path(path)
    if path.is_file() and (own := embedded_description(read_header(path))):
        return own
    return contents(path).description


def contents(path: Path) -> Contents:
    """What the file, or PEFT's folder, holds. Reads headers only; raises `AdapterError`."""
    path = Path(path)
    return _contents(path, {file: read_header(file) for file in _files(path)})


def told(path: Path, header: Header) -> Contents:
    """The same of a file whose header alone is here, as the Hub gives it. Raises `AdapterError`."""
    return _contents(path, {path: header})


def _contents(path: Path, headers: Mapping[Path, Header]) -> Contents:
    own = embedded_description(next(iter(headers.values())))
    shapes = {n: s for f, head in headers.items() for n, s in _named(f, head.shapes).items()}
    if own and own.method == FULL:
        text = any(name.startswith("text_encoder") for name in shapes)
        return Contents(own, sum(name.endswith(".weight") for name in shapes), text, 0)
    if words.is_word(shapes):
        return Contents(own or _word(shapes, path), 0, False, words.vectors(shapes))
    rows = {name: shape for name, shape in shapes.items() if _is_word(name)}
    kind = family.guess(shapes)
    if own is None and kind in family.TRANSFORMERS and _unread(shapes):
        return Contents(_description(path, headers, shapes, kind), 0, False, 0)
    places = {parse(name)[0] for name in shapes if name not in rows}
    if not places:
        raise AdapterError(f"{path.name} holds no adapter: it is empty.", field="adapter")
    return Contents(
        own or _description(path, headers, shapes, kind),
        len(places),
        any(place.component.startswith("text_encoder") for place in places),
        words.vectors(rows) if rows else 0,
    )


def read(path: Path, base: Base | None = None) -> Adapter:
    """The adapter in anybody's file, named and scaled as ours are.

    With `base`, whatever does not fit it is refused. Where a file scales its modules unequally, the
    difference goes into the factors, in float32. Raises `AdapterError` by file name.
    """
    path = Path(path)
    description = describe(path)
    headers = {file: read_header(file) for file in _files(path)}
    tensors = {n: t for file in headers for n, t in _named(file, read_tensors(file)).items()}
    if description.method == FULL:
        adapter = Adapter(description, tensors)
    elif words.is_word({name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        adapter = Adapter(description, words.read(tensors, description.placeholder_token))
    else:
        if description.family in family.TRANSFORMERS and _unread(tensors):
            raise AdapterError(
                f"{path.name} names the modules of {description.family} as its own code does, "
                "which is not understood here. Ask for a file in the format of diffusers.",
                field="adapter",
            )
        try:
            adapter = _canonical(description, tensors, _scales(headers, description))
        except (RuntimeError, IndexError, ValueError) as error:
            raise AdapterError(
                f"The tensors in {path.name} do not go together ({error}). Download it again.",
                field="adapter",
            ) from error
    if base is None:
        return adapter
    match_modules(base.modules, adapter, path.name)
    return adapter if description.family else adapter.described(family=base.spec.family)


def export(adapter: Adapter, path: Path, format: Format = "diffusers") -> list[Path]:
    """Write the adapter as others want it, read it back, compare; returns the files.

    `path` is a file, and for PEFT a folder. Where a LoRA has a learned word with it, kohya's file
    holds both; the others get the word's own file beside it, since their loaders want it apart.
    Raises `AdapterError` for what the format cannot hold, or where what was read differs.
    """
    path = Path(path)
    if adapter.description.method == FULL:
        raise AdapterError(
            "A full fine-tune is the base's own parameters, and no adapter: "
            "extract it as a LoRA, and export that.",
            field="format",
        )
    if format == "peft":
        written = peft.write(adapter, path)
    elif format == "kohya":
        tensors, metadata = kohya.to_kohya(adapter)
        written = [Adapter(adapter.description, tensors).save(path, metadata)]
    else:
        plainer = diffusers.to_diffusers(adapter)
        written = [plainer.save(path, diffusers.metadata(plainer))]
    rows = {n.removeprefix(WORD): t for n, t in adapter.tensors.items() if n.startswith(WORD)}
    if rows and format != "kohya":
        word = adapter.described(method="textual_inversion", rank=0, alpha=0.0)
        file = path / "word.safetensors" if format == "peft" else path.with_suffix(".word" + SUFFIX)
        written.append(Adapter(word.description, rows).save(file))
    distance = difference(adapter, read(path))
    if not distance <= TOLERANCE:
        raise AdapterError(
            f"{path.name} was written and read back, and differs by {distance:.1e} of its size: "
            "it is not offered. Try another format.",
            field="format",
        )
    return written


def difference(a: Adapter, b: Adapter) -> float:
    """How far b's changes are from a's: the largest relative error over modules and words.

    Infinite where one changes what the other does not.
    """
    first, second = deltas_of(a), deltas_of(b)
    rows_a, rows_b = learned_rows(a), learned_rows(b)
    if (
        b.description.method != "textual_inversion"
        and a.description.method != "textual_inversion"
        and not rows_b
    ):
        rows_a = {}  # the word is in a file of its own
    if first.keys() != second.keys() or rows_a.keys() != rows_b.keys():
        return float("inf")
    errors = [_distance(rows_a[name], rows_b[name]) for name in rows_a]
    for place, change in first.items():
        other = second[place]
        if change.size != other.size or isinstance(change, DoRADelta) != isinstance(
            other, DoRADelta
        ):
            return float("inf")
        zero = torch.zeros(change.size, dtype=torch.float64)
        errors.append(
            _distance(without_magnitude(change).delta(zero), without_magnitude(other).delta(zero))
        )
        if isinstance(change, DoRADelta) and isinstance(other, DoRADelta):
            errors.append(_distance(change.magnitude.flatten(), other.magnitude.flatten()))
    return max(errors, default=0.0)


SUFFIX = ".safetensors"
_VISIBLE_RANK = ("lora_A.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
_OUTER = ("lora_B.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")  # a scale can go into one of these
_METHODS = {"lora_A.weight": "lora", "hada_w1_a": "loha", "lokr_w1": "lokr", "lokr_w1_a": "lokr"}
_MAGNITUDES = ("lora_magnitude_vector", "dora_scale")

# From a place and the rank that its tensors show (0: none) to its alpha and rank.
Scales = Callable[[ModuleKey, int], tuple[float, int]]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [folder / peft.WEIGHTS for folder in peft.folders(path)]
    if not found:
        raise AdapterError(
            f"The folder {path.name} holds no {peft.WEIGHTS}: it is no adapter of PEFT's.",
            field="adapter",
        )
    return found


def _named(file: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """PEFT names no component: its folder does, if it is called as one."""
    component = file.parent.name
    if file.name != peft.WEIGHTS or component not in COMPONENTS:
        return dict(entries)
    return {f"{component}.{name.removeprefix(peft.PREFIX)}": e for name, e in entries.items()}


def _unread(names: Iterable[str]) -> bool:
    """Whether a flow transformer's file has names of another kind than diffusers'."""
    return any(not name.startswith((*COMPONENTS, peft.PREFIX, WORD)) for name in names)


def _is_word(name: str) -> bool:
    return name.startswith((WORD, kohya.BUNDLE))


def _word(shapes: Mapping[str, tuple[int, ...]], path: Path) -> Description:
    return Description(
        "textual_inversion",
        family.of_word(shapes),
        placeholder_token=words.placeholder_token(shapes, path),
        rank=words.vectors(shapes),
        title=path.stem,
    )


def _description(
    path: Path, headers: Mapping[Path, Header], shapes: Mapping[str, tuple[int, ...]], kind: str
) -> Description:
    """Of a file that does not say what it is."""
    unread = kind in family.TRANSFORMERS and _unread(shapes)
    parts = [] if unread else [parse(n)[1] for n in shapes if not _is_word(n)]
    method = next((_METHODS[part] for part in parts if part in _METHODS), "lora")
    if any(part in _MAGNITUDES for part in parts):
        method = "dora"
    ranks = [
        shape[0]
        for name, shape in shapes.items()
        if shape and name.endswith((*_VISIBLE_RANK, "lora_down.weight", "lora.down.weight"))
    ]
    said = next(iter(headers.values())).metadata.get("ss_network_alpha", "")
    tokens = {name.split(".")[1] for name in shapes if name.startswith(kohya.BUNDLE)}
    return Description(
        method,
        kind,
        placeholder_token=next(iter(tokens), ""),
        rank=Counter(ranks).most_common(1)[0][0] if ranks else 0,
        alpha=float(said) if said.replace(".", "", 1).isdigit() else 0.0,
        title=path.stem,
    )


def _scales(headers: Mapping[Path, Header], description: Description) -> Scales:
    """What a file says of alpha where it has no tensor for it: a configuration, or our header.

    Where nothing is said, alpha is the rank, as everybody has it.
    """
    own = any(embedded_description(header) for header in headers.values())
    configs: dict[str, dict[str, Any]] = {}
    for file, header in headers.items():
        if any(name.startswith(peft.PREFIX) for name in header.shapes):
            places = [parse(name)[0] for name in _named(file, header.shapes)]
            configs[places[0].component] = peft.read_config(file)
        for key, value in _json(header.metadata.get(diffusers.HEADER, "{}")).items():
            component, _, setting = key.partition(".")
            configs.setdefault(component, {})[setting] = value

    def scale(place: ModuleKey, rank: int) -> tuple[float, int]:
        config = configs.get(place.component)
        if config is not None:
            rank = rank or peft.rank_of(config, place.path)
            return peft.alpha_of(config, place.path, rank), rank
        rank = rank or description.rank or 1
        return (description.alpha if own and description.alpha else rank), rank

    return scale


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _canonical(description: Description, named: Mapping[str, Tensor], said: Scales) -> Adapter:
    """Our names; one alpha for all, with what differs from it gone into the factors."""
    tensors: dict[str, Tensor] = {}
    parts: dict[ModuleKey, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        if _is_word(name):
            tensors[_word_name(name, description.placeholder_token)] = tensor
            continue
        place, part = parse(name)
        parts.setdefault(place, {})[part] = tensor
    scales = {place: _scale(place, p, said) for place, p in parts.items()}
    ranks = {place: rank for place, (_, rank) in scales.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(round(s * r, 6) for s, r in scales.values()).most_common(1)[0][0]
    for place, own in parts.items():
        wanted, given = scales[place][0], alpha / ranks[place]
        own.pop("alpha", None)
        if (middle := own.pop("lora_mid.weight", None)) is not None:
            down = own["lora_A.weight"].float().flatten(1)
            own["lora_A.weight"] = torch.einsum("rskl,si->rikl", middle.float(), down)
        if abs(wanted / given - 1) > 1e-6:
            outer = next(part for part in _OUTER if part in own)
            own[outer] = own[outer].float() * (wanted / given)
        if (magnitude := own.pop("dora_scale", None)) is not None:
            by_input = magnitude.shape[0] == 1 and magnitude.numel() > 1
            own["lora_magnitude_vector"] = magnitude.reshape((1, -1) if by_input else (-1,))
        tensors |= {f"{place}.{part}": tensor for part, tensor in own.items()}
    return Adapter(replace(description, rank=rank, alpha=alpha), tensors)


def _scale(place: ModuleKey, parts: Mapping[str, Tensor], said: Scales) -> tuple[float, int]:
    """The scale of one module, and the rank that it counts by."""
    shown = next((parts[part].shape[0] for part in _VISIBLE_RANK if part in parts), 0)
    alpha, rank = said(place, shown)
    if "alpha" in parts:
        # LyCORIS scales whole Kronecker factors by 1 whatever their alpha, and 0 is for the rank.
        alpha = (float(parts["alpha"]) if shown else 0.0) or rank
    return alpha / rank, rank


def _word_name(name: str, placeholder_token: str) -> str:
    if name.startswith(WORD):
        return name
    vector = name.rpartition(".")[2]
    return f"{WORD}{vector if vector in words.SDXL else placeholder_token}"


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).norm() / a.norm().clamp(min=1e-30))
