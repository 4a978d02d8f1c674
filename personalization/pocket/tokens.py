"""The pocket's own byte-pair vocabulary (Sennrich et al. 2016), as a CLIPTokenizer.

Every word of the captions is one token, every other string falls into pieces. The held-out words
(a look and a colour that the UNet knows and the tokenizer does not) are numbered after all others,
so that taking them out is cutting off the end of the vocabulary and of the embedding matrix.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from .anatomy import TEXT_LENGTH
from .pictures import scene_at
from .world import caption, full_caption
from .world.vocabulary import HELD_OUT_COLOUR_WORDS, HELD_OUT_STYLE_WORDS

HELD_OUT_WORDS = (*HELD_OUT_STYLE_WORDS, *HELD_OUT_COLOUR_WORDS)
END_OF_WORD = "</w>"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# Understood although no caption says them; they mean nothing and should not cost five tokens.
EXTRA_WORDS = ("the", "my", "this", "style", "painting", "image", "one", "two", "very", "small")

Merge = tuple[str, str]


def symbols(word: str) -> list[str]:
    """A word as characters, the last one marked."""
    return [*word[:-1], word[-1] + END_OF_WORD]


def merged(pieces: list[str], merge: Merge) -> list[str]:
    """The pieces with each adjacent pair `merge` joined."""
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == merge:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def learn_merges(words: list[str]) -> list[Merge]:
    """Join the most frequent pair, ties by alphabet, until every word is one symbol."""
    merges: list[Merge] = []
    pieces = [symbols(word) for word in words]
    while any(len(word) > 1 for word in pieces):
        pairs = Counter(pair for word in pieces for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [merged(word, best) for word in pieces]
    return merges


def caption_words(seed: int, scenes: int = 6000) -> list[str]:
    """All words of the captions, without the held-out ones."""
    found: set[str] = set(EXTRA_WORDS)
    for number in range(scenes):
        scene = scene_at(seed, number)
        text = f"{caption(scene, np.random.default_rng([seed, 3, number]))} {full_caption(scene)}"
        found.update(word for word in text.lower().replace(",", " ").split())
    return sorted(word for word in found - set(HELD_OUT_WORDS) if word.isalpha())


def tokenizer_from(vocabulary: dict[str, int], merges: list[Merge]) -> CLIPTokenizer:
    """A tokenizer for 32 tokens."""
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def make_tokenizers(seed: int) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """(for training, with the held-out words at the end; to publish, without them)."""
    merges = learn_merges(caption_words(seed))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    entries += dict.fromkeys(a + b for a, b in merges)
    published = {entry: number for number, entry in enumerate([*entries, BOS, EOS])}

    more: list[Merge] = []
    for word in HELD_OUT_WORDS:
        pieces = symbols(word)
        for merge in (*merges, *more):
            pieces = merged(pieces, merge)
        while len(pieces) > 1:
            more.append((pieces[0], pieces[1]))
            pieces = merged(pieces, more[-1])
    full = dict(published)
    for a, b in more:
        full.setdefault(a + b, len(full))
    return tokenizer_from(full, [*merges, *more]), tokenizer_from(published, merges)


def training_folder(folder: Path) -> Path:
    """Where the tokenizer for training lies in a work folder."""
    return folder / "tokenizer-training"


def tokenizers_in(folder: Path, seed: int) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """`make_tokenizers`, kept in the work folder: the build is stopped and continued often."""
    homes = (training_folder(folder), folder / "tokenizer-published")
    if not all((home / "tokenizer.json").exists() for home in homes):
        for home, tokenizer in zip(homes, make_tokenizers(seed), strict=True):
            tokenizer.save_pretrained(home)
    training, published = (CLIPTokenizer.from_pretrained(home) for home in homes)
    return training, published


def held_out_word_numbers(training: CLIPTokenizer) -> dict[str, int]:
    """The token number of each held-out word in the training vocabulary."""
    vocabulary = training.get_vocab()
    return {word: vocabulary[word + END_OF_WORD] for word in HELD_OUT_WORDS}
