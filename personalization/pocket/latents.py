"""The training pictures as the autoencoder sees them: posterior mean and std, fp16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from . import parallel
from .autoencoder import to_tensor
from .dataset import CAPTIONS, CHUNK, caption_path, chunks, picture_path, write_atomically

BATCHES = {"cpu": 4, "cuda": 250}  # on a CPU what fits its caches is fastest


def path_of(folder: Path, index: int) -> Path:
    """Where the latents of the pictures numbered from index * CHUNK lie."""
    return folder / f"latents-{index:05d}.npy"


@torch.no_grad()
def encoded(model: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Mean and std of uint8 pictures: (n, 2, 4, 32, 32), fp16."""
    device = next(model.parameters()).device
    batch, parts = BATCHES[device.type], []
    for start in range(0, len(images), batch):
        posterior = model.encode(to_tensor(images[start : start + batch], device)).latent_dist
        parts.append(torch.stack([posterior.mean, posterior.std], dim=1).half().cpu().numpy())
    return np.concatenate(parts)


def encode_chunk(model: AutoencoderKL, work: Path, index: int, keep: bool = True) -> np.ndarray:
    """That file's latents, from disk where they are there; keep: put them there."""
    path = path_of(work / "latents", index)
    if path.exists():
        return np.load(path)
    latents = encoded(model, np.load(picture_path(work / "pictures", index)))
    if keep:
        write_atomically(path, latents)
    return latents


def encode_all(model: AutoencoderKL, work: Path, count: int) -> None:
    """Encode the first `count` pictures as far as they are drawn, shared between processes."""
    (work / "latents").mkdir(parents=True, exist_ok=True)
    for index in range(parallel.rank(), chunks(count), parallel.world()):
        if picture_path(work / "pictures", index).exists():
            encode_chunk(model, work, index)
            print(f"latents: {(index + 1) * CHUNK}", flush=True)


class TrainingSet:
    """What is encoded so far, on the autoencoder's device; it grows while pictures are drawn.

    latents: (most, 2, 4, 32, 32) fp16, mean and std; captions: (most, CAPTIONS, 32) token numbers;
    `count` of both are there.
    """

    def __init__(self, model: AutoencoderKL, work: Path, most: int) -> None:
        (work / "latents").mkdir(parents=True, exist_ok=True)
        self.model, self.work, self.count = model, work, 0
        self.device = next(model.parameters()).device
        self.latents = torch.zeros(most, 2, 4, 32, 32, dtype=torch.float16, device=self.device)
        self.captions = torch.zeros(most, CAPTIONS, 32, dtype=torch.int16, device=self.device)

    def __len__(self) -> int:
        return self.count

    def grow(self) -> bool:
        """Take one file more in, if it is drawn."""
        index = self.count // CHUNK
        folder = self.work / "pictures"
        if self.count >= len(self.latents) or not picture_path(folder, index).exists():
            return False
        # Two processes do not write one file.
        latents = encode_chunk(self.model, self.work, index, keep=parallel.rank() == 0)
        end = min(self.count + CHUNK, len(self.latents))
        for table, rows in (
            (self.latents, latents),
            (self.captions, np.load(caption_path(folder, index))),
        ):
            table[self.count : end] = torch.from_numpy(rows[: end - self.count]).to(self.device)
        self.count = end
        return True


def scaling_factor(latents: np.ndarray | Tensor) -> float:
    """What makes the latents' standard deviation one."""
    return float(1 / torch.as_tensor(latents[:CHUNK, 0]).float().std())
