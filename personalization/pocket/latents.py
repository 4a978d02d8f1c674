"""The training pictures as the autoencoder sees them: posterior mean and std, fp16, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from . import parallel
from .autoencoder import to_tensor
from .pictures import CHUNK, chunk_path, write_atomically

BATCHES = {"cpu": 4, "cuda": 250}  # on a CPU what fits its caches is fastest


def path_of(folder: Path, index: int) -> Path:
    """Where the latents of the pictures numbered from index * CHUNK lie."""
    return folder / f"latents-{index:05d}.npy"


@torch.no_grad()
def encode_all(
    model: AutoencoderKL, pictures_folder: Path, folder: Path, count: int, device: str
) -> None:
    """Encode the first `count` pictures into files (CHUNK, 2, 4, 32, 32); skips what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = BATCHES[torch.device(device).type]
    for index in range(parallel.rank(), -(-count // CHUNK), parallel.world()):
        path = path_of(folder, index)
        if path.exists():
            continue
        images = np.load(chunk_path(pictures_folder, index))
        parts = []
        for start in range(0, len(images), batch):
            posterior = model.encode(to_tensor(images[start : start + batch], device)).latent_dist
            parts.append(torch.stack([posterior.mean, posterior.std], dim=1).half().cpu().numpy())
        write_atomically(path, np.concatenate(parts))
        print(f"latents: {(index + 1) * CHUNK}", flush=True)


def load_all(folder: Path, count: int) -> Tensor:
    """What is encoded of the first `count` pictures: (n, 2, 4, 32, 32), fp16."""
    paths = [path_of(folder, index) for index in range(-(-count // CHUNK))]
    arrays = [np.load(path) for path in paths if path.exists()]
    return torch.from_numpy(np.concatenate(arrays)[:count])


def scaling_factor(latents: Tensor) -> float:
    """What makes the latents' standard deviation one."""
    return float(1 / latents[:CHUNK, 0].float().std())
