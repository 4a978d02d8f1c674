"""The names of kohya's sd-scripts and of LyCORIS, which ComfyUI, A1111 and Forge read.

A module's path is joined by underscores behind a prefix: ``lora_unet``, ``lora_te`` for the one
text encoder of SD 1.x and 2.x, ``lora_te1`` and ``lora_te2`` for the two of SDXL. For SDXL the
UNet is Stability's own, whose blocks are counted through (``input_blocks_4_1_...``); for the
others it is that of diffusers. Beside each pair of factors lies its ``alpha``.
"""

from __future__ import annotations

import json
import re

import torch
from torch import Tensor

from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import WORD, deltas_of, split_name
from personalization.adapters.module_keys import ModuleKey
from personalization.adapters.weight_deltas import LoKrDelta, WeightDelta, without_magnitude
from personalization.errors import AdapterError

# A learned word inside a LoRA file, as A1111 reads it.
BUNDLE = "bundle_emb."

_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
_PARTS = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale",
}
_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
# The names in a path that have an underscore of their own.
_COMPOUNDS = (
    *("down_blocks", "mid_block", "up_blocks", "transformer_blocks", "time_embedding"),
    *("add_embedding", "linear_1", "linear_2", "conv_in", "conv_out", "conv_shortcut"),
    *("time_emb_proj", "proj_in", "proj_out", "to_q", "to_k", "to_v", "to_out"),
    *("text_model", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "text_projection"),
    *("input_blocks", "middle_block", "output_blocks", "in_layers", "out_layers", "emb_layers"),
    *("skip_connection", "time_embed", "label_emb"),
)
_WORD = re.compile(rf"(?:{'|'.join(sorted(_COMPOUNDS, key=len, reverse=True))})(?=_|$)|[^_]+")

_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def split(name: str) -> tuple[ModuleKey, str] | None:
    """Place and ending of "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", or None."""
    flat, _, ending = name.partition(".")
    for prefix, component in _PREFIXES.items():
        if flat.startswith(prefix):
            path = ".".join(_WORD.findall(flat.removeprefix(prefix)))
            return ModuleKey(component, from_sgm(path) if component == "unet" else path), ending
    return None


def flat_name(place: ModuleKey, family: str) -> str:
    """What sd-scripts calls the module at `place` in a base of `family`."""
    if place.component == "unet":
        path = to_sgm(place.path) if family == "sdxl" else place.path
        return f"lora_unet_{path}".replace(".", "_")
    prefix = {"text_encoder": "lora_te1" if family == "sdxl" else "lora_te"}
    prefix["text_encoder_2"] = "lora_te2"
    if place.component not in prefix:
        raise AdapterError(
            f"kohya's format has no name for a {place.component}: export for diffusers instead.",
            field="format",
        )
    return f"{prefix[place.component]}_{place.path}".replace(".", "_")


def from_sgm(path: str) -> str:
    """A path in Stability's UNet of SDXL as diffusers counts it; any other path as it is."""
    outer = {theirs: ours for ours, theirs in _OUTER.items()}
    if path in outer:
        return outer[path]
    match path.split("."):
        case ["input_blocks", n, "0", "op"]:
            return f"down_blocks.{(int(n) - 1) // 3}.downsamplers.0.conv"
        case ["input_blocks", n, kind, *rest]:
            block, layer = divmod(int(n) - 1, 3)
            return f"down_blocks.{block}.{_layer_from_sgm(kind, layer, rest)}"
        case ["middle_block", "1", *rest]:
            return ".".join(["mid_block.attentions.0", *rest])
        case ["middle_block", n, *rest]:
            return f"mid_block.{_layer_from_sgm('0', int(n) // 2, rest)}"
        case ["output_blocks", n, _, "conv"]:
            return f"up_blocks.{int(n) // 3}.upsamplers.0.conv"
        case ["output_blocks", n, kind, *rest]:
            block, layer = divmod(int(n), 3)
            return f"up_blocks.{block}.{_layer_from_sgm(kind, layer, rest)}"
    return path


