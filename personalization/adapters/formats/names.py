"""Any spelling of a tensor's name, as the module of the base and the part of its change.

    diffusers  unet.down_blocks.0.attentions.0.to_q.lora_A.weight        also .lora.down.weight,
               text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight   .processor.to_q_lora
    PEFT       base_model.model.down_blocks.0.attentions.0.to_q.lora_A[.default].weight
    kohya      lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight, .alpha; lora_te_...
    LyCORIS    lycoris_transformer_blocks_0_attn_to_q.lokr_w1
    OneTrainer unet.input_blocks.1.1.proj_in.lora_up.weight; clip_l..., lora_transformer_...
    ComfyUI    diffusion_model.input_blocks.1.1.proj_in.lora_up.weight, .diff, .diff_b
    ai-toolkit diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight

Names alone are read here, so that a header is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from personalization.adapters.adapter_deltas import DIFFERENCE, MAGNITUDE, SUFFIXES
from personalization.adapters.formats import original
from personalization.adapters.module_keys import ModuleKey
from personalization.errors import AdapterError

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")

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
    f"{MAGNITUDE}.weight": MAGNITUDE,
    "dora_scale": "dora_scale",
    "alpha": "alpha",
    "w_norm": DIFFERENCE,  # LyCORIS, of norms
    "b_norm": "diff_b",
    "diff_b": "diff_b",  # of the module's bias
}
# PEFT's own state has the adapter's name in each key: "lora_A.default.weight".
_ADAPTER_NAME = re.compile(
    r"\.(lora_A|lora_B|lora_down|lora_up|lora_magnitude_vector|hada_\w+|lokr_\w+)"
    r"\.(?!weight$)[^.]+(?=\.weight$|$)"
)
# The attention processors of diffusers before 0.17 held the layers themselves.
_PROCESSOR = re.compile(r"(?P<path>.+)\.to_(?P<which>q|k|v|out)_lora\.(?P<way>down|up)\.weight")
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
_SELF_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out.0": "out_proj"}
# What stands before a path, and which component it means; "" says none.
_PREFIXES = {
    **{f"{component}.": component for component in COMPONENTS},
    "clip_l.": "text_encoder",
    "clip_g.": "text_encoder_2",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_h.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "model.diffusion_model.": "",
    "diffusion_model.": "",
    "base_model.model.": "",
}
_FLAT_PREFIXES = {
    "lora_unet_": "",  # of transformers as well
    "lora_transformer_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lycoris_": "",
}
_UNET = (
    *("down_blocks.", "mid_block.", "up_blocks.", "conv_in", "conv_out", "conv_norm_out"),
    *("time_embedding.", "add_embedding.", "input_blocks.", "middle_block.", "output_blocks."),
    *("time_embed.", "label_emb.", "out.0", "out.2"),
)
# The names in a path that have an underscore of their own.
_COMPOUNDS = (
    *("down_blocks", "mid_block", "up_blocks", "transformer_blocks", "time_embedding"),
    *("add_embedding", "linear_1", "linear_2", "conv_in", "conv_out", "conv_shortcut"),
    *("time_emb_proj", "proj_in", "proj_out", "to_q", "to_k", "to_v", "to_out", "conv_norm_out"),
    *("text_model", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "text_projection"),
    *("input_blocks", "middle_block", "output_blocks", "in_layers", "out_layers", "emb_layers"),
    *("skip_connection", "time_embed", "label_emb", "layer_norm1", "layer_norm2"),
    # SD 3's and FLUX.2's transformers, in diffusers and as they were published
    *("single_transformer_blocks", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("to_qkv", "to_added_qkv", "to_qkv_mlp_proj", "ff_context", "linear_in", "linear_out"),
    *("norm_out", "norm1_context", "x_embedder", "context_embedder", "time_text_embed"),
    *("time_guidance_embed", "timestep_embedder", "guidance_embedder", "text_embedder"),
    *("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation"),
    *("double_blocks", "single_blocks", "img_attn", "txt_attn", "img_mlp", "txt_mlp"),
    *("img_in", "txt_in", "time_in", "guidance_in", "in_layer", "out_layer", "final_layer"),
    *("joint_blocks", "x_block", "context_block"),
)
_STEP = re.compile(rf"(?:{'|'.join(sorted(_COMPOUNDS, key=len, reverse=True))})(?=_|$)|[^_]+")

# Whose names they look like that are not understood.
_STRANGERS = (
    (r"\.oft_|oft_(blocks|diag)", "an OFT of LyCORIS or PEFT"),
    (r"\.[ab][12]\.weight$", "a GLoRA of LyCORIS"),
    (r"\.on_input$|ia3_l", "an (IA)³"),
    (r"vera_lambda|\.vera_", "a VeRA of PEFT"),
    (r"ip_adapter|to_[kv]_ip|^image_proj", "an IP-Adapter"),
    (r"^control(net|_model)|input_hint_block", "a ControlNet"),
    (r"qkv_lora|proj_lora", "a LoRA of XLabs"),
    (r"\.(scale_weight|weight_scale|scale_input)$", "weights in 8 bits with scales of their own"),
    (r"_out$|^t5", "the output vectors of an embedding of OneTrainer"),
    (r"^(first_stage_model|cond_stage_model|model)\.", "a whole model, and no adapter"),
    (r"(lora|hada|lokr|dora)", "a LoRA whose layers are named as no program known here does"),
    (r"\.(weight|bias)$", "a whole model, and no adapter"),
)


def parse(name: str) -> tuple[ModuleKey, str] | None:
    """The module and the part that `name` stands for, in our spelling; None for no known one."""
    stem, part = stem_and_part(name)
    if not part:
        return None
    component, path = _place(stem)
    translated = original.from_transformer(path) if component == "transformer" else path
    if not translated:
        return None
    if component == "unet":
        translated = original.from_unet(path)
    if part == "diff_b":
        return ModuleKey(component, f"{translated}.bias"), DIFFERENCE
    return ModuleKey(component, translated), part


def parsed(names: Iterable[str], file: str) -> dict[str, tuple[ModuleKey, str]]:
    """`parse` of every name. Raises `AdapterError`, which says what is not understood of `file`."""
    readings = {name: parse(name) for name in names}
    unknown = [name for name, reading in readings.items() if reading is None]
    if unknown:
        raise AdapterError(
            f"{file} has names that are not understood here: {_listed(unknown)} of "
            f"{len(readings)} in all. They look like {_whose(unknown)}. It cannot be applied "
            "whole, and is not applied in part: ask for a LoRA in diffusers' or kohya's format.",
            field="adapter",
        )
    return {name: reading for name, reading in readings.items() if reading}


def stem_and_part(name: str) -> tuple[str, str]:
    """The module's name as it is spelled, and the part in our spelling; "" where it is none."""
    name = _ADAPTER_NAME.sub(r".\1", name)
    name = name.replace(".processor.", ".")
    if match := _PROCESSOR.fullmatch(name):
        return f"{match['path']}.{_ATTENTION[match['which']]}", _PARTS[
            f"lora.{match['way']}.weight"
        ]
    for ending, part in _PARTS.items():
        if name.endswith(f".{ending}"):
            return name.removesuffix(f".{ending}"), part
    return name, ""


