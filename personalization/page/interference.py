"""What the page says of adapters that meet: how far they overlap, where, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from personalization.evaluation.heat_maps import heat_map, layer_map

if TYPE_CHECKING:
    from personalization.adapters.module_keys import ModuleKey
    from personalization.stacking.interference import LayerOverlap, Overlap

Pairs = Mapping[tuple[int, int], "Overlap"]

_PARTS = {"down_blocks": "down", "mid_block": "middle", "up_blocks": "up"}


def interference(names: Sequence[str], pairs: Pairs) -> str:
    """Every pair in words, its layers folded under it; from three adapters on, the whole table."""
    if not pairs:
        return ""
    table = ""
    if len(names) > 2:
        matrix = [[0.0] * len(names) for _ in names]
        for (i, j), overlap in pairs.items():
            matrix[i][j] = matrix[j][i] = abs(overlap.cosine)
        table = heat_map(names, matrix, "How much of one change is the other’s, 0 to 1.")
    said = "".join(_pair(names[i], names[j], overlap) for (i, j), overlap in pairs.items())
    return f'<div class="meeting"><h4>How they meet</h4>{table}{said}</div>'


def suggested(before: Sequence[float], after: Sequence[float]) -> str:
    """What a suggestion has changed."""
    parts = [b / a for a, b in zip(before, after, strict=True) if a != b]
    if not parts:
        return "These weights keep to the bounds already: the sum is no larger than one adapter."
    return (
        f"Lowered to {max(parts):.0%}: together they now change the base no more than the "
        "strongest would alone."
    )


def _pair(first: str, second: str, overlap: Overlap) -> str:
    head = (
        f'<b class="token">{escape(first)}</b> and <b class="token">{escape(second)}</b> '
        f"<br><span>{escape(overlap.words)}</span>"
    )
    if not overlap.layers:
        return f'<p class="pair">{head}</p>'
    shown = layer_map([_layer(layer) for layer in sorted(overlap.layers, key=_order)])
    figures = f"Over all layers: cosine {overlap.cosine:.2f}, shared {overlap.shared:.2f}."
    return (
        f'<details class="pair"><summary>{head}</summary>{shown}'
        f'<p class="hint">{figures}</p></details>'
    )


def _layer(layer: LayerOverlap) -> tuple[str, str, float, float]:
    return _part(layer.place), str(layer.place), layer.cosine, layer.shared


def _part(place: ModuleKey) -> str:
    if place.component.startswith("text_encoder"):
        return "text"
    block = place.path.split(".")[0]
    return _PARTS.get(block, block.replace("_", " "))


def _order(layer: LayerOverlap) -> tuple[int, list[tuple[int, str]]]:
    """As the model runs: the text encoder, then down, middle and up, each from its first layer."""
    place = layer.place
    stages = ["text", *_PARTS.values()]
    part = _part(place)
    stage = stages.index(part) if part in stages else len(stages)
    return stage, [(int(s), "") if s.isdigit() else (0, s) for s in place.path.split(".")]
