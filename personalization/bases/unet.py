"""Stable Diffusion 1.x, 2.x and XL: a UNet, a KL autoencoder, CLIP, and noise or v prediction."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from personalization.bases import loading, schedulers, windows
from personalization.bases.base import Conditioning, Posterior, TextEncoder
from personalization.bases.catalog import BaseSpec, Task
from personalization.bases.context import Context
from personalization.bases.learned_embedding import with_all_vectors
from personalization.cache import BoundedCache

_PIPELINES: dict[Task, Any] = {
    "text": StableDiffusionPipeline,
    "image": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}
_XL_PIPELINES: dict[Task, Any] = {
    "text": StableDiffusionXLPipeline,
    "image": StableDiffusionXLImg2ImgPipeline,
    "inpaint": StableDiffusionXLInpaintPipeline,
}


def load(spec: BaseSpec, device: torch.device) -> UNetBase:
    """Read the weights, in half precision on CUDA and in float32 elsewhere."""
    if spec.family == "sdxl":
        return UNetBase(spec, loading.read(StableDiffusionXLPipeline, spec, device), device)
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    more = {} if loading.keeps_safety_checker(spec) else unchecked
    return UNetBase(spec, loading.read(StableDiffusionPipeline, spec, device, **more), device)


class UNetBase:
    """A `Base` over the parts of a StableDiffusionPipeline or a StableDiffusionXLPipeline.

    XL has two text encoders, whose last states but one stand side by side, and tells its UNet two
    things more: the pooled prompt, and the picture's size before and after cropping (Podell et al.
    2023, arXiv 2307.01952, section 2.2).
    """

    def __init__(self, spec: BaseSpec, pipe: Any, device: torch.device):
        self.spec = spec
        self.device = device
        self.fingerprint = fingerprint(pipe)
        self.lock = threading.Lock()
        self.cache = BoundedCache()
        self.denoiser = pipe.unet.to(device=device, memory_format=torch.channels_last)
        self.vae = pipe.vae.to(device)
        self.text_encoders: tuple[TextEncoder, ...] = (
            TextEncoder("text_encoder", pipe.text_encoder.to(device), pipe.tokenizer),
        )
        self._is_xl = isinstance(pipe, StableDiffusionXLPipeline)
        # What the pipelines take beside the parts that are ours.
        self._more: dict[str, Any] = {}
        if self._is_xl:
            second = pipe.text_encoder_2.to(device)
            self.text_encoders += (TextEncoder("text_encoder_2", second, pipe.tokenizer_2),)
            zeros = pipe.config.force_zeros_for_empty_prompt
            self._more = {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
        else:
            self._more = {
                "safety_checker": pipe.safety_checker,
                "feature_extractor": pipe.feature_extractor,
                "requires_safety_checker": pipe.safety_checker is not None,
            }
            if pipe.safety_checker is not None:
                pipe.safety_checker.to(device)
        for module in (self.denoiser, self.vae, *(e.model for e in self.text_encoders)):
            module.requires_grad_(False).eval()
            loading.unmapped(module)
        for encoder in self.text_encoders:
            fix_eos_pooling(encoder)
        self.scheduler = pipe.scheduler
        self.noise_schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self._steps: int = self.noise_schedule.config.num_train_timesteps

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The denoiser and the text encoders that can be trained."""
        return {"unet": self.denoiser} | {e.name: e.model for e in self.text_encoders}

    @property
    def contexts(self) -> list[Context]:
        return [
            Context(e.tokenizer, e.tokenizer.model_max_length, windows.MOST)
            for e in self.text_encoders
        ]

    def autocast(self) -> AbstractContextManager[Any]:
        """To the precision of the weights."""
        return loading.autocast(self.vae, self.device)

    def encode_images(self, images: Tensor) -> Posterior:
        """By the KL autoencoder, scaled as its configuration says."""
        images = images.to(self.device, self.vae.dtype)
        with torch.no_grad():
            posterior = self.vae.encode(images).latent_dist
        scale = self.vae.config.scaling_factor
        return Posterior(posterior.mean.float() * scale, posterior.std.float() * scale)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """By CLIP: its last states; of XL's two the last but one, and the second's pooled."""
        with self.autocast():
            if not self._is_xl:
                (encoder,) = self.text_encoders
                hidden = encoder.model(self._ids(encoder, prompts))[0]
                return Conditioning({"encoder_hidden_states": hidden})
            outputs = [
                encoder.model(self._ids(encoder, prompts), output_hidden_states=True)
                for encoder in self.text_encoders
            ]
        hidden = torch.cat([one.hidden_states[-2] for one in outputs], dim=-1)
        return Conditioning({"encoder_hidden_states": hidden, "text_embeds": outputs[-1][0]})

    def _ids(self, encoder: TextEncoder, prompts: Sequence[str]) -> Tensor:
        """(batch, length): each prompt as this encoder's tokenizer reads it, padded."""
        ids: Tensor = encoder.tokenizer(
            [with_all_vectors(prompt, encoder.tokenizer) for prompt in prompts],
            padding="max_length",
            max_length=encoder.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.device)

    def predict(
        self, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor
    ) -> Tensor:
        """The UNet's output at timestep floor(1000 u)."""
        t = self._timesteps(u)
        noisy = self.noise_schedule.add_noise(latents, noise, t)
        hidden = conditioning.tensors["encoder_hidden_states"]
        added = self._added(latents, conditioning) if self._is_xl else {}
        with self.autocast():
            prediction: Tensor = self.denoiser(noisy, t, hidden, return_dict=False, **added)[0]
        return prediction.float()

    def _added(self, latents: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """The pooled prompt, and sizes in pixels: (height, width) before, 0, 0, and after.

        Unless the conditioning tells the sizes: then those.
        """
        pixels = 2 ** (len(self.vae.config.block_out_channels) - 1)
        height, width = (side * pixels for side in latents.shape[2:])
        pooled = conditioning.tensors["text_embeds"]
        if (sizes := conditioning.tensors.get("sizes")) is not None:
            given = {"text_embeds": pooled, "time_ids": sizes.to(pooled)}
            return {"added_cond_kwargs": given}
        time_ids = pooled.new_zeros(len(latents), 6)
        # Filled where it lies: a tensor made on the host would have CUDA wait for it in each step.
        for place, side in ((0, height), (1, width), (4, height), (5, width)):
            time_ids[:, place] = side
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}

    def target(self, latents: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """The noise, v (Salimans and Ho 2022, arXiv 2202.00512), or the picture."""
        kind = self.noise_schedule.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            v: Tensor = self.noise_schedule.get_velocity(latents, noise, self._timesteps(u))
            return v
        return latents

    def pipeline(self, task: Task, scheduler: str | None = None) -> Any:
        """Of diffusers, over the very same modules. Raises `BaseError` for what it does not do."""
        self.spec.check_task(task)
        encoders: dict[str, Any] = {}
        for encoder in self.text_encoders:
            encoders[encoder.name] = encoder.model
            encoders[encoder.name.replace("text_encoder", "tokenizer")] = encoder.tokenizer
        pipe = (_XL_PIPELINES if self._is_xl else _PIPELINES)[task](
            vae=self.vae,
            unet=self.denoiser,
            scheduler=schedulers.fresh(self.scheduler, self.spec.module, scheduler),
            **encoders,
            **self._more,
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.maybe_convert_prompt = _converted
        pipe.encode_prompt = windows.reading_in_windows(pipe.encode_prompt, self.contexts)
        return pipe

    def _timesteps(self, u: Tensor) -> Tensor:
        return (u * self._steps).long().to(self.device)


def _converted(prompt: str | list[str], tokenizer: Any) -> str | list[str]:
    """In place of the pipelines' own, which finds a word's letters in other words."""
    if isinstance(prompt, str):
        return with_all_vectors(prompt, tokenizer)
    return [with_all_vectors(each, tokenizer) for each in prompt]


def fix_eos_pooling(encoder: TextEncoder) -> None:
    """Have CLIP pool at the end of the prompt, also where a learned word stands in it.

    Configurations of before 2023 say that the end is token 2, at which transformers takes the
    largest id for the end: so it is, until a word is added, whose id is larger. No prompt without a
    learned word is pooled otherwise than before.
    """
    inner: Any = getattr(encoder.model, "text_model", encoder.model)
    if getattr(inner, "eos_token_id", None) == 2:
        inner.eos_token_id = encoder.tokenizer.eos_token_id


def fingerprint(pipe: Any) -> str:
    """A hash of every parameter's name, shape and first values: cheap, and tells bases apart.

    Of all that draws: a checkpoint may differ from another in its autoencoder alone.
    """
    digest = hashlib.sha256()
    for part, module in sorted(pipe.components.items()):
        if isinstance(module, nn.Module) and part != "safety_checker":
            for name, parameter in module.named_parameters():
                digest.update(f"{part}.{name}{tuple(parameter.shape)}".encode())
                digest.update(parameter.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
