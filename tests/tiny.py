"""A Stable Diffusion of random weights, small enough to train in a test.

The same classes as the real thing, built from configuration; it draws noise, and what is tested on
it are the claims that hold for any weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from personalization.bases import CATALOG, BaseSpec
from personalization.bases.unet import UNetBase
from personalization.concept import Concept
from personalization.photos import Photo

WORDS = ["a", "photo", "of", "dog", "cat", "red", "the", "in", "on", "beach", "snow", "style"]
BYTES = [chr(i) for i in [*range(33, 127), *range(161, 173), *range(174, 256)]] + [
    chr(256 + i) for i in range(68)
]


def tokenizer() -> CLIPTokenizer:
    """Every byte, and a few words as single tokens."""
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for piece in [*BYTES, *(byte + "</w>" for byte in BYTES)]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges = []
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if i == len(word) else "")
            pair, joined = f"{left} {right}", left + right
            if pair not in merges:
                merges.append(pair)
            vocabulary.setdefault(joined, len(vocabulary))
            left = joined
    return CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(m.split()) for m in merges], model_max_length=24
    )


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """An untouched diffusers pipeline of random weights: 32 px, latents of 16 x 16 x 4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            latent_channels=4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def spec() -> BaseSpec:
    return replace(CATALOG["pocket"], name="tiny", family="tiny", size=32, source="")


def base(seed: int = 0) -> UNetBase:
    return UNetBase(spec(), pipeline(seed), torch.device("cpu"))


def photos(count: int = 3) -> tuple[Photo, ...]:
    noise = torch.Generator().manual_seed(7)
    pixels = [torch.randint(0, 256, (40, 48, 3), generator=noise) for _ in range(count)]
    return tuple(
        Photo(f"photo-{i}.png", Image.fromarray(p.to(torch.uint8).numpy()).resize((96, 80)))
        for i, p in enumerate(pixels)
    )


def concept(token: str = "sks", noun: str = "dog", count: int = 3) -> Concept:
    return Concept("creature", token, noun, photos(count))


__all__ = ["base", "concept", "photos", "pipeline", "spec", "tokenizer"]
