"""Which family of bases a file is for, from its names and the set of its shapes.

A family that no base here is of is called by its own name, so that a refusal is true.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from personalization.adapters.formats import names
from personalization.adapters.formats.source import Shapes
from personalization.bases.catalog import CATALOG, BaseSpec, has_family
from personalization.errors import AdapterError

Size = tuple[int, int]  # out, in * kernel


@dataclass(frozen=True)
class Rule:
    """A family, what one of its paths looks like, joined by "_", and its layer's width of input."""

    family: str
    pattern: str
    widths: tuple[int, ...] = ()


_ATTENTION = r"attn[12]_to_(q|k|v|out_0)$"
# In order: what one architecture alone has, then what widths tell apart.
_RULES = (
    Rule("Stable Cascade", r"^lora_prior_|^prior_"),
    Rule("AnimateDiff", r"motion_modules"),
    Rule("Chroma", r"distilled_guidance_layer"),
    Rule("HunyuanVideo", r"_img_mlp_fc[12]$|_img_mod_linear$|individual_token_refiner"),
    Rule("HiDream", r"^(double|single)_stream_blocks_"),
    Rule("AuraFlow", r"^joint_transformer_blocks_|^(double|single)_layers_"),
    Rule("Qwen-Image", r"^transformer_blocks_\d+_(img|txt)_(mlp|mod)_"),
    Rule("LTX-2", r"^transformer_blocks_\d+_(audio_|video_to_audio)"),
    Rule("flux2", r"to_qkv_mlp_proj|(double|single)_stream_modulation"),
    Rule("flux2", r"^transformer_blocks_\d+_ff(_context)?_linear_(in|out)$"),
    Rule("FLUX.1", r"_(img|txt)_mod_lin$|^single_blocks_\d+_modulation_lin$"),
    Rule(
        "FLUX.1", r"^single_transformer_blocks_\d+_(attn_to_[qkv]|proj_mlp|proj_out|norm_linear)$"
    ),
    Rule("sd3", r"^joint_blocks_"),
    Rule("sd3", r"^transformer_blocks_\d+_attn_(add_q_proj|to_q)$", (1536, 2432)),
    Rule("flux2", r"^transformer_blocks_\d+_attn_(add_q_proj|to_q)$", (4096, 6144)),
    Rule("flux2", r"^double_blocks_\d+_(img|txt)_attn_qkv$", (4096, 6144)),
    Rule("Qwen-Image", r"^transformer_blocks_(19|[2-5]\d)_attn_(add_q_proj|to_q)$", (3072,)),
    Rule("z-image", r"^(layers|noise_refiner|context_refiner)_\d+_attention_", (3840,)),
    Rule("Lumina 2", r"^(layers|noise_refiner|context_refiner)_\d+_att", (2304,)),
    Rule("Wan", r"^blocks_\d+_(self|cross)_attn_(q|k|v|o)$"),
    Rule("Cosmos", r"^blocks_\d+_(self|cross)_attn_(q|k|v|output)_proj$"),
    Rule("HunyuanDiT", rf"^blocks_\d+_{_ATTENTION}", (1408, 1024)),
    Rule("Wan", rf"^blocks_\d+_{_ATTENTION}", (1536, 3072, 5120)),
    Rule("LTX-Video", rf"^transformer_blocks_\d+_{_ATTENTION}", (2048,)),
    Rule("LTX-2", rf"^transformer_blocks_\d+_{_ATTENTION}", (4096,)),
    Rule("PixArt", rf"^transformer_blocks_\d+_{_ATTENTION}", (1152,)),
    Rule("Sana", rf"^transformer_blocks_\d+_{_ATTENTION}", (2240,)),
    Rule("CogVideoX", rf"^transformer_blocks_\d+_{_ATTENTION}", (1920, 3072)),
    Rule("Mochi", r"^blocks_\d+_attn_qkv_[xy]$"),
)
# FLUX.1 and FLUX.2 share names; FLUX.2's feed-forward is gated: how large a layer's larger side is,
# measured by its smaller.
_GATED = (
    (r"^single_blocks_\d+_linear1$", {9.0: "flux2", 7.0: "FLUX.1"}),
    (r"^single_blocks_\d+_linear2$", {4.0: "flux2", 5.0: "FLUX.1"}),
    (r"^double_blocks_\d+_(img|txt)_mlp_0$", {6.0: "flux2", 4.0: "FLUX.1"}),
    (r"^double_blocks_\d+_(img|txt)_mlp_2$", {3.0: "flux2", 4.0: "FLUX.1"}),
)
_BLOCKS = {"double": 8, "single": 24}  # the most that FLUX.2 klein has; FLUX.1 has 19 and 38
_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}  # of what the UNet's cross-attention reads
_UNET = re.compile(r"^(down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks)_.*")
_PREFIX = re.compile(
    r"^((model\.diffusion_model|diffusion_model|base_model\.model|transformer|unet)\."
    r"|(lora_unet|lora_transformer|lycoris)_)"
)
# SD 1.x and 2.x have one block in each attention.
_DEEP = re.compile(r"(attentions_\d+|blocks_\d+_1|block_1)_transformer_blocks_[1-9]")
_TEXT = re.compile(r"text_model_encoder_layers_\d+_self_attn_[qkv]_proj$")


