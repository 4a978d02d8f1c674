"""Files of learned words: what textual inversion writes in diffusers, kohya's scripts and A1111.

{token: (n, d)}                           diffusers, and ours
{"emb_params": (n, d)}                    kohya and A1111; the word is the file's name
{"clip_l": (n, 768), "clip_g": (n, 1280)} SDXL; the word is the file's name
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from personalization.data.concept import MAX_TOKEN_LENGTH

SDXL = ("clip_l", "clip_g")
_PLAIN = "emb_params"


def is_word(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a file with these tensors holds a word and nothing else."""
    if set(shapes) == set(SDXL):
        return True
    return len(shapes) == 1 and all("." not in name and len(s) <= 2 for name, s in shapes.items())


def placeholder_token(shapes: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """The word that the file teaches: its key, or else the file's own name, made fit for a word."""
    name = next(iter(shapes))
    if name not in (*SDXL, _PLAIN):
        return name
    return re.sub(r"[^A-Za-z0-9<>_\-]+", "-", path.stem).strip("-")[:MAX_TOKEN_LENGTH] or "word"


def vectors(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many rows the word has."""
    shape = next(iter(shapes.values()))
    return shape[0] if len(shape) == 2 else 1


def read(tensors: Mapping[str, Tensor], placeholder_token: str) -> dict[str, Tensor]:
    """The rows under our names: the word's own, or SDXL's two."""
    if set(tensors) == set(SDXL):
        return dict(tensors)
    rows = next(iter(tensors.values()))
    return {placeholder_token: rows.reshape(-1, rows.shape[-1])}
