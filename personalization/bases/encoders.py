"""Encoders: models that look at pictures so that similarity becomes a number.

A CLIP (Radford et al. 2021, arXiv 2103.00020) compares with the prompt, as CLIP-T in DreamBooth;
DINOv2 (Oquab et al. 2023, arXiv 2304.07193) with the photos, as it tells individuals of a class
apart better. The pocket base has one small CLIP of its own for both; as it sees places above all,
what it says of the subject is taken apart from them. Nothing is loaded before it is used.
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

from personalization.bases.catalog import ASSETS, BaseSpec
from personalization.errors import HubError

PER_BATCH = 16


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoders look at a base's pictures, each a folder or a repository on the Hub."""

    clip: str
    dino: str = ""  # for the subject; without one the CLIP, apart from places
    poses: bool = True  # whether it, and the base, know any
    # How its similarity ranks drawings beside their true attributes, Spearman's, where measured.
    agreement: float | None = None


# By what `BaseSpec.encoder` says; anything else is a CLIP's folder.
ENCODERS = {
    "pocket": EncoderSpec(str(ASSETS / "pocket-judge"), poses=False, agreement=0.73),
    "clip": EncoderSpec("openai/clip-vit-large-patch14", "facebook/dinov2-base"),
}


def encoder_spec(encoder: str) -> EncoderSpec:
    """What `BaseSpec.encoder` means."""
    return ENCODERS.get(encoder) or EncoderSpec(encoder)


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
CLASS_NOUNS = ("cat", "dog", "bird", "robot", "mug", "car", "house", "flower")


@dataclass(frozen=True)
class EncoderPair:
    """Which encoder looks at what; the same for both where one is good at both."""

    subject: ImageEncoder
    prompt: ImageTextEncoder


class ClipEncoder:
    """A CLIPModel with its processor, from a folder or the Hub.

    Raises `HubError` where it cannot be loaded.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu"):
        # Here and not above: transformers' image processors take seconds to import.
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        self.name = Path(source).name
        self.device = torch.device(device)
        self.model, self.processor, self.tokenizer = _loaded(
            source, CLIPModel, AutoImageProcessor, AutoTokenizer
        )
        self.model.float().to(self.device).eval()

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, d), of length one."""
        return _in_batches(pictures, self._images)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(n, d), of length one."""
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

    def __init__(self, source: str, device: torch.device | str = "cpu"):
        # Here and not above: transformers' image processors take seconds to import.
        from transformers import AutoImageProcessor, AutoModel

        self.name = Path(source).name
        self.device = torch.device(device)
        self.model, self.processor = _loaded(source, AutoModel, AutoImageProcessor)
        self.model.float().to(self.device).eval()

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, d), of length one."""
        return _in_batches(pictures, self._images)

    def _images(self, pictures: Sequence[Image.Image]) -> Tensor:
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        features: Tensor = self.model(pixel_values=pixels.to(self.device)).last_hidden_state[:, 0]
        return features


class DebiasedFeatures:
    """An encoder's features without the span of texts about places: it looks away from the place.

    Directions in a joint space of pictures and texts that texts differ in can be projected out of
    pictures (Chuang et al. 2023, "Debiasing vision-language models via biased prompts", arXiv
    2302.00070). Otherwise a subject would be called less like itself wherever a prompt is obeyed.
    """

    def __init__(self, encoder: ImageTextEncoder):
        self.name = f"{encoder.name}, apart from places"
        self.encoder = encoder
        texts = [f"a photo of a {noun} {place}" for place in PLACES for noun in CLASS_NOUNS]
        by_place = encoder.texts(texts).reshape(len(PLACES), len(CLASS_NOUNS), -1).mean(1)
        spread = by_place - by_place.mean(0)
        # Centred, the rows span one direction less than there are places.
        self.directions = torch.linalg.svd(spread, full_matrices=False).Vh[: len(PLACES) - 1]

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, d), of length one."""
        features = self.encoder.images(pictures)
        along_places = features @ self.directions.T @ self.directions
        return normalize(features - along_places, dim=-1)


def encoder_pair(spec: BaseSpec, device: torch.device | str = "cpu") -> EncoderPair:
    """The encoders of a base, loaded once in a process for each device. Raises `HubError`."""
    return _encoder_pair(encoder_spec(spec.encoder), str(device))


@lru_cache(maxsize=2)
def _encoder_pair(spec: EncoderSpec, device: str) -> EncoderPair:
    clip = ClipEncoder(spec.clip, device)
    if spec.dino:
        return EncoderPair(DinoEncoder(spec.dino, device), clip)
    return EncoderPair(DebiasedFeatures(clip), clip)


def _loaded(source: str, *classes: Any) -> tuple[Any, ...]:
    """Each class `from_pretrained`; from this machine alone where `source` is a folder."""
    local = source.startswith("/")
    if local and not Path(source).is_dir():
        raise HubError(
            f"The judge {Path(source).name} is not there ({source}), so nothing can be measured."
        )
    try:
        return tuple(each.from_pretrained(source, local_files_only=local) for each in classes)
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
