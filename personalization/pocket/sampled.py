"""Drawings' latents as the UNet gives them back: what the decoder meets when pictures are drawn.

Latents of real drawings are noised a part of the way and denoised with their captions (SDEdit, Meng
et al. 2021, arXiv:2108.01073). They are as blurred and as wrong as sampled ones, and the drawing is
still the right answer. Kept in files beside the pictures that they are of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import parallel, pictures
from .anatomy import make_scheduler
from .autoencoder import to_tensor
from .dataset import CHUNK, chunks, picture_path, write_atomically
from .world import full_caption

STEPS, GUIDANCE = 10, 4.0
# The share of the steps that is drawn anew, batch by batch. Beyond a half other shapes appear.
STRENGTHS = (0.2, 0.3, 0.4, 0.5)
BATCHES = {"cpu": 10, "cuda": 125}


def path_of(folder: Path, index: int) -> Path:
    """Where the latents of the pictures numbered from index * CHUNK lie."""
    return folder / f"sampled-{index:05d}.npy"


def pipeline_of(
    autoencoder: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> StableDiffusionImg2ImgPipeline:
    """The parts in training as diffusers' pipeline from image to image."""
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=autoencoder,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def drawn_again(
    pipeline: StableDiffusionImg2ImgPipeline, images: np.ndarray, captions: list[str], seed: int
) -> np.ndarray:
    """Latents of uint8 pictures after noise and denoising: (n, 4, 32, 32), fp16."""
    device = pipeline.device
    batch, parts = BATCHES[device.type], []
    noise = torch.Generator(device).manual_seed(seed)
    for number, start in enumerate(range(0, len(images), batch)):
        some = slice(start, start + batch)
        clean = pipeline.vae.encode(to_tensor(images[some], device)).latent_dist.mean.float()
        denoised = pipeline(
            captions[some],
            image=clean * pipeline.vae.config.scaling_factor,
            strength=STRENGTHS[number % len(STRENGTHS)],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=noise,
            output_type="latent",
        ).images
        parts.append((denoised.float() / pipeline.vae.config.scaling_factor).half().cpu().numpy())
    return np.concatenate(parts)


def draw_all(
    pipeline: StableDiffusionImg2ImgPipeline, work: Path, seed: int, count: int
) -> np.ndarray:
    """Those of the first `count` pictures of the work folder, from disk where they are there.

    Several processes share the work.
    """
    folder = work / "sampled"
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(parallel.rank(), chunks(count), parallel.world()):
        path = path_of(folder, index)
        if not path.exists():
            numbers = range(index * CHUNK, (index + 1) * CHUNK)
            captions = [full_caption(pictures.scene_at(seed, number)) for number in numbers]
            images = np.load(picture_path(work / "pictures", index))
            write_atomically(path, drawn_again(pipeline, images, captions, seed + index))
            print(f"sampled latents: {(index + 1) * CHUNK}", flush=True)
    parallel.wait()
    return np.concatenate([np.load(path_of(folder, i)) for i in range(chunks(count))])[:count]
