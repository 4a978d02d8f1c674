"""What the catalog's bases are made of, at full size, from configuration alone.

On torch's meta device a model has names and shapes and no weights: enough to say what it will weigh
before a byte of it is loaded. Where each configuration is from is said beside it; the tests hold
their numbers of parameters against those that are published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from torch import nn


@dataclass(frozen=True)
class Part:
    """A component of a pipeline: its class, by name, and its configuration."""

    kind: str
    config: Mapping[str, Any]

    def on_meta(self) -> nn.Module:
        """The module, frozen, without weights."""
        module: nn.Module
        with torch.device("meta"):
            if hasattr(transformers, self.kind):
                kind = getattr(transformers, self.kind)
                module = kind(kind.config_class(**self.config))
            else:
                module = getattr(diffusers, self.kind)(**self.config)
        return module.requires_grad_(False)


@dataclass(frozen=True)
class Architecture:
    """A base's components, by their names in the pipeline; the denoiser is the first."""

    parts: Mapping[str, Part]
    context: tuple[int, ...]  # (tokens, width) of what the denoiser reads of a prompt
    pooled: int  # width of the pooled prompt; 0 where there is none
    latents: tuple[int, int]  # channels, and pixels to a side of one latent
    # Tokens that the text encoder is given, padding and all, where the denoiser reads the prompt's
    # alone; 0: as many as that reads.
    padded: int = 0

    @property
    def denoiser(self) -> str:
        """Its name."""
        return next(iter(self.parts))


