"""The one seam between bases and everything else, after k-diffusion.

A base hides whether it predicts noise, v or a flow, how many text encoders it has, and what else
conditions it. A method changes `modules`; training brings `predict` closer to `target`. So bases
and methods add, and do not multiply.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from personalization.bases.catalog import BaseSpec, Task
from personalization.bases.context import Context
from personalization.cache import BoundedCache


@dataclass
class TextEncoder:
    """A text encoder with its tokenizer; a learned word replaces the tokenizer for a while."""

    name: str  # the pipeline component: "text_encoder", "text_encoder_2"
    model: Any  # a transformers model
    tokenizer: Any
    # The tokenizer without any learned word: another visitor's may be there at this moment, which
    # the base does not know of itself.
    own_tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.own_tokenizer = self.tokenizer


@dataclass(frozen=True)
class Posterior:
    """What the autoencoder says of images: a Gaussian, so that encoding once keeps its noise.

    mean, std: (batch, channels, h, w), in the scale that the denoiser works in.
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """noise: standard normal, like mean."""
        return self.mean + self.std * noise

    def __getitem__(self, index: Any) -> Posterior:
        return Posterior(self.mean[index], self.std[index])


@dataclass(frozen=True)
class Conditioning:
    """What a prompt becomes: named tensors, (batch, ...) each.

    Where prompts have lengths of their own, a mask is among them: (batch, longest), true for what
    is read.
    """

    tensors: dict[str, Tensor]

    def __getitem__(self, index: Any) -> Conditioning:
        return Conditioning({name: tensor[index] for name, tensor in self.tensors.items()})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def told(self, sizes: Tensor | None) -> Conditioning:
        """With what SDXL is told of each picture, (batch, 6); see `data.frames`."""
        return self if sizes is None else Conditioning({**self.tensors, "sizes": sizes})

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """All of them, one after the other."""
        names = parts[0].tensors
        return Conditioning({n: _cat([part.tensors[n] for part in parts]) for n in names})


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    """One after the other; sequences of several lengths with zeros behind, as their masks say."""
    if tensors[0].dim() > 1 and len({tensor.shape[1] for tensor in tensors}) > 1:
        return pad_sequence([row for tensor in tensors for row in tensor], batch_first=True)
    return torch.cat(list(tensors))


class Base(Protocol):
    """A pretrained text-to-image model."""

    spec: BaseSpec
    device: torch.device
    fingerprint: str  # of the weights: adapters name the base that they were made for
    denoiser: nn.Module
    text_encoders: tuple[TextEncoder, ...]
    lock: threading.Lock  # held while the weights are anything but the base's own; not reentrant
    cache: BoundedCache  # what stacks have computed for these weights; used under the lock

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What may be adapted, by the name of the pipeline component ("unet", ...)."""
        ...

    @property
    def contexts(self) -> Sequence[Context]:
        """How much of a prompt each text encoder reads."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """While it lasts, weights in half precision and what is trained in float32 compute."""
        ...

    def encode_images(self, images: Tensor) -> Posterior:
        """images: (batch, 3, height, width) in [-1, 1]."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Keeps the gradient where the caller does: frozen encoders want `torch.no_grad`."""
        ...

    def predict(
        self, latents: Tensor, conditioning: Conditioning, noise: Tensor, u: Tensor
    ) -> Tensor:
        """The denoiser's output for latents noised to the level u, like latents.

        latents, noise: (batch, channels, h, w); u: (batch,) in [0, 1).
        """
        ...

    def target(self, latents: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """What `predict` should have said, like latents; the loss is their squared difference."""
        ...

    def pipeline(self, task: Task, scheduler: str | None = None) -> Any:
        """A diffusers pipeline over the very same modules and tokenizers.

        `scheduler`: see `bases.schedulers`; without, as the base's own.
        """
        ...