def is_flat(name: str) -> bool:
    """Whether it is spelled as kohya's scripts and LyCORIS do, with underscores."""
    return name.startswith(tuple(_FLAT_PREFIXES))


def _listed(names: list[str]) -> str:
    """Two of them, and how many there are."""
    shown = ", ".join(f"“{name[:80]}”" for name in names[:2])
    return shown + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _whose(names: list[str]) -> str:
    for pattern, whose in _STRANGERS:
        if any(re.search(pattern, name) for name in names):
            return whose
    return "nobody's that is known here"


def _place(stem: str) -> tuple[str, str]:
    """The component and the path that is left behind every prefix."""
    for prefix, component in _FLAT_PREFIXES.items():
        if stem.startswith(prefix):
            path = ".".join(_STEP.findall(stem.removeprefix(prefix)))
            return component or _component(path), path
    component, path = "", stem
    while prefix := next((p for p in _PREFIXES if path.startswith(p)), ""):
        component = component or _PREFIXES[prefix]
        path = path.removeprefix(prefix)
    component = component or _component(path)
    if component.startswith("text_encoder"):
        block, _, layer = path.rpartition(".self_attn.")
        path = f"{block}.self_attn.{_SELF_ATTENTION.get(layer, layer)}" if block else path
    inner = component == "text_encoder" and path.startswith("encoder.layers.")
    return component, f"text_model.{path}" if inner else path


def _component(path: str) -> str:
    """Which component a path without one belongs to."""
    if path.startswith(("text_model.", "encoder.layers.")):
        return "text_encoder"
    return "unet" if path.startswith(_UNET) else "transformer"
