"""Anybody's tensors under our names, with one alpha for all of them.

A module's scale is alpha over its rank. Where a file scales its modules unequally, what differs
from the usual scale goes into the factors, in float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import DIFFERENCE, MAGNITUDE, layers_of
from personalization.adapters.formats import names, textual_inversion
from personalization.adapters.formats.source import Source
from personalization.adapters.low_rank_factors import check_size
from personalization.adapters.module_keys import ModuleKey
from personalization.errors import AdapterError

VISIBLE_RANK = ("lora_A.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
_OUTER = ("lora_B.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")  # a scale can go into one of these
_BY_OUTPUT = ("lora_B.weight", "hada_w1_a", "hada_w2_a", DIFFERENCE)  # have a row for each output

Parts = dict[str, Tensor]
# From a module and the rank that its tensors show (0: none) to its alpha and rank.
Scales = Callable[[ModuleKey, int], tuple[float, int]]


class Scale(NamedTuple):
    """What a module's change is multiplied by, and the rank that it counts by."""

    factor: float
    rank: int


def alpha_is_rank(description: Description, *, is_own: bool) -> Scales:
    """Where nobody says otherwise, alpha is the rank; where the app says it, it is that."""

    def scales(_: ModuleKey, rank: int) -> tuple[float, int]:
        rank = rank or description.rank or 1
        return (description.alpha if is_own and description.alpha else rank), rank

    return scales


def assembled(source: Source, description: Description, scales: Scales) -> Adapter:
    """The adapter in the file. Raises `AdapterError` for what cannot be applied whole."""
    file = source.path.name
    try:
        words, modules = _parted(source.tensors(), description, file)
        return _scaled(description, words, modules, scales)
    except (RuntimeError, IndexError, ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise AdapterError(
            f"The tensors in {file} do not go together ({error}): they are not those of one "
            "adapter. Ask who made it for the whole file.",
            field="adapter",
        ) from error


def _parted(
    tensors: Mapping[str, Tensor], description: Description, file: str
) -> tuple[Parts, dict[ModuleKey, Parts]]:
    """The rows of a word that is bundled, and the parts of every module."""
    bundled = [name for name in tensors if textual_inversion.is_bundled(name)]
    token = textual_inversion.bundled_word(bundled, file) or description.placeholder_token
    for name in bundled:
        textual_inversion.check_rows(name, tensors[name], file)
    words = {textual_inversion.bundled_name(n, token, file): tensors[n] for n in bundled}
    modules: dict[ModuleKey, Parts] = {}
    readings = names.parsed((name for name in tensors if name not in bundled), file)
    for name, (key, part) in readings.items():
        parts = modules.setdefault(key, {})
        if part in parts:
            raise AdapterError(
                f"{file} holds two tensors for {key} ({part}): two adapters in one file. "
                "Ask for a file of each.",
                field="adapter",
            )
        if not tensors[name].numel():
            raise AdapterError(
                f"{file} holds nothing for {key}: its rank there is 0.", field="adapter"
            )
        parts[part] = tensors[name]
    if not modules and not words:
        raise AdapterError(f"{file} holds no adapter: it is empty.", field="adapter")
    return words, modules


def _scaled(
    description: Description, words: Parts, modules: Mapping[ModuleKey, Parts], scales: Scales
) -> Adapter:
    """One alpha for all, with what differs from it gone into the factors."""
    measured = {k: _scale(k, p, scales) for k, p in modules.items() if DIFFERENCE not in p}
    ranks = Counter(scale.rank for scale in measured.values())
    rank = ranks.most_common(1)[0][0] if ranks else 0
    alphas = Counter(round(scale.factor * scale.rank, 6) for scale in measured.values())
    alpha = alphas.most_common(1)[0][0] if alphas else 0.0
    tensors = dict(words)
    for key, parts in modules.items():
        relative = 1.0
        if key in measured:
            relative = measured[key].factor / (alpha / measured[key].rank)
        for layer, own_parts in _unfused(key, _ours(parts, relative)).items():
            tensors |= {f"{layer}.{part}": tensor for part, tensor in own_parts.items()}
    return Adapter(replace(description, rank=rank, alpha=alpha), tensors)


def _scale(key: ModuleKey, parts: Mapping[str, Tensor], scales: Scales) -> Scale:
    """The scale of one module, and the rank that it counts by."""
    shown = next((parts[part].shape[0] for part in VISIBLE_RANK if part in parts), 0)
    alpha, rank = scales(key, shown)
    if "alpha" in parts:
        # LyCORIS scales whole Kronecker factors by 1 whatever their alpha, and 0 is for the rank.
        alpha = (float(parts["alpha"]) if shown else 0.0) or rank
    return Scale(alpha / rank, rank)


def _ours(parts: Mapping[str, Tensor], relative: float) -> Parts:
    """The parts as we keep them, the module's own scale in its outer factor."""
    ours = {part: tensor for part, tensor in parts.items() if part != "alpha"}
    if (middle := ours.pop("lora_mid.weight", None)) is not None:
        down = ours["lora_A.weight"].float().flatten(1)
        check_size(middle[:, 0].numel() * down.shape[1])
        ours["lora_A.weight"] = torch.einsum("rskl,si->rikl", middle.float(), down)
    if abs(relative - 1) > 1e-6:
        outer = next(part for part in _OUTER if part in ours)
        ours[outer] = ours[outer].float() * relative
    if (magnitude := ours.pop("dora_scale", None)) is not None:
        by_input = magnitude.shape[0] == 1 and magnitude.numel() > 1
        ours[MAGNITUDE] = magnitude.reshape((1, -1) if by_input else (-1,))
    if not ours:
        raise ValueError("there is an alpha, and nothing that it scales")
    return ours


def _unfused(key: ModuleKey, parts: Parts) -> dict[ModuleKey, Parts]:
    """The parts of each layer that `key` stands for; a LoKr's cannot part, and stay together."""
    layers = layers_of(key)
    if len(layers) == 1 or any(part.startswith("lokr_") for part in parts):
        return {key: parts}
    shares: dict[ModuleKey, Parts] = {layer: {} for layer in layers}
    for part, tensor in parts.items():
        by_output = part in _BY_OUTPUT or (part == MAGNITUDE and tensor.dim() == 1)
        pieces = tensor.chunk(len(layers)) if by_output else [tensor] * len(layers)
        for share, piece in zip(shares.values(), pieces, strict=True):
            share[part] = piece.clone()
    return shares
