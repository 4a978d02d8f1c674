"""The parts of the pocket and their sizes: Stable Diffusion 1.x (Rombach et al. 2022) in small.

128 px pictures, latents of 4 x 32 x 32, a UNet with cross-attention at 16 x 16 and 8 x 8 on the
32 hidden states of a CLIP text encoder. All of it loads with diffusers' StableDiffusionPipeline.
"""

from __future__ import annotations

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_WIDTH = 192
TEXT_LENGTH = 32
LATENT_CHANNELS = 4
LATENT_SIZE = 32
TRAIN_TIMESTEPS = 1000


def make_autoencoder() -> AutoencoderKL:
    """f = 4: 128 x 128 x 3 to 32 x 32 x 4.

    Most work is done at a quarter of the resolution, where it is cheap. One normalisation group:
    more groups erase what colour a flat area has, and large areas drift.
    """
    channels = (16, 32, 96)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        sample_size=128,
        mid_block_add_attention=False,
    )


def make_text_encoder(vocabulary: int, bos: int, eos: int) -> CLIPTextModel:
    """Four causal layers of 192; (n, 32) token numbers to (n, 32, 192) hidden states."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH * 4,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=6,
            max_position_embeddings=TEXT_LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def make_unet() -> UNet2DConditionModel:
    """Four levels, 32 to 4 cells wide; 12.5 M parameters."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 128, 256),
        down_block_types=(
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=(1, 2, 4, 8),  # in diffusers' UNet the number of heads, of 32 each
        cross_attention_dim=TEXT_WIDTH,
    )


def make_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's noise schedule, v-prediction (Salimans & Ho 2022), DPM-Solver++ 2M."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        steps_offset=1,
    )
