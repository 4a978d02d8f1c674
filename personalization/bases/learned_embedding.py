"""A learned word in a text encoder: new rows beside the frozen table, new tokens in a copy.

Textual inversion (Gal et al. 2022) teaches a text encoder a word without touching it: the table
keeps its very own Parameter, and the tokenizer that others hold keeps its vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    The ids are those of `placeholder_tokens`; a prompt names `placeholder_token` alone, and the
    pipelines' ``maybe_convert_prompt`` writes out the rest. Where the word is one token at the
    end of a word, as OpenAI's vocabulary has "sks</w>", the new ids take that token's place.
    Raises `ConceptError` where the vocabulary lists a name.
    """
    check_free(tokenizer, placeholder_token, vectors)
    from transformers import AddedToken  # here: it takes a second of the app's start

    copied = copy.deepcopy(tokenizer)
    # The pipelines look a word up as it was read; read in lower case, a capital would be lost.
    capital = placeholder_token != placeholder_token.lower()
    names = [
        AddedToken(name, normalized=False) if capital else name
        for name in placeholder_tokens(placeholder_token, vectors)
    ]
    copied.add_tokens(names)
    return copied
