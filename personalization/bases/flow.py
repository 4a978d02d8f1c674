"""Flow transformers: Stable Diffusion 3.5, FLUX.2 klein, and `z_image`.

A flow runs straight from the picture to the noise, x_s = (1 - s) x + s noise, and the transformer
says its velocity, noise - x (rectified flow, Liu et al. 2022, arXiv 2209.03003; Esser et al. 2024,
arXiv 2403.03206). Where on the way a step of training looks, how latents are laid out and what of a
prompt is read differs: a `_Family` says it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2KleinPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
    ZImagePipeline,
)
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor, nn

from personalization.bases import loading, schedulers
from personalization.bases.base import Conditioning, Posterior, TextEncoder
from personalization.bases.catalog import BaseSpec, Task
from personalization.bases.context import Context
from personalization.bases.learned_embedding import with_all_vectors
from personalization.bases.unet import fingerprint, fix_eos_pooling
from personalization.bases.z_image import ZImage
from personalization.cache import BoundedCache

_PIPELINES = {
    "sd3": StableDiffusion3Pipeline,
    "flux2": Flux2KleinPipeline,
    "z-image": ZImagePipeline,
}


def load(spec: BaseSpec, device: torch.device) -> FlowBase:
    """Read the weights, in half precision on CUDA and in float32 elsewhere."""
    return FlowBase(spec, loading.read(_PIPELINES[spec.family], spec, device), device)


class FlowBase:
    """A `Base` over the parts of one of these pipelines."""

    def __init__(self, spec: BaseSpec, pipe: Any, device: torch.device):
        self.spec = spec
        self.device = device
        self.fingerprint = fingerprint(pipe)
        self.lock = threading.Lock()
        self.cache = BoundedCache()
        self.denoiser = pipe.transformer.to(device)
        self.vae = pipe.vae.to(device)
        self.family = _family(pipe)
        self.text_encoders = tuple(
            TextEncoder(name, getattr(pipe, name).to(device), getattr(pipe, tokenizer))
            for name, tokenizer in self.family.trainable_encoders.items()
        )
        for module in (self.denoiser, self.vae, *(e.model for e in self.text_encoders)):
            module.requires_grad_(False).eval()
            loading.unmapped(module)
        for module in self.family.frozen_components.values():
            if isinstance(module, nn.Module):
                module.to(device).requires_grad_(False).eval()
        for encoder in self.text_encoders:
            fix_eos_pooling(encoder)
        self.scheduler = pipe.scheduler
        schedule = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
        # From noise to picture; shifted towards noise where the configuration says so.
        self._sigmas: Tensor = schedule.sigmas[: schedule.config.num_train_timesteps].to(device)
        self._steps: int = schedule.config.num_train_timesteps

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The denoiser and the text encoders that can be trained."""
        return {"transformer": self.denoiser} | {e.name: e.model for e in self.text_encoders}

    @property
    def contexts(self) -> list[Context]:
        return self.family.contexts(self.text_encoders)

    def autocast(self) -> AbstractContextManager[Any]:
        """To the precision of the weights."""
        return loading.autocast(self.vae, self.device)

    def encode_images(self, images: Tensor) -> Posterior:
        """By the autoencoder, in the scale and the layout of the transformer."""
        images = images.to(self.device, self.vae.dtype)
        with torch.no_grad():
            posterior = self.vae.encode(images).latent_dist
        return self.family.posterior(self.vae, posterior.mean.float(), posterior.std.float())

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """By the pipeline's own `encode_prompt`; a run asks once a slice for what is frozen."""
        with self.autocast():
            tensors = self.family.encode_prompts(
                self._diffusers("text"), list(prompts), self.device
            )
        return Conditioning(tensors)

    def as_given(self, conditioning: Conditioning) -> dict[str, Any]:
        """As the pipelines take it: tensors, or with a mask a list of those of other lengths."""
        dtype, tensors = self.vae.dtype, conditioning.tensors
        if (mask := tensors.get("prompt_mask")) is None:
            return {name: tensor.to(dtype) for name, tensor in tensors.items()}
        pairs = zip(tensors["prompt_embeds"], mask, strict=True)
        return {"prompt_embeds": [states[there].to(dtype) for states, there in pairs]}

    def predict(
        self, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor
    ) -> Tensor:
        """The velocity, or where the family weighs by it the clean picture that it leads to."""
        s = self._sigma(u)
        noisy = (1 - s) * latents + s * noise
        with self.autocast():
            velocity = self.family.velocity(self.denoiser, noisy, s.flatten(), conditioning)
        return noisy - s * velocity.float() if self.family.clean else velocity.float()

    def target(self, latents: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """The same at every level: the velocity of a straight way, or the picture."""
        return latents if self.family.clean else noise - latents

    def pipeline(self, task: Task, scheduler: str | None = None) -> Any:
        """Of diffusers, over the very same modules; see `_Drawing`."""
        return _Drawing(self, self._diffusers(task, scheduler), task)

    def _diffusers(self, task: Task, scheduler: str | None = None) -> Any:
        parts: dict[str, Any] = {
            "vae": self.vae,
            "transformer": self.denoiser,
            **self.family.frozen_components,
        }
        for encoder in self.text_encoders:
            parts[encoder.name] = encoder.model
            parts[self.family.trainable_encoders[encoder.name]] = encoder.tokenizer
        fresh = schedulers.fresh(self.scheduler, self.spec.module, scheduler)
        pipe = self.family.pipelines[task](scheduler=fresh, **parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _sigma(self, u: Tensor) -> Tensor:
        """(batch, 1, 1, 1): how far on the way to noise; u = 0 is nearest to it."""
        if self.family.timestep_sampling == "logit_normal":
            # The quantile function, so that a u from each stratum gives one from each.
            u = torch.sigmoid(torch.special.ndtri(u.double())).float()
        index = (u.to(self.device) * self._steps).long().clamp(max=self._steps - 1)
        return self._sigmas[index].view(-1, 1, 1, 1)


class _Drawing:
    """A pipeline that takes what the others take: negative prompts, words of several vectors, a
    picture to start from, latents as the transformer sees them."""

    def __init__(self, base: FlowBase, pipe: Any, task: Task):
        self._base = base
        self._task = task
        self.pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(
        self,
        prompt: Sequence[str],
        negative_prompt: Sequence[str] | None = None,
        **settings: Any,
    ) -> Any:
        base, family = self._base, self._base.family
        settings |= base.as_given(base.encode_prompts(prompt))
        if negative_prompt is not None:
            negative = base.as_given(base.encode_prompts(negative_prompt))
            settings |= {f"negative_{name}": given for name, given in negative.items()}
        with base.autocast():
            output = family.draw(base, self.pipe, self._task, settings)
        if settings.get("output_type") == "latent":
            output.images = family.to_denoiser(base.vae, output.images)
        return output


class _Family(Protocol):
    """What tells one flow transformer from another."""

    trainable_encoders: ClassVar[dict[str, str]]  # with their tokenizers, by component
    frozen_components: dict[str, Any]  # of the pipeline, beside those that every base has
    pipelines: ClassVar[dict[Task, Any]]
    timestep_sampling: Literal["uniform", "logit_normal"]  # of the levels of noise in training
    clean: bool  # whether the loss is on the clean picture, which weighs it by the squared sigma

    def posterior(self, vae: Any, mean: Tensor, std: Tensor) -> Posterior:
        """The autoencoder's, as the transformer sees it."""
        ...

    def to_denoiser(self, vae: Any, latents: Tensor) -> Tensor:
        """A pipeline's latents as the transformer sees them."""
        ...

    def contexts(self, encoders: Sequence[TextEncoder]) -> list[Context]:
        """How much of a prompt is read: the pipelines' default lengths."""
        ...

    def encode_prompts(
        self, pipe: Any, prompts: list[str], device: torch.device
    ) -> dict[str, Tensor]:
        """By the names that the pipeline gives them: prompt_embeds, ..."""
        ...

    def velocity(
        self, denoiser: nn.Module, noisy: Tensor, s: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """s: (batch,) in [0, 1], how far on the way to noise."""
        ...

    def draw(self, base: FlowBase, pipe: Any, task: Task, settings: dict[str, Any]) -> Any:
        """The pipeline's output for `settings`, in which the task's picture is."""
        ...


def _family(pipe: Any) -> _Family:
    """What a pipeline's transformer is."""
    if isinstance(pipe, StableDiffusion3Pipeline):
        return _SD3(pipe)
    return ZImage() if isinstance(pipe, ZImagePipeline) else _Klein(pipe)


class _SD3:
    """Stable Diffusion 3 and 3.5: two CLIPs and T5, and latents as they are.

    T5 reads a learned word by its letters, as every trainer has it: it learns none.
    """

    trainable_encoders: ClassVar[dict[str, str]] = {
        "text_encoder": "tokenizer",
        "text_encoder_2": "tokenizer_2",
    }
    pipelines: ClassVar[dict[Task, Any]] = {
        "text": StableDiffusion3Pipeline,
        "image": StableDiffusion3Img2ImgPipeline,
        "inpaint": StableDiffusion3InpaintPipeline,
    }
    # The defaults of train_dreambooth_lora_sd3.py: weighting_scheme and precondition_outputs.
    timestep_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    clean = True

    def __init__(self, pipe: Any):
        self.frozen_components = {
            "text_encoder_3": pipe.text_encoder_3,
            "tokenizer_3": pipe.tokenizer_3,
        }

    def posterior(self, vae: Any, mean: Tensor, std: Tensor) -> Posterior:
        shift, scale = vae.config.shift_factor or 0.0, vae.config.scaling_factor
        return Posterior((mean - shift) * scale, std * scale)

    def to_denoiser(self, vae: Any, latents: Tensor) -> Tensor:
        return latents

    def contexts(self, encoders: Sequence[TextEncoder]) -> list[Context]:
        clip = [Context(e.tokenizer, e.tokenizer.model_max_length) for e in encoders]
        return [*clip, Context(self.frozen_components["tokenizer_3"], 256)]

    def encode_prompts(
        self, pipe: Any, prompts: list[str], device: torch.device
    ) -> dict[str, Tensor]:
        embeds, _, pooled, _ = pipe.encode_prompt(
            prompt=[with_all_vectors(prompt, pipe.tokenizer) for prompt in prompts],
            prompt_2=[with_all_vectors(prompt, pipe.tokenizer_2) for prompt in prompts],
            prompt_3=prompts,
            do_classifier_free_guidance=False,
            device=device,
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def velocity(
        self, denoiser: nn.Module, noisy: Tensor, s: Tensor, conditioning: Conditioning
    ) -> Tensor:
        velocity: Tensor = denoiser(
            hidden_states=noisy,
            timestep=s * 1000,
            encoder_hidden_states=conditioning.tensors["prompt_embeds"],
            pooled_projections=conditioning.tensors["pooled_prompt_embeds"],
            return_dict=False,
        )[0]
        return velocity

    def draw(self, base: FlowBase, pipe: Any, task: Task, settings: dict[str, Any]) -> Any:
        if task == "image":
            image = settings["image"]
            # One for each prompt: with a list of generators, the pipeline repeats none.
            settings = settings | dict(zip(("width", "height"), image.size, strict=True))
            settings["image"] = [image] * len(settings["generator"])
        return pipe(**settings)


class _Klein:
    """FLUX.2 klein: layers of Qwen3 for text; latents in patches of 2 x 2, normalised.

    The autoencoder is taken at its mean, as the script and the pipelines take it.
    """

    trainable_encoders: ClassVar[dict[str, str]] = {"text_encoder": "tokenizer"}
    pipelines: ClassVar[dict[Task, Any]] = {
        "text": Flux2KleinPipeline,
        "image": Flux2KleinPipeline,
        "inpaint": Flux2KleinInpaintPipeline,
    }
    # The default of train_dreambooth_lora_flux2_klein.py: weighting_scheme "none".
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"
    clean = False

    def __init__(self, pipe: Any):
        self.frozen_components = {"is_distilled": pipe.config.is_distilled}

    def posterior(self, vae: Any, mean: Tensor, std: Tensor) -> Posterior:
        mean = self.to_denoiser(vae, mean)
        return Posterior(mean, torch.zeros_like(mean))

    def to_denoiser(self, vae: Any, latents: Tensor) -> Tensor:
        centre: Tensor = vae.bn.running_mean.view(1, -1, 1, 1)
        spread = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        patches: Tensor = Flux2KleinPipeline._patchify_latents(latents)
        return (patches - centre) / spread

    def contexts(self, encoders: Sequence[TextEncoder]) -> list[Context]:
        # Of 512 tokens, some are the template's, in which Qwen3 is asked.
        return [Context(e.tokenizer, 512 - 16) for e in encoders]

    def encode_prompts(
        self, pipe: Any, prompts: list[str], device: torch.device
    ) -> dict[str, Tensor]:
        words = [with_all_vectors(prompt, pipe.tokenizer) for prompt in prompts]
        return {"prompt_embeds": pipe.encode_prompt(prompt=words, device=device)[0]}

    def velocity(
        self, denoiser: nn.Module, noisy: Tensor, s: Tensor, conditioning: Conditioning
    ) -> Tensor:
        hidden = conditioning.tensors["prompt_embeds"]
        velocity: Tensor = denoiser(
            hidden_states=Flux2KleinPipeline._pack_latents(noisy),
            timestep=s,
            guidance=None,
            encoder_hidden_states=hidden,
            txt_ids=Flux2KleinPipeline._prepare_text_ids(hidden).to(noisy.device),
            img_ids=Flux2KleinPipeline._prepare_latent_ids(noisy).to(noisy.device),
            return_dict=False,
        )[0]
        return velocity.transpose(1, 2).reshape(noisy.shape)

    def draw(self, base: FlowBase, pipe: Any, task: Task, settings: dict[str, Any]) -> Any:
        if task == "image":
            settings = self._from_picture(base, pipe, **settings)
        return pipe(**settings)

    def _from_picture(
        self, base: FlowBase, pipe: Any, *, image: Any, strength: float, **settings: Any
    ) -> dict[str, Any]:
        """The settings that start from `image`, noised to the strength.

        The pipeline takes a picture as something to refer to; this is SDEdit (Meng et al. 2021,
        arXiv 2108.01073), through its latents and its sigmas.
        """
        steps, generators = settings["num_inference_steps"], settings["generator"]
        width, height = image.size
        pixels = pipe.image_processor.preprocess(image, height=height, width=width)
        start = base.encode_images(pixels).mean.expand(len(generators), -1, -1, -1)
        noise = torch.cat(
            [torch.randn(start[:1].shape, generator=generator) for generator in generators]
        )
        sigmas = np.linspace(1.0, 1 / steps, steps)[steps - max(1, int(steps * strength)) :]
        mu = compute_empirical_mu(start.shape[2] * start.shape[3], len(sigmas))
        pipe.scheduler.set_timesteps(sigmas=sigmas, mu=mu, device=base.device)
        s = float(pipe.scheduler.sigmas[0])
        return settings | {
            "height": height,
            "width": width,
            "num_inference_steps": len(sigmas),
            "sigmas": sigmas,
            "latents": (1 - s) * start + s * noise.to(start.device),
        }
