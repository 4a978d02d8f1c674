"""Stable Diffusion 1.x and 2.x: a UNet, a KL autoencoder, CLIP, and noise or v prediction."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from diffusers.loaders import TextualInversionLoaderMixin
from torch import Tensor, nn

from personalization.bases.base import Conditioning, Posterior, Task, TextEncoder
from personalization.bases.spec import BaseSpec
from personalization.errors import BaseError

_PIPELINES = {
    "text": StableDiffusionPipeline,
    "image": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}


def load(spec: BaseSpec, device: torch.device) -> UNetBase:
    """Read the weights, in half precision on CUDA and in float32 elsewhere."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            spec.source,
            revision=spec.revision,
            torch_dtype=dtype,
            safety_checker=None,
            requires_safety_checker=False,
            local_files_only=Path(spec.source).is_dir(),
            low_cpu_mem_usage=True,
        )
    except (OSError, ValueError) as error:
        raise BaseError(
            f"The base {spec.title} cannot be loaded from {spec.source}: {error}"
        ) from error
    return UNetBase(spec, pipe, device)


class UNetBase:
    """A `Base` over the parts of a StableDiffusionPipeline."""

    def __init__(self, spec: BaseSpec, pipe: StableDiffusionPipeline, device: torch.device):
        self.spec = spec
        self.device = device
        self.fingerprint = _fingerprint(pipe.unet)
        self.lock = threading.Lock()
        self.denoiser = pipe.unet.to(device=device, memory_format=torch.channels_last)
        self.vae = pipe.vae.to(device)
        self.text_encoders = (
            TextEncoder("text_encoder", pipe.text_encoder.to(device), pipe.tokenizer),
        )
        for module in (self.denoiser, self.vae, self.text_encoders[0].model):
            module.requires_grad_(False).eval()
        self.scheduler = pipe.scheduler
        self.noise_schedule = DDPMScheduler.from_config(pipe.scheduler.config)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"unet": self.denoiser} | {e.name: e.model for e in self.text_encoders}

    def encode_images(self, images: Tensor) -> Posterior:
        images = images.to(self.device, self.vae.dtype)
        with torch.no_grad():
            posterior = self.vae.encode(images).latent_dist
        scale = self.vae.config.scaling_factor
        return Posterior(posterior.mean.float() * scale, posterior.std.float() * scale)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        encoder = self.text_encoders[0]
        expand = TextualInversionLoaderMixin()._maybe_convert_prompt
        ids = encoder.tokenizer(
            [expand(prompt, encoder.tokenizer) for prompt in prompts],
            padding="max_length",
            max_length=encoder.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return Conditioning({"encoder_hidden_states": encoder.model(ids.to(self.device))[0]})

    def predict(
        self, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor
    ) -> Tensor:
        t = self._timesteps(u)
        noisy = self.noise_schedule.add_noise(latents, noise, t)
        hidden = conditioning.tensors["encoder_hidden_states"]
        return self.denoiser(noisy, t, hidden, return_dict=False)[0].float()

    def target(self, latents: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        kind = self.noise_schedule.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.noise_schedule.get_velocity(latents, noise, self._timesteps(u))
        return latents

    def loss(self, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor) -> Tensor:
        error = self.predict(latents, conditioning, noise, u) - self.target(latents, noise, u)
        return error.square().mean(dim=(1, 2, 3))

    def pipeline(self, task: Task) -> Any:
        encoder = self.text_encoders[0]
        pipe = _PIPELINES[task](
            vae=self.vae,
            text_encoder=encoder.model,
            tokenizer=encoder.tokenizer,
            unet=self.denoiser,
            # A scheduler keeps state while it samples: a fresh one for each pipeline.
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _timesteps(self, u: Tensor) -> Tensor:
        return (u * self.noise_schedule.config.num_train_timesteps).long().to(self.device)


def _fingerprint(module: nn.Module) -> str:
    """A hash of every parameter's name, shape and first values: cheap, and tells bases apart."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
