"""The training set: scenes numbered from 0, each a pure function of (seed, number), drawn once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .world import Scene, draw, sample

SIZE = 128
CHUNK = 500  # pictures a file
# Numbers from here on are never trained on: the report and the judges' tests draw them.
UNSEEN = 10_000_000


def scene_at(seed: int, number: int) -> Scene:
    """The scene of that number."""
    return sample(np.random.default_rng([seed, number]))


def pixels(scene: Scene) -> np.ndarray:
    """The drawing as uint8 of shape (128, 128, 3)."""
    return np.asarray(draw(scene, size=SIZE).convert("RGB"))


def drawn(seed: int, numbers: Iterable[int]) -> np.ndarray:
    """Drawings of shape (n, 128, 128, 3), uint8."""
    return np.stack([pixels(scene_at(seed, number)) for number in numbers])


def chunk_path(folder: Path, index: int) -> Path:
    """Where the pictures numbered from index * CHUNK lie."""
    return folder / f"pictures-{index:05d}.npy"


def write_atomically(path: Path, array: np.ndarray) -> None:
    """np.save under a temporary name, then rename, so that a kill leaves no half file."""
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, array)
    os.replace(temporary, path)


def draw_chunk(task: tuple[Path, int, int]) -> int:
    """Draw one file of pictures, unless it is there. Returns its index."""
    folder, seed, index = task
    path = chunk_path(folder, index)
    if not path.exists():
        write_atomically(path, drawn(seed, range(index * CHUNK, (index + 1) * CHUNK)))
    return index


def draw_all(folder: Path, seed: int, count: int, workers: int) -> None:
    """Draw the first `count` pictures into files of CHUNK; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(folder, seed, index) for index in range(-(-count // CHUNK))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for index in pool.imap(draw_chunk, tasks):
            if index % 10 == 9 or index == len(tasks) - 1:
                print(f"pictures: {(index + 1) * CHUNK} of {len(tasks) * CHUNK}", flush=True)


def load_all(folder: Path, count: int) -> np.ndarray:
    """The first pictures as one uint8 array (count, 128, 128, 3)."""
    chunks = [np.load(chunk_path(folder, index)) for index in range(-(-count // CHUNK))]
    return np.concatenate(chunks)[:count]
