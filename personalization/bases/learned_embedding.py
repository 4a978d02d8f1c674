"""A learned word in a text encoder: new rows beside the frozen table, new tokens in a copy.

Textual inversion (Gal et al. 2022) teaches a text encoder a word without touching it: the table
keeps its very own Parameter, and the tokenizer that others hold keeps its vocabulary.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from personalization.data.words import pattern, stands_alone
from personalization.errors import ConceptError


class ExtendedEmbedding(nn.Module):
    """An embedding table with `rows` after it; gradients reach the rows alone.

    frozen: the table, (vocabulary, width), shared and not copied. rows: (n, width), for the ids
    `first`, `first` + 1, ...; `first` is the table's size unless the tokenizer counts otherwise.
    A `rows` that is a Parameter is trained; any other tensor is a buffer of this module.
    """

    frozen: Any  # nn.Embedding, or one that is extended already
    rows: Tensor

    def __init__(self, frozen: nn.Module, rows: Tensor, first: int | None = None):
        super().__init__()
        # Not registered: the table belongs to the text encoder, and is no parameter of the word.
        object.__setattr__(self, "frozen", frozen)
        self.first = self.frozen.num_embeddings if first is None else first
        if isinstance(rows, nn.Parameter):
            self.rows = rows
        else:
            self.register_buffer("rows", rows, persistent=False)

    @property
    def num_embeddings(self) -> int:
        """Rows in all."""
        return self.first + len(self.rows)

    @property
    def weight(self) -> Tensor:
        """The frozen table: what asks for an embedding's dtype or device finds it here."""
        weight: Tensor = self.frozen.weight
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """ids: integers of any shape -> (..., width)."""
        known = self.frozen(ids.clamp(max=self.first - 1))
        new = functional.embedding((ids - self.first).clamp(0, len(self.rows) - 1), self.rows)
        return torch.where((ids >= self.first).unsqueeze(-1), new.to(known.dtype), known)


def placeholder_tokens(placeholder_token: str, vectors: int) -> list[str]:
    """A word of several vectors, as diffusers spells it: ``<mug>``, ``<mug>_1``, ``<mug>_2``."""
    return [placeholder_token] + [f"{placeholder_token}_{i}" for i in range(1, vectors)]


def check_free(tokenizer: Any, placeholder_token: str, vectors: int = 1) -> None:
    """Refuse a word whose name the vocabulary lists: `load_textual_inversion` would refuse it too.

    Raises `ConceptError`.
    """
    vocabulary = tokenizer.get_vocab()
    for name in placeholder_tokens(placeholder_token, vectors):
        if name in vocabulary:
            raise ConceptError(
                f"The word “{name}” exists already: the base reads it as one token. "
                "Choose one that means nothing yet, such as <my-mug>.",
                field="placeholder_token",
            )


def extended_tokenizer(tokenizer: Any, placeholder_token: str, vectors: int = 1) -> Any:
    """A copy that reads `placeholder_token` as `vectors` new ids in a row, from the old ``len`` on.

    The ids are those of `placeholder_tokens`; a prompt names `placeholder_token` alone, and
    `with_all_vectors` writes out the rest. Only a word of its own is read so, no part of another.
    Where it is one token at the end of a word, as OpenAI's vocabulary has "sks</w>", the new ids
    take that token's place.
    Raises `ConceptError` where the vocabulary lists a name.
    """
    check_free(tokenizer, placeholder_token, vectors)
    from transformers import AddedToken  # here: it takes a second of the app's start

    copied = copy.deepcopy(tokenizer)
    copied.add_tokens(
        [
            AddedToken(name, single_word=stands_alone(placeholder_token), normalized=True)
            for name in placeholder_tokens(placeholder_token, vectors)
        ]
    )
    return copied


def folds_case(tokenizer: Any) -> bool:
    """Whether capitals are read as small letters, as CLIP does."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def with_all_vectors(prompt: str, tokenizer: Any) -> str:
    """The prompt with each learned word of several vectors written out: "<mug> <mug>_1".

    What diffusers' ``maybe_convert_prompt`` does, but by whole words, and in the tokenizer's case:
    "bea" stays "bea" in "beach", and "<Cat>" is found where "<cat>" is written.
    """
    added = sorted(tokenizer.added_tokens_encoder, key=len, reverse=True)
    if not any(f"{name}_1" in added for name in added):
        return prompt
    folds = folds_case(tokenizer)
    written = {(name.lower() if folds else name): _all_vectors(name, added) for name in added}
    # All at once, the longest first, as the tokenizer reads: "<mug>" has no "mug" in it.
    anyone = "|".join(pattern(name).pattern for name in added)
    return re.sub(
        anyone,
        lambda match: written.get(match[0].lower() if folds else match[0], match[0]),
        prompt,
        flags=re.IGNORECASE if folds else 0,
    )


def _all_vectors(name: str, added: Sequence[str]) -> str:
    """The tokens of the word that begins with `name`."""
    numbered = (f"{name}_{number}" for number in count(1))
    return " ".join([name, *takewhile(added.__contains__, numbered)])
