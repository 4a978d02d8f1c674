"""Z-Image (Tongyi-MAI 2025, arXiv 2511.22699): a flow transformer that reads Qwen3 as it is.

Of each prompt it reads as many states as there are tokens, without padding: a list of lengths where
other families have a tensor. A `Conditioning` holds them padded, with a mask beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from diffusers import ZImageImg2ImgPipeline, ZImageInpaintPipeline, ZImagePipeline
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from personalization.bases.base import Conditioning, Posterior, TextEncoder
from personalization.bases.catalog import Task
from personalization.bases.context import Context
from personalization.bases.learned_embedding import with_all_vectors

CONTEXT = 512  # tokens that the pipelines read, the template's among them
TEMPLATE = 16  # tokens at most, in which Qwen3 is asked


class ZImage:
    """The layer before the last of Qwen3 for text; latents as they are, of their mean."""

    trainable_encoders: ClassVar[dict[str, str]] = {"text_encoder": "tokenizer"}
    pipelines: ClassVar[dict[Task, Any]] = {
        "text": ZImagePipeline,
        "image": ZImageImg2ImgPipeline,
        "inpaint": ZImageInpaintPipeline,
    }
    # The default of train_dreambooth_lora_z_image.py: weighting_scheme "none".
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"
    clean = False

    def __init__(self) -> None:
        self.frozen_components: dict[str, Any] = {}

    def posterior(self, vae: Any, mean: Tensor, std: Tensor) -> Posterior:
        """At its mean, as the script takes it."""
        mean = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
        return Posterior(mean, torch.zeros_like(mean))

    def to_denoiser(self, vae: Any, latents: Tensor) -> Tensor:
        """They are the transformer's."""
        return latents

    def contexts(self, encoders: Sequence[TextEncoder]) -> list[Context]:
        """What the template leaves of the pipelines' default."""
        return [Context(e.tokenizer, CONTEXT - TEMPLATE) for e in encoders]

    def encode_prompts(
        self, pipe: Any, prompts: list[str], device: torch.device
    ) -> dict[str, Tensor]:
        """prompt_embeds, (n, longest, width) with zeros behind; prompt_mask, (n, longest)."""
        words = [with_all_vectors(prompt, pipe.tokenizer) for prompt in prompts]
        states, _ = pipe.encode_prompt(words, device, do_classifier_free_guidance=False)
        there = [torch.ones(len(each), dtype=torch.bool, device=device) for each in states]
        return {
            "prompt_embeds": pad_sequence(states, batch_first=True),
            "prompt_mask": pad_sequence(there, batch_first=True),
        }

    def velocity(
        self, denoiser: nn.Module, noisy: Tensor, s: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """What the transformer says the other way round, for it counts time from noise."""
        hidden, mask = (conditioning.tensors[n] for n in ("prompt_embeds", "prompt_mask"))
        pictures = list(noisy.to(hidden.dtype).unsqueeze(2).unbind())  # one frame each
        states = [each[there] for each, there in zip(hidden, mask, strict=True)]
        answers = denoiser(pictures, 1 - s, states, return_dict=False)[0]
        return -torch.stack(answers).squeeze(2)

    def draw(self, base: Any, pipe: Any, task: Task, settings: dict[str, Any]) -> Any:
        """The pipeline guides from above 0 on, against an empty prompt where there is none."""
        if settings.get("guidance_scale", 1) > 0 and "negative_prompt_embeds" not in settings:
            empty = base.encode_prompts([""] * len(settings["prompt_embeds"]))
            given = base.as_given(empty)["prompt_embeds"]
            settings = settings | {"negative_prompt_embeds": given}
        if task != "text":
            image = settings["image"]
            settings = settings | dict(zip(("width", "height"), image.size, strict=True))
            settings["image"] = [image] * len(settings["prompt_embeds"])
            if task == "inpaint":
                settings["mask_image"] = [settings["mask_image"]] * len(settings["prompt_embeds"])
        return pipe(**settings)
