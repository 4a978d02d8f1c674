"""What the steps of a run are drawn from: its photos and their prompts, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from personalization.bases.base import Base, Conditioning, Posterior
from personalization.bases.context import read_caption
from personalization.bases.learned_embedding import folds_case
from personalization.data import masks
from personalization.data.captions import in_style
from personalization.data.frames import Frame, frame
from personalization.data.photos import Photo
from personalization.training import processes
from personalization.training.batches import Batches, Pool
from personalization.training.run import Run

PER_FORWARD = 4  # photos that the autoencoder sees at once


@dataclass(frozen=True)
class Samples:
    """Latents, what the base is asked of them, and how they are noised; `size` of each."""

    latents: Tensor  # (size, channels, h, w)
    texts: list[str]
    noise: Tensor  # like latents
    u: Tensor  # (size,) in [0, 1)
    weights: Tensor | None = None  # (size, 1, h, w): what each place counts; None: all the same
    sizes: Tensor | None = None  # (size, 6), see `Frame.conditioning`; None: as a whole picture

    def __len__(self) -> int:
        return len(self.texts)

    def __add__(self, other: Samples) -> Samples:
        """Both, one after the other; `other` counts everywhere, and tells sizes where these do."""
        weights = None
        if self.weights is not None:
            weights = torch.cat([self.weights, torch.ones_like(self.weights)])
        sizes = None
        if self.sizes is not None and other.sizes is not None:
            sizes = torch.cat([self.sizes, other.sizes])
        return Samples(
            torch.cat([self.latents, other.latents]),
            self.texts + other.texts,
            torch.cat([self.noise, other.noise]),
            torch.cat([self.u, other.u]),
            weights,
            sizes,
        )


@dataclass(frozen=True)
class Bucket:
    """Photos of one size, encoded: (sides, photos, ...), as they are, and then mirrored."""

    photos: tuple[int, ...]  # which of the concept's
    posterior: Posterior
    whites: tuple[Tensor | None, ...]  # (1, h, w) each: what of a place is the subject's
    background: float  # what the rest counts
    sizes: Tensor | None  # (2, photos, 6)

    @cached_property
    def weights(self) -> Tensor | None:
        """(2, photos, 1, h, w): what each place counts; None: all the same."""
        grid = (self.posterior.mean.shape[3], self.posterior.mean.shape[4])
        found = masks.weights(self.whites, grid, self.background)
        return None if found is None else torch.stack([found, found.flip(-1)])

    @property
    def pool(self) -> Pool:
        """What batches draw from."""
        return Pool(len(self.photos), tuple(self.posterior.mean.shape[2:]))


@dataclass(frozen=True)
class Seen:
    """The photos of a run, encoded, with what the base sees in them (`annotations.looking`)."""

    buckets: Sequence[Bucket]
    contents: dict[int, str] = field(default_factory=dict)  # by photo, what a style's show


class Examples:
    """The photos of a run on a base, as they are and, if the recipe flips, mirrored."""

    def __init__(self, base: Base, run: Run, seen: Seen, *, with_class_noun: bool):
        concept, recipe = run.concept, run.recipe
        self.device = base.device
        self.flip = recipe.flip
        self.buckets = seen.buckets
        self.prompts = list(concept.prompts(with_class_noun=with_class_noun))
        folds = all(folds_case(encoder.tokenizer) for encoder in base.text_encoders)
        name = concept.name if with_class_noun else concept.placeholder_token
        captions = (
            concept.caption(i, with_class_noun=with_class_noun, folds_case=folds)
            for i in range(len(concept.photos))
        )
        self.captions = [
            caption and read_caption(base.contexts, caption, name, concept.placeholder_token)
            for caption in captions
        ]
        for photo, shown in seen.contents.items():
            self.captions[photo] = in_style(shown, name)
        self.share = processes.share(recipe.batch_size)
        pools = tuple(bucket.pool for bucket in self.buckets)
        self.batches = Batches(recipe.seed, recipe.batch_size, pools, len(self.prompts))

    @property
    def texts(self) -> list[str]:
        """All prompts and captions, each once."""
        return list(dict.fromkeys([*self.prompts, *filter(None, self.captions)]))

    def at(self, step: int) -> Samples:
        """What `step` is trained on: a photo's caption where it has one, else a phrasing.

        Where several processes compute the run, this one's share of it.
        """
        batch, device = self.batches.at(step)[self.share], self.device
        bucket = self.buckets[batch.pool]
        side = (batch.mirrored & self.flip).long()
        posterior = bucket.posterior[side.to(device), batch.photos.to(device)]
        pairs = zip(batch.photos.tolist(), batch.prompts.tolist(), strict=True)
        captions = [self.captions[photo] for photo in bucket.photos]

        def chosen(of_each: Tensor | None) -> Tensor | None:
            return None if of_each is None else of_each[side, batch.photos].to(device)

        return Samples(
            posterior.sample(batch.posterior_noise.to(device)),
            [captions[photo] or self.prompts[phrasing] for photo, phrasing in pairs],
            batch.noise.to(device),
            batch.u.to(device),
            chosen(bucket.weights),
            chosen(bucket.sizes),
        )


class Prompts:
    """What prompts become: encoded once where the text side is frozen, else at every step."""

    def __init__(self, base: Base, *, trained: bool):
        self.base = base
        self.trained = trained
        self._encoded: dict[str, Conditioning] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode what will be asked for, as far as no step changes it."""
        if not self.trained:
            with torch.no_grad():
                encoded = self.base.encode_prompts(texts)
            self._encoded |= {text: encoded[i : i + 1] for i, text in enumerate(texts)}

    def __call__(self, texts: Sequence[str]) -> Conditioning:
        """(len(texts), ...), with a gradient where the text side is trained."""
        if not self.trained:
            return Conditioning.cat([self._encoded[text] for text in texts])
        distinct = list(dict.fromkeys(texts))
        return self.base.encode_prompts(distinct)[[distinct.index(text) for text in texts]]


