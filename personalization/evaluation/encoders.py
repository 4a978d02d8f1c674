"""Judges: models that look at pictures so that likeness becomes a number.

The prompt is judged by a CLIP (Radford et al. 2021, arXiv 2103.00020), as CLIP-T in DreamBooth; the
subject by DINOv2 (Oquab et al. 2023, arXiv 2304.07193), which tells individuals of a class apart
better. The pocket base has one small CLIP of its own for both; as it sees places above all, what it
says of the subject is taken apart from them. Nothing is loaded before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel

from personalization.bases.catalog import ASSETS, BaseSpec
from personalization.errors import HubError

POCKET = str(ASSETS / "pocket-judge")
# How its likeness ranks drawings beside their true attributes, Spearman's; measured in the tests.
POCKET_AGREEMENT = 0.73
CLIP = "openai/clip-vit-large-patch14"
DINO = "facebook/dinov2-base"
PER_BATCH = 16


class ImageEncoder(Protocol):
    """Sees pictures."""

    name: str

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, d) float32 on the CPU, of length one."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """Sees pictures and reads texts, in one space."""

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(n, d) float32 on the CPU, of length one."""
        ...


PLACES = (
    "on the beach",
    "in the snow",
    "in the forest",
    "on the moon",
    "at sunset",
    "in the city",
    "underwater",
    "in a room",
    "on a plain white background",
    "on a plain blue background",
)
THINGS = ("cat", "dog", "bird", "robot", "mug", "car", "house", "flower")


@dataclass(frozen=True)
class EncoderPair:
    """Who judges what; the same judge for both where one is good at both."""

    subject: ImageEncoder
    prompt: ImageTextEncoder


class ClipEncoder:
    """A CLIPModel with its processor, from a folder or the Hub.

    Raises `HubError` where it cannot be loaded.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu"):
        self.name = Path(source).name
        self.device = torch.device(device)
        self.model, self.processor, self.tokenizer = _loaded(
            source, CLIPModel, AutoImageProcessor, AutoTokenizer
        )
        self.model.float().to(self.device).eval()

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        return _in_batches(pictures, self._images)

    def texts(self, texts: Sequence[str]) -> Tensor:
        return _in_batches(texts, self._texts)

    def _images(self, pictures: Sequence[Image.Image]) -> Tensor:
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return _pooled(self.model.get_image_features(pixel_values=pixels.to(self.device)))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.model.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        return _pooled(
            self.model.get_text_features(
                input_ids=tokens["input_ids"].to(self.device),
                attention_mask=tokens["attention_mask"].to(self.device),
            )
        )


class DinoEncoder:
    """DINOv2: the class token of the last layer, from a folder or the Hub.

    Raises `HubError` where it cannot be loaded.
    """

    def __init__(self, source: str = DINO, device: torch.device | str = "cpu"):
        self.name = Path(source).name
        self.device = torch.device(device)
        self.model, self.processor = _loaded(source, AutoModel, AutoImageProcessor)
        self.model.float().to(self.device).eval()

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        return _in_batches(pictures, self._images)

    def _images(self, pictures: Sequence[Image.Image]) -> Tensor:
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return self.model(pixel_values=pixels.to(self.device)).last_hidden_state[:, 0]


class DebiasedFeatures:
    """A judge that looks away from the place: its features without the span of texts about places.

    Directions in a joint space of pictures and texts that texts differ in can be projected out of
    pictures (Chuang et al. 2023, "Debiasing vision-language models via biased prompts", arXiv
    2302.00070). Otherwise a subject would be called less like itself wherever a prompt is obeyed.
    """

    def __init__(self, encoder: ImageTextEncoder):
        self.name = f"{encoder.name}, apart from places"
        self.encoder = encoder
        texts = [f"a photo of a {thing} {place}" for place in PLACES for thing in THINGS]
        by_place = encoder.texts(texts).reshape(len(PLACES), len(THINGS), -1).mean(1)
        spread = by_place - by_place.mean(0)
        # Centred, the rows span one direction less than there are places.
        self.directions = torch.linalg.svd(spread, full_matrices=False).Vh[: len(PLACES) - 1]

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        seen = self.encoder.images(pictures)
        return normalize(seen - seen @ self.directions.T @ self.directions, dim=-1)


def encoder_pair(spec: BaseSpec, device: torch.device | str = "cpu") -> EncoderPair:
    """The judges of a base, loaded once in a process for each device. Raises `HubError`.

    `spec.encoder` is "pocket", "clip" (CLIP and DINOv2 from the Hub), or a CLIP's folder.
    """
    return _encoder_pair(spec.encoder, str(device))


@lru_cache(maxsize=2)
def _encoder_pair(encoder: str, device: str) -> EncoderPair:
    if encoder == "clip":
        return EncoderPair(DinoEncoder(DINO, device), ClipEncoder(CLIP, device))
    one = ClipEncoder(POCKET if encoder == "pocket" else encoder, device)
    return EncoderPair(DebiasedFeatures(one), one)


def _loaded(source: str, *kinds: Any) -> tuple[Any, ...]:
    """Each kind `from_pretrained`; from this machine alone where `source` is a folder."""
    local = source.startswith("/")
    if local and not Path(source).is_dir():
        raise HubError(
            f"The judge {Path(source).name} is not there ({source}), so nothing can be measured."
        )
    try:
        return tuple(kind.from_pretrained(source, local_files_only=local) for kind in kinds)
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise HubError(
            f"The judge {source} cannot be loaded, so nothing can be measured: {reason} "
            "Check the connection and measure again; the adapter itself is not affected."
        ) from error


def _in_batches(items: Sequence[Any], encoder: Any) -> Tensor:
    with torch.inference_mode():
        parts = [encoder(items[i : i + PER_BATCH]) for i in range(0, len(items), PER_BATCH)]
    return normalize(torch.cat(parts).float(), dim=-1).cpu().clone()


def _pooled(features: Any) -> Tensor:
    """transformers 5 wraps what transformers 4 returned."""
    return features if isinstance(features, Tensor) else features.pooler_output
