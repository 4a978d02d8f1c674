"""What tensors are called: from anybody's name to the place in the base and the part it is.

    diffusers  unet.down_blocks.0.attentions.0.to_q.lora_A.weight        also .lora.down.weight,
               text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight   .processor.to_q_lora
    PEFT       base_model.model.down_blocks.0.attentions.0.to_q.lora_A.weight
    kohya      lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight, .alpha; lora_te_...

Names alone are read here, so that a header is enough.
"""

from __future__ import annotations

import re

from personalization.adapters.adapter_deltas import SUFFIXES
from personalization.adapters.formats import kohya
from personalization.adapters.module_keys import ModuleKey
from personalization.errors import AdapterError

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
PEFT = "base_model.model."

# Every spelling of a part; "alpha", "lora_mid.weight" and "dora_scale" are no parts of ours: what
# they say goes into the others when a file is read.
_PARTS = {
    **{suffix: suffix for suffix in SUFFIXES},
    "lora.down.weight": "lora_A.weight",
    "lora.up.weight": "lora_B.weight",
    "lora_linear_layer.down.weight": "lora_A.weight",
    "lora_linear_layer.up.weight": "lora_B.weight",
    "lora_down.weight": "lora_A.weight",
    "lora_up.weight": "lora_B.weight",
    "lora_mid.weight": "lora_mid.weight",
    "lora_magnitude_vector.weight": "lora_magnitude_vector",
    "dora_scale": "dora_scale",
    "alpha": "alpha",
}
# The attention processors of diffusers before 0.17 held the layers themselves.
_PROCESSOR = re.compile(r"(?P<path>.+)\.to_(?P<which>q|k|v|out)_lora\.(?P<way>down|up)\.weight")
_ATTENTION = {
    "unet": {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"},
    "text_encoder": {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"},
}


def parse(name: str) -> tuple[ModuleKey, str]:
    """The place and the part that `name` stands for, in our spelling.

    Raises `AdapterError` for a name that is none of the known spellings.
    """
    if found := kohya.split(name):
        place, ending = found
        part = _PARTS.get(ending)
    else:
        place, part = _dotted(name)
    if part is None:
        raise AdapterError(
            f"The adapter holds “{name[:120]}”, which is no part of a LoRA, LoHa, LoKr or DoRA: "
            "it cannot be applied whole, and is not applied in part.",
            field="adapter",
        )
    return place, part


def _dotted(name: str) -> tuple[ModuleKey, str | None]:
    component, _, rest = name.partition(".")
    if component not in COMPONENTS:
        rest = name.removeprefix(PEFT)
        component = _component(rest)
    rest = rest.replace(".processor.", ".")
    if old := _PROCESSOR.fullmatch(rest):
        names = _ATTENTION["unet" if component == "unet" else "text_encoder"]
        path = f"{old['path']}.{names[old['which']]}"
        return ModuleKey(component, path), _PARTS[f"lora.{old['way']}.weight"]
    for ending, part in _PARTS.items():
        if rest.endswith(f".{ending}"):
            path = rest.removesuffix(f".{ending}")
            inner = component == "text_encoder" and path.startswith("encoder.layers.")
            return ModuleKey(component, f"text_model.{path}" if inner else path), part
    return ModuleKey(component, rest), None


def _component(path: str) -> str:
    """Which component a path without one belongs to."""
    if path.startswith(("text_model.", "encoder.layers.")):
        return "text_encoder"
    unet = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding.")
    return "unet" if path.startswith((*unet, "add_embedding.")) else "transformer"
