"""Which family of bases a file is for, from its names and shapes alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from personalization.adapters.formats.names import parse
from personalization.adapters.module_keys import ModuleKey
from personalization.bases.catalog import CATALOG
from personalization.errors import AdapterError

Shapes = Mapping[str, tuple[int, ...]]

# Names that one architecture alone has. Those of flow transformers come in many spellings, none of
# which is read module by module before the file is meant for a base.
_MARKS = {
    "flux2": ("to_qkv_mlp_proj",),
    "flux": ("single_transformer_blocks", "single_blocks", "double_blocks"),
    "sd3": ("joint_blocks",),
    "transformer": ("diffusion_model.",),
}
TRANSFORMERS = tuple(_MARKS)
_SD3 = (1536, 2432)  # the width of its medium and of its large transformer
_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}  # of what the UNet's cross-attention reads


def guess(shapes: Shapes) -> str:
    """``sd1``, ``sd2``, ``sdxl``, ``pocket``, ``flux2``, ``flux``, ``sd3``, or ``transformer`` for
    what else no base here is; "" where the file does not tell.

    A UNet's family is told by the width of its cross-attention, the only thing that the
    Stable Diffusions do not share; a text encoder's by its own. What stays "" is told by whether
    its modules fit the base.
    """
    for family, marks in _MARKS.items():
        if any(mark in name for name in shapes for mark in marks):
            return family
    places = list(_places(shapes))
    components = {place.component for place, _, _ in places}
    if "text_encoder_2" in components and "transformer" not in components:
        return "sdxl"
    widths = _WIDTHS | _pocket_widths()
    for place, part, shape in places:
        inward = part == "lora_A.weight" and len(shape) > 1
        if place.path.endswith("attn.add_q_proj") and inward and shape[1] in _SD3:
            return "sd3"
        if place.path.endswith(("attn2.to_k", "attn2.to_v")) and inward:
            return widths.get(shape[1], "")
        text = place.component == "text_encoder" and "transformer" not in components
        if text and "q_proj" in place.path and inward:
            return widths.get(shape[1], "")
    return ""


def of_word(shapes: Shapes) -> str:
    """The family whose text encoder has vectors as wide as the word's."""
    if "clip_g" in shapes:
        return "sdxl"
    return (_WIDTHS | _pocket_widths()).get(next(iter(shapes.values()))[-1], "")


def _places(shapes: Shapes) -> Iterable[tuple[ModuleKey, str, tuple[int, ...]]]:
    for name, shape in shapes.items():
        try:
            place, part = parse(name)
        except AdapterError:
            continue
        yield place, part, shape


def _pocket_widths() -> dict[int, str]:
    config = Path(CATALOG["pocket"].source, "unet", "config.json")
    try:
        return {json.loads(config.read_text())["cross_attention_dim"]: "pocket"}
    except (OSError, ValueError, KeyError):
        return {}
