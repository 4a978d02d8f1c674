"""A ControlNet of random weights for a tiny base, as a folder that the guides' list names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel

from personalization.bases.catalog import Checkpoint
from personalization.bases.guide_loading import structure_adapter
from personalization.bases.guides import StructureSpec


def saved(base: Any, folder: Path) -> tuple[ControlNetModel, StructureSpec]:
    """The network, and what names it; what the base has loaded of it is ready as well."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = ControlNetModel.from_unet(
            base.denoiser, conditioning_embedding_out_channels=(4,), load_weights_from_unet=False
        )
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(block.weight, std=0.2)  # they begin at nothing
        torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.2)
    # One halving between a pixel and a latent, as these small autoencoders have.
    net.controlnet_cond_embedding.conv_in.stride = (2, 2)
    net.save_pretrained(folder)
    spec = StructureSpec(Checkpoint(str(folder), None, ""))
    structure_adapter(base, spec).controlnet_cond_embedding.conv_in.stride = (2, 2)
    return net, spec