def in_buckets(base: Base, run: Run) -> list[Bucket]:
    """The photos by the size of their frames, in the order in which those come first."""
    canvas = base.spec.canvas(run.recipe)
    photos = run.concept.photos
    frames = [frame(photo, canvas) for photo in photos]
    buckets = []
    for size in dict.fromkeys(each.size for each in frames):
        chosen = [i for i, each in enumerate(frames) if each.size == size]
        ours, theirs = [photos[i] for i in chosen], [frames[i] for i in chosen]
        posterior = encode_photos(base, ours, theirs, flip=run.recipe.flip)
        grid = (posterior.mean.shape[3], posterior.mean.shape[4])
        both = [theirs, [each.mirrored for each in theirs]]
        sizes = [[each.conditioning for each in side] for side in both]
        buckets.append(
            Bucket(
                tuple(chosen),
                posterior,
                tuple(masks.whites(ours, theirs, grid)),
                run.recipe.background,
                # A crop has always been told as a whole picture, as the pipelines draw one.
                None if canvas.framing == "crop" else torch.tensor(sizes),
            )
        )
    return buckets


def encode_photos(
    base: Base, photos: Sequence[Photo], frames: Sequence[Frame], *, flip: bool
) -> Posterior:
    """Their posteriors, (1 or 2, photos, channels, h, w): as they are, then mirrored."""
    pairs = zip(photos, frames, strict=True)
    pixels = torch.stack([_pixels(frame.crop(photo)) for photo, frame in pairs])
    sides = [pixels, pixels.flip(-1)] if flip else [pixels]
    starts = range(0, len(pixels), PER_FORWARD)
    encoded = [[base.encode_images(side[i : i + PER_FORWARD]) for i in starts] for side in sides]
    return Posterior(
        torch.stack([torch.cat([part.mean for part in parts]) for parts in encoded]),
        torch.stack([torch.cat([part.std for part in parts]) for parts in encoded]),
    )


def _pixels(image: Image.Image) -> Tensor:
    """(3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
