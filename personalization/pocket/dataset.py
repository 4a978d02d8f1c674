"""Pictures and the token numbers of their captions in files, drawn by other processes.

Training begins on the first files, while the others are drawn.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
from transformers import CLIPTokenizer

from . import pictures
from .text import tokens, training_caption

CHUNK = 500  # pictures a file
CAPTIONS = 4  # kept ready for each scene


def picture_path(folder: Path, index: int) -> Path:
    """Where the pictures numbered from index * CHUNK lie."""
    return folder / f"pictures-{index:05d}.npy"


def caption_path(folder: Path, index: int) -> Path:
    """Where the token numbers of their captions lie."""
    return folder / f"captions-{index:05d}.npy"


def write_atomically(path: Path, array: np.ndarray) -> None:
    """np.save under a temporary name, then rename, so that a kill leaves no half file."""
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, array)
    os.replace(temporary, path)


def chunks(count: int) -> int:
    """How many files so many pictures fill."""
    return -(-count // CHUNK)


def load_pictures(folder: Path, count: int) -> np.ndarray:
    """The first pictures as one uint8 array (count, 128, 128, 3)."""
    files = [np.load(picture_path(folder, index)) for index in range(chunks(count))]
    return np.concatenate(files)[:count]


def caption_table(tokenizer: CLIPTokenizer, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """CAPTIONS captions for each of these scenes: (n, CAPTIONS, 32) token numbers, int16."""
    texts = []
    for number in numbers:
        scene, rng = pictures.scene_at(seed, number), np.random.default_rng([seed, 5, number])
        texts += [training_caption(scene, rng) for _ in range(CAPTIONS)]
    table = tokens(tokenizer, texts).short().numpy()
    return table.reshape(-1, CAPTIONS, table.shape[1])


@dataclass(frozen=True)
class Chunk:
    """A file of pictures and one of captions, to be made."""

    folder: Path
    index: int
    seed: int
    tokenizer: Path


@cache
def tokenizer_at(folder: Path) -> CLIPTokenizer:
    """Loaded once a process."""
    return CLIPTokenizer.from_pretrained(folder)


def draw_chunk(chunk: Chunk) -> int:
    """Make the files, unless they are there. Returns the index."""
    numbers = range(chunk.index * CHUNK, (chunk.index + 1) * CHUNK)
    path = caption_path(chunk.folder, chunk.index)
    if not path.exists():
        tokenizer = tokenizer_at(chunk.tokenizer)
        write_atomically(path, caption_table(tokenizer, chunk.seed, numbers))
    path = picture_path(chunk.folder, chunk.index)
    if not path.exists():
        write_atomically(path, pictures.drawn(chunk.seed, numbers))
    return chunk.index


class Drawing:
    """Draws the first `count` pictures in other processes, in their order, inside its block.

    What is there already stays. Leaving the block waits for the rest, unless by an error.
    """

    def __init__(self, folder: Path, tokenizer: Path, seed: int, count: int, workers: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        todo = [Chunk(folder, index, seed, tokenizer) for index in range(chunks(count))]
        self.folder, self.files = folder, len(todo)
        self.pool = multiprocessing.get_context("spawn").Pool(workers, os.nice, (5,))
        self.done = self.pool.imap(draw_chunk, todo)
        self.there = 0

    def wait_for(self, count: int) -> None:
        """Until so many pictures are there."""
        while self.there < min(chunks(count), self.files):
            self.there = next(self.done) + 1
            if self.there % 10 == 0 or self.there == self.files:
                print(f"pictures: {self.there * CHUNK} of {self.files * CHUNK}", flush=True)

    def __enter__(self) -> Drawing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait_for(self.files * CHUNK)
        self.pool.terminate()
