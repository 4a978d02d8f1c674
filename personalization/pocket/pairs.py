"""The same subject more than once: what a reference picture can be learned from.

Each individual of the drawn world is drawn several times, in other places and poses, so that one
picture says who it is and another shows it elsewhere. Its latents, what the pocket's vision tower
sees in it and where its figure is are kept in files, a chunk of individuals each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModel

from . import pictures
from .autoencoder import to_tensor
from .dataset import write_atomically
from .latents import encoded
from .world import Scene, mask, sample
from .world.scene import sample_setting

SHOTS = 3  # pictures of each individual
CHUNK = 200  # individuals a file
STREAM = 11  # of random numbers, apart from those of the other stages
PER_BATCH = 25  # pictures through the vision tower


def shots(seed: int, number: int) -> list[Scene]:
    """The pictures of the individual of that number: one that `sample` can give, SHOTS settings."""
    rng = np.random.default_rng([seed, STREAM, number])
    first = sample(rng)
    return [replace(first, **sample_setting(rng, first.colour)) for _ in range(SHOTS)]


@torch.no_grad()
def patch_states(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(n, 3, 128, 128) in -1..1 to the states before the last layer, (n, 65, 128).

    As diffusers' pipelines give an image encoder's states to an IP-Adapter that takes more than the
    pooled vector.
    """
    states: Tensor = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    return states


@dataclass(frozen=True)
class Pairs:
    """n individuals: latents (n, SHOTS, 2, 4, 32, 32) mean and std, states (n, SHOTS, 65, 128),
    figures (n, SHOTS, 32, 32) the share of each latent's cell that is figure, 0 to 1. All fp16.
    """

    latents: Tensor
    states: Tensor
    figures: Tensor

    def __len__(self) -> int:
        return len(self.latents)


def figure_of(scene: Scene) -> np.ndarray:
    """The silhouette's share of each latent's cell: (32, 32), fp16."""
    full = np.asarray(mask(scene, pictures.SIZE), np.float32) / 255
    return full.reshape(32, 4, 32, 4).mean((1, 3)).astype(np.float16)


def chunk(
    folder: Path, index: int, seed: int, models: tuple[AutoencoderKL, CLIPVisionModel]
) -> dict[str, np.ndarray]:
    """That file's arrays, from disk where they are there."""
    paths = {name: folder / f"{name}-{index:04d}.npy" for name in ("latents", "states", "figures")}
    if all(path.exists() for path in paths.values()):
        return {name: np.load(path) for name, path in paths.items()}
    autoencoder, tower = models
    numbers = range(index * CHUNK, (index + 1) * CHUNK)
    scenes = [scene for number in numbers for scene in shots(seed, number)]
    drawn = np.stack([pictures.pixels(scene) for scene in scenes])
    states = [
        patch_states(tower, to_tensor(drawn[i : i + PER_BATCH])).half().numpy()
        for i in range(0, len(drawn), PER_BATCH)
    ]
    flat = {
        "latents": encoded(autoencoder, drawn),
        "states": np.concatenate(states),
        "figures": np.stack([figure_of(scene) for scene in scenes]),
    }
    arrays = {name: rows.reshape(CHUNK, SHOTS, *rows.shape[1:]) for name, rows in flat.items()}
    for name, rows in arrays.items():
        write_atomically(paths[name], rows)
    return arrays


def prepared(
    folder: Path, individuals: int, seed: int, models: tuple[AutoencoderKL, CLIPVisionModel]
) -> Pairs:
    """So many individuals, drawn and encoded as far as they are not on disk already."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(-(-individuals // CHUNK)):
        files.append(chunk(folder, index, seed, models))
        if index % 5 == 4:
            print(f"pairs: {(index + 1) * CHUNK} individuals", flush=True)
    return Pairs(
        *(
            torch.from_numpy(np.concatenate([file[name] for file in files])[:individuals])
            for name in ("latents", "states", "figures")
        )
    )