# openai/clip-vit-large-patch14, text half.
_CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}
# laion/CLIP-ViT-H-14 without its last layer, and laion/CLIP-ViT-bigG-14, text halves.
_CLIP_H = {
    **_CLIP_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_CLIP_G = {
    **_CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
# google/t5-v1_1-xxl, encoder.
_T5 = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
# Qwen/Qwen3-4B; its three layers' 2560 make the 7680 that FLUX.2 klein 4B reads.
_QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}

_VAE_BLOCKS = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_VAE = Part("AutoencoderKL", {**_VAE_BLOCKS, "latent_channels": 4})


def _sd1(blocks: Mapping[str, Any]) -> Architecture:
    """Stable Diffusion 1.x with a smaller UNet, which BK-SDM is."""
    unet = {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "mid_block_type": None,
        "layers_per_block": 1,
        **blocks,
    }
    return Architecture(
        {
            "unet": Part("UNet2DConditionModel", unet),
            "vae": _VAE,
            "text_encoder": Part("CLIPTextModel", _CLIP_L),
        },
        context=(77, 768),
        pooled=0,
        latents=(4, 8),
    )


ARCHITECTURES: dict[str, Architecture] = {
    # assets/pocket, as `pocket.build` makes it.
    "pocket": Architecture(
        {
            "unet": Part(
                "UNet2DConditionModel",
                {
                    "sample_size": 32,
                    "block_out_channels": (32, 64, 128, 256),
                    "down_block_types": (
                        "DownBlock2D",
                        *("CrossAttnDownBlock2D",) * 2,
                        "DownBlock2D",
                    ),
                    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
                    "layers_per_block": 1,
                    "attention_head_dim": (1, 2, 4, 8),
                    "cross_attention_dim": 192,
                    "norm_num_groups": 8,
                },
            ),
            "vae": Part(
                "AutoencoderKL",
                {
                    "block_out_channels": (16, 32, 96),
                    "down_block_types": ("DownEncoderBlock2D",) * 3,
                    "up_block_types": ("UpDecoderBlock2D",) * 3,
                    "latent_channels": 4,
                    "norm_num_groups": 1,
                    "mid_block_add_attention": False,
                },
            ),
            "text_encoder": Part(
                "CLIPTextModel",
                {
                    "vocab_size": 770,
                    "hidden_size": 192,
                    "intermediate_size": 768,
                    "num_hidden_layers": 4,
                    "num_attention_heads": 6,
                    "max_position_embeddings": 32,
                    "projection_dim": 192,
                    "bos_token_id": 768,
                    "eos_token_id": 769,
                    "pad_token_id": 769,
                },
            ),
        },
        context=(32, 192),
        pooled=0,
        latents=(4, 4),
    ),
    # CompVis' v1-inference.yaml, which is diffusers' default but for the width of the text.
    "sd15": Architecture(
        {
            "unet": Part("UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768}),
            "vae": _VAE,
            "text_encoder": Part("CLIPTextModel", _CLIP_L),
        },
        context=(77, 768),
        pooled=0,
        latents=(4, 8),
    ),
    # unet/config.json of nota-ai's repositories: one layer a block, no middle (Kim et al. 2023,
    # arXiv 2305.15798); of the tiny one no innermost level either.
    "bk-sdm-small": _sd1(
        {
            "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        }
    ),
    "bk-sdm-tiny": _sd1(
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3,
            "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        }
    ),
    # Stability's v2-inference-v.yaml.
    "sd21": Architecture(
        {
            "unet": Part(
                "UNet2DConditionModel",
                {
                    "sample_size": 96,
                    "cross_attention_dim": 1024,
                    "attention_head_dim": (5, 10, 20, 20),
                    "use_linear_projection": True,
                },
            ),
            "vae": _VAE,
            "text_encoder": Part("CLIPTextModel", _CLIP_H),
        },
        context=(77, 1024),
        pooled=0,
        latents=(4, 8),
    ),
    # Stability's sd_xl_base.yaml.
    "sdxl": Architecture(
        {
            "unet": Part(
                "UNet2DConditionModel",
                {
                    "sample_size": 128,
                    "block_out_channels": (320, 640, 1280),
                    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
                    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
                    "transformer_layers_per_block": (1, 2, 10),
                    "attention_head_dim": (5, 10, 20),
                    "cross_attention_dim": 2048,
                    "use_linear_projection": True,
                    "addition_embed_type": "text_time",
                    "addition_time_embed_dim": 256,
                    "projection_class_embeddings_input_dim": 2816,
                },
            ),
            "vae": _VAE,
            "text_encoder": Part("CLIPTextModel", _CLIP_L),
            "text_encoder_2": Part("CLIPTextModelWithProjection", _CLIP_G),
        },
        context=(77, 2048),
        pooled=1280,
        latents=(4, 8),
    ),
    # What diffusers' convert_sd3_to_diffusers.py reads off the checkpoint: 24 blocks of 24 heads, a
    # second attention in the first 13 (its docstring's tuple), positions for 384 x 384 patches.
    "sd35-medium": Architecture(
        {
            "transformer": Part(
                "SD3Transformer2DModel",
                {
                    "sample_size": 128,
                    "num_layers": 24,
                    "num_attention_heads": 24,
                    "caption_projection_dim": 1536,
                    "joint_attention_dim": 4096,
                    "pooled_projection_dim": 2048,
                    "pos_embed_max_size": 384,
                    "dual_attention_layers": tuple(range(13)),
                    "qk_norm": "rms_norm",
                },
            ),
            "vae": Part(
                "AutoencoderKL",
                {
                    **_VAE_BLOCKS,
                    "latent_channels": 16,
                    "use_quant_conv": False,
                    "use_post_quant_conv": False,
                    "scaling_factor": 1.5305,
                    "shift_factor": 0.0609,
                },
            ),
            "text_encoder": Part("CLIPTextModelWithProjection", _CLIP_L),
            "text_encoder_2": Part("CLIPTextModelWithProjection", _CLIP_G),
            "text_encoder_3": Part("T5EncoderModel", _T5),
        },
        context=(333, 4096),  # 77 of CLIP and 256 of T5
        pooled=2048,
        latents=(16, 8),
    ),
    # "klein-4b" of diffusers' convert_flux2_to_diffusers.py.
    "flux2-klein": Architecture(
        {
            "transformer": Part(
                "Flux2Transformer2DModel",
                {
                    "num_layers": 5,
                    "num_single_layers": 20,
                    "num_attention_heads": 24,
                    "joint_attention_dim": 7680,
                    "guidance_embeds": False,
                },
            ),
            "vae": Part("AutoencoderKLFlux2", {}),
            "text_encoder": Part("Qwen3ForCausalLM", _QWEN3_4B),
        },
        context=(512, 7680),
        pooled=0,
        latents=(128, 16),
    ),
    # ZImageTransformer2DModel's own defaults, which are the checkpoint's; FLUX.1's autoencoder.
    "z-image": Architecture(
        {
            "transformer": Part("ZImageTransformer2DModel", {}),
            "vae": Part(
                "AutoencoderKL",
                {
                    **_VAE_BLOCKS,
                    "latent_channels": 16,
                    "use_quant_conv": False,
                    "use_post_quant_conv": False,
                    "scaling_factor": 0.3611,
                    "shift_factor": 0.1159,
                },
            ),
            "text_encoder": Part("Qwen3Model", _QWEN3_4B),
        },
        context=(64, 2560),  # a caption of some forty words, in its template
        pooled=0,
        latents=(16, 8),
        padded=512,
    ),
}
