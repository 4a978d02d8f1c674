"""Paths in the original code of a model, which other programs use, as diffusers has them.

Stability's UNet (SD 1.x, 2.x, XL) counts its blocks through; SD 3's and FLUX.2's transformers have
query, key and value in one layer, which here is the layer `to_qkv` that stands for three.
"""

from __future__ import annotations

_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_FLUX2 = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
}
_FLUX2_DOUBLE = {
    "img_attn.qkv": "attn.to_qkv",
    "img_attn.proj": "attn.to_out.0",
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_attn.qkv": "attn.to_added_qkv",
    "txt_attn.proj": "attn.to_add_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
_FLUX2_SINGLE = {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"}
_SD3_JOINT = {
    "x_block.attn.qkv": "attn.to_qkv",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.qkv": "attn2.to_qkv",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.attn.qkv": "attn.to_added_qkv",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}


def from_transformer(path: str) -> str | None:
    """A path in FLUX.2's or SD 3's transformer as diffusers has it, or as it is where it is so.

    None for a part of an original block that has no counterpart of its own.
    """
    match path.split("."):
        case ["double_blocks", n, *rest]:
            return _inner(f"transformer_blocks.{n}", _FLUX2_DOUBLE, rest)
        case ["single_blocks", n, *rest]:
            return _inner(f"single_transformer_blocks.{n}", _FLUX2_SINGLE, rest)
        case ["joint_blocks", n, *rest]:
            return _inner(f"transformer_blocks.{n}", _SD3_JOINT, rest)
        case ["sformer_blocks", *rest]:  # of those who cut "tran" off as a prefix
            return ".".join(["transformer_blocks", *rest])
    return _FLUX2.get(path, path)


def _inner(block: str, names: dict[str, str], rest: list[str]) -> str | None:
    inner = names.get(".".join(rest))
    return f"{block}.{inner}" if inner else None


def from_unet(path: str) -> str:
    """A path in Stability's UNet as diffusers counts it; any other path as it is."""
    outer = {theirs: ours for ours, theirs in _OUTER.items()}
    if path in outer:
        return outer[path]
    match path.split("."):
        case ["input_blocks", n, "0", "op"] if n.isdecimal():
            return f"down_blocks.{(int(n) - 1) // 3}.downsamplers.0.conv"
        case ["input_blocks", n, kind, *rest] if n.isdecimal():
            block, layer = divmod(int(n) - 1, 3)
            return f"down_blocks.{block}.{_layer_from_unet(kind, layer, rest)}"
        case ["middle_block", "1", *rest]:
            return ".".join(["mid_block.attentions.0", *rest])
        case ["middle_block", n, *rest] if n.isdecimal():
            return f"mid_block.{_layer_from_unet('0', int(n) // 2, rest)}"
        case ["output_blocks", n, _, "conv"] if n.isdecimal():
            return f"up_blocks.{int(n) // 3}.upsamplers.0.conv"
        case ["output_blocks", n, kind, *rest] if n.isdecimal():
            block, layer = divmod(int(n), 3)
            return f"up_blocks.{block}.{_layer_from_unet(kind, layer, rest)}"
    return path


def _layer_from_unet(kind: str, layer: int, rest: list[str]) -> str:
    inner = ".".join(rest)
    if kind == "1":
        return f"attentions.{layer}.{inner}"
    ours = next((ours for ours, theirs in _RESNET.items() if theirs == inner), inner)
    return f"resnets.{layer}.{ours}"


def to_unet(path: str) -> str:
    """A path in diffusers' UNet of SDXL as Stability's counts it."""
    if path in _OUTER:
        return _OUTER[path]
    match path.split("."):
        case ["down_blocks", n, "downsamplers", "0", "conv"]:
            return f"input_blocks.{3 * int(n) + 3}.0.op"
        case ["down_blocks", n, kind, layer, *rest]:
            return f"input_blocks.{3 * int(n) + int(layer) + 1}.{_layer_to_unet(kind, rest)}"
        case ["mid_block", "attentions", "0", *rest]:
            return ".".join(["middle_block.1", *rest])
        case ["mid_block", "resnets", n, *rest]:
            inner = ".".join(rest)
            return f"middle_block.{2 * int(n)}.{_RESNET.get(inner, inner)}"
        case ["up_blocks", n, "upsamplers", "0", "conv"]:
            return f"output_blocks.{3 * int(n) + 2}.2.conv"
        case ["up_blocks", n, kind, layer, *rest]:
            return f"output_blocks.{3 * int(n) + int(layer)}.{_layer_to_unet(kind, rest)}"
    return path


def _layer_to_unet(kind: str, rest: list[str]) -> str:
    inner = ".".join(rest)
    return f"0.{_RESNET.get(inner, inner)}" if kind == "resnets" else f"1.{inner}"