def guess(shapes: Shapes) -> str:
    """``sd1``, ``sd2``, ``sdxl``, ``pocket``, ``sd3``, ``flux2``, ``z-image``, or another family's
    own name; "" where the file does not tell: then the modules must fit.

    A UNet's family is told by the width of its cross-attention, the only thing that the
    Stable Diffusions do not share; a text encoder's by its own, where no other has one like it.
    """
    sizes = _sizes(shapes)
    paths = {stem: _path(stem) for stem in sizes}
    for rule in _RULES:
        matches = re.compile(rule.pattern).search
        for stem, path in paths.items():
            if matches(path) and _wide(sizes[stem], rule.widths):
                return rule.family
    return _flux(paths, sizes) or _stable_diffusion(paths, sizes)


def of_word(shapes: Shapes) -> str:
    """The family whose text encoder has vectors as wide as the word's; "" for more than one."""
    if "clip_g" in shapes:
        return "sdxl"
    if "clip_l" in shapes:
        return ""  # SDXL's first encoder is that of SD 1.x
    return _widths().get(next(iter(shapes.values()))[-1], "")


def is_known(family: str) -> bool:
    """Whether a base here is of it, or may be."""
    return not family or has_family(family)


def refusal(name: str, family: str, spec: BaseSpec) -> AdapterError:
    """The sentence for an adapter that is for another family than the base is of."""
    remedy = "choose a base of that family" if is_known(family) else "no base here is of it"
    return AdapterError(
        f"{name} was made for {family}, and {spec.title} is {spec.family}: {remedy}.",
        field="adapter",
    )


def _flux(paths: Mapping[str, str], sizes: Mapping[str, Size]) -> str:
    """FLUX.1 or FLUX.2, of a file with Black Forest Labs' names."""
    blocks = [
        (match[1], int(match[2]))
        for path in paths.values()
        if (match := re.match(r"(double|single)_blocks_(\d+)_", path))
    ]
    for stem, path in paths.items():
        for pattern, ratios in _GATED:
            small, large = sorted(sizes[stem])
            if re.search(pattern, path) and small and large / small in ratios:
                return ratios[large / small]
    return "FLUX.1" if any(number >= _BLOCKS[kind] for kind, number in blocks) else ""


def _stable_diffusion(paths: Mapping[str, str], sizes: Mapping[str, Size]) -> str:
    widths, unet = _widths(), [stem for stem, path in paths.items() if _UNET.match(path)]
    families = {
        widths.get(sizes[stem][1], "")
        for stem in unet
        if paths[stem].endswith(("attn2_to_k", "attn2_to_v"))
    }
    if families:
        return families.pop() if len(families) == 1 else ""
    if any(stem.startswith(("text_encoder_2.", "lora_te2_", "clip_g.")) for stem in paths):
        transformer = any(stem.startswith(("transformer.", "lora_transformer_")) for stem in paths)
        return "" if transformer else "sdxl"
    if any(_DEEP.search(paths[stem]) for stem in unet):
        return "sdxl"
    told = {
        widths.get(sizes[stem][1], "")
        for stem in paths
        if _TEXT.search(paths[stem])
        and stem.startswith(("text_encoder.", "lora_te_", "text_model"))
    }
    return told.pop() if len(told) == 1 else ""


def _wide(size: Size, widths: tuple[int, ...]) -> bool:
    return not widths or size[1] in widths


def _path(stem: str) -> str:
    """The path without what stands before it, joined by "_"."""
    while (shorter := _PREFIX.sub("", stem)) != stem:
        stem = shorter
    return stem.replace(".", "_")


def _sizes(shapes: Shapes) -> dict[str, Size]:
    """Of every module, by its name without the part; (0, 0) where the shapes do not tell."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        stem, part = names.stem_and_part(name)
        parts.setdefault(stem, {})[part] = shape
    return {stem: _size(by_part) for stem, by_part in parts.items()}


def _size(parts: Mapping[str, tuple[int, ...]]) -> Size:
    factors = (
        ("lora_B.weight", "lora_A.weight"),
        ("hada_w1_a", "hada_w1_b"),
    )
    for up, down in factors:
        if up in parts and down in parts:
            return _out(parts[up]), math.prod(parts[down][1:])
        if down in parts:
            return 0, math.prod(parts[down][1:])
    first = _kronecker(parts, "w1")
    second = _kronecker(parts, "w2")
    return first[0] * second[0], first[1] * second[1]


def _kronecker(parts: Mapping[str, tuple[int, ...]], factor: str) -> Size:
    whole = parts.get(f"lokr_{factor}")
    if whole:
        return whole[0], math.prod(whole[1:])
    outer, inner = parts.get(f"lokr_{factor}_a", ()), parts.get(f"lokr_{factor}_b", ())
    return _out(outer), math.prod(inner[1:]) if inner else 0


def _out(shape: Iterable[int]) -> int:
    return next(iter(shape), 0)


def _widths() -> dict[int, str]:
    """Families by the width of what their UNet reads, the pocket base among them."""
    config = Path(CATALOG["pocket"].source, "unet", "config.json")
    try:
        return _WIDTHS | {json.loads(config.read_text())["cross_attention_dim"]: "pocket"}
    except (OSError, ValueError, KeyError):
        return _WIDTHS
