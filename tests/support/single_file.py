"""A pipeline as one file, with the names that CompVis's own code gave Stable Diffusion 1.x.

Names by https://github.com/CompVis/latent-diffusion (`ldm.modules.diffusionmodules`): the UNet's
blocks are numbered through, the autoencoder's upwards from the picture.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def save_single_file(pipe: Any, path: Path) -> None:
    """Write the weights of a StableDiffusionPipeline."""
    tensors: dict[str, Tensor] = {}
    layers = pipe.unet.config.layers_per_block
    for name, tensor in pipe.unet.state_dict().items():
        tensors["model.diffusion_model." + _unet(name, layers)] = tensor
    blocks = len(pipe.vae.config.block_out_channels)
    for name, tensor in pipe.vae.state_dict().items():
        told = _vae(name, blocks)
        is_map = ".attn_1." in told and tensor.dim() == 2  # a convolution of 1 x 1 there
        tensors[f"first_stage_model.{told}"] = tensor[:, :, None, None] if is_map else tensor
    for name, tensor in pipe.text_encoder.state_dict().items():
        inner = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{inner}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def _swapped(name: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    return name


def _unet(name: str, layers: int) -> str:
    each = layers + 1  # of the way down: its layers and the step to half the size
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+?)s\.(\d+)\.(.+)", name):
        way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        number = block * each + layer + (way == "down")
        where = "input_blocks" if way == "down" else "output_blocks"
        if kind == "resnet":
            return f"{where}.{number}.0.{_swapped(rest, _RESNET)}"
        if kind == "attention":
            return f"{where}.{number}.1.{rest}"
        if kind == "downsampler":
            return f"{where}.{(block + 1) * each}.0.op.{rest.removeprefix('conv.')}"
        return f"{where}.{(block + 1) * each - 1}.{2 if block == 0 else 1}.{rest}"
    if found := re.fullmatch(r"mid_block\.(\w+)s\.(\d+)\.(.+)", name):
        if found[1] == "attention":
            return f"middle_block.1.{found[3]}"
        return f"middle_block.{2 * int(found[2])}.{_swapped(found[3], _RESNET)}"
    return _swapped(name, _ENDS)


def _vae(name: str, blocks: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    rest = rest.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+?)s\.(\d+)\.(.+)", rest):
        way, kind, layer, inner = found[1], found[3], found[4], found[5]
        block = int(found[2]) if way == "down" else blocks - 1 - int(found[2])
        of = f"block.{layer}" if kind == "resnet" else kind.removesuffix("r")
        return f"{half}.{way}.{block}.{of}.{inner}"
    if found := re.fullmatch(r"mid_block\.resnets\.(\d+)\.(.+)", rest):
        return f"{half}.mid.block_{int(found[1]) + 1}.{found[2]}"
    if found := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", rest):
        return f"{half}.mid.attn_1.{_swapped(found[1], _ATTENTION)}"
    return f"{half}.{rest}"