def _layer_from_sgm(kind: str, layer: int, rest: list[str]) -> str:
    inner = ".".join(rest)
    if kind == "1":
        return f"attentions.{layer}.{inner}"
    ours = next((ours for ours, theirs in _RESNET.items() if theirs == inner), inner)
    return f"resnets.{layer}.{ours}"


def to_sgm(path: str) -> str:
    """A path in diffusers' UNet of SDXL as Stability's counts it."""
    if path in _OUTER:
        return _OUTER[path]
    match path.split("."):
        case ["down_blocks", n, "downsamplers", "0", "conv"]:
            return f"input_blocks.{3 * int(n) + 3}.0.op"
        case ["down_blocks", n, kind, layer, *rest]:
            return f"input_blocks.{3 * int(n) + int(layer) + 1}.{_layer_to_sgm(kind, rest)}"
        case ["mid_block", "attentions", "0", *rest]:
            return ".".join(["middle_block.1", *rest])
        case ["mid_block", "resnets", n, *rest]:
            inner = ".".join(rest)
            return f"middle_block.{2 * int(n)}.{_RESNET.get(inner, inner)}"
        case ["up_blocks", n, "upsamplers", "0", "conv"]:
            return f"output_blocks.{3 * int(n) + 2}.2.conv"
        case ["up_blocks", n, kind, layer, *rest]:
            return f"output_blocks.{3 * int(n) + int(layer)}.{_layer_to_sgm(kind, rest)}"
    return path


def _layer_to_sgm(kind: str, rest: list[str]) -> str:
    inner = ".".join(rest)
    return f"0.{_RESNET.get(inner, inner)}" if kind == "resnets" else f"1.{inner}"


def to_kohya(adapter: Adapter) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The adapter's tensors and header as sd-scripts (LoRA) or LyCORIS (the others) write them."""
    description = adapter.description
    if description.method == "textual_inversion":
        rows = adapter.tensors
        return (rows if "clip_l" in rows else {"emb_params": next(iter(rows.values()))}), {}
    family, by_place = description.family, deltas_of(adapter)
    tensors: dict[str, Tensor] = {}
    for place, change in by_place.items():
        # LyCORIS takes whole Kronecker factors as they are, whatever alpha says.
        alpha = change.rank if _is_whole(change) else description.alpha or change.rank
        tensors[f"{flat_name(place, family)}.alpha"] = torch.tensor(float(alpha))
    for name, tensor in adapter.tensors.items():
        if name.startswith(WORD):
            vector = name.removeprefix(WORD)
            vector = vector if vector.startswith("clip_") else "string_to_param.*"
            tensors[f"{BUNDLE}{description.placeholder_token}.{vector}"] = tensor
            continue
        place, part = split_name(name)
        if part == "lora_magnitude_vector":
            factor = adapter.tensors.get(f"{place}.lora_A.weight", tensor)
            ones = [1] * (factor.dim() - 2)
            tensor = tensor.reshape(*tensor.shape if tensor.dim() == 2 else (-1, 1), *ones)
        if part == "lokr_w1" and _is_whole(by_place[place]):
            tensor = tensor.float() * without_magnitude(by_place[place]).scale
        tensors[f"{flat_name(place, family)}.{_PARTS.get(part, part)}"] = tensor
    return dict(sorted(tensors.items())), _metadata(adapter)


def _is_whole(change: WeightDelta) -> bool:
    inner = without_magnitude(change)
    return isinstance(inner, LoKrDelta) and len(inner.w1) == len(inner.w2) == 1


def _metadata(adapter: Adapter) -> dict[str, str]:
    description = adapter.description
    header = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(description.rank),
        "ss_network_alpha": str(description.alpha or float(description.rank)),
        "ss_output_name": description.title or description.trigger,
        "ss_training_comment": f"trigger: {description.trigger}" if description.trigger else "",
    }
    if description.family in _VERSIONS:
        header["ss_base_model_version"] = _VERSIONS[description.family]
    if description.method != "lora":
        algorithm = {"dora": "lora"}.get(description.method, description.method)
        arguments = {"algo": algorithm, "dora_wd": str(description.method == "dora")}
        header["ss_network_module"] = "lycoris.kohya"
        header["ss_network_args"] = json.dumps(arguments)
    return header
