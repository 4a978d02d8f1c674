"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): new rows of the embedding table.

Only the new rows exist as parameters. The table itself is neither copied nor stepped nor restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from personalization.bases.base import Base, TextEncoder
from personalization.bases.learned_embedding import ExtendedEmbedding, extended_tokenizer
from personalization.data.concept import Concept, check_initializer
from personalization.methods.method import Export, ParameterGroup, Size, numbers
from personalization.recipe import LearnedEmbedding

HEADER = 1_600  # bytes of a file that are no numbers


class TextualInversionMethod:
    """New rows in each text encoder's table, v* of the paper.

    Without a concept the rows are there and mean nothing: enough for what the method comes to.
    """

    trains_text = True
    uses_class_noun = False

    def __init__(self, base: Base, concept: Concept | None, method: LearnedEmbedding, seed: int):
        self.placeholder_token = concept.placeholder_token if concept else ""
        self.method = method
        self._restore: list[tuple[TextEncoder, nn.Module, object]] = []
        self._rows: dict[str, nn.Parameter] = {}
        for encoder in base.text_encoders:
            table = encoder.model.get_input_embeddings()
            if concept is None:
                first, tokenizer = table.num_embeddings, encoder.tokenizer
                start = table.weight.new_empty(method.vectors, table.weight.shape[-1])
            else:
                # Where the tokenizer goes on counting: tables can be larger than their vocabulary.
                first = len(encoder.tokenizer)
                tokenizer = extended_tokenizer(
                    encoder.tokenizer, concept.placeholder_token, method.vectors
                )
                words = method.initializer_token or concept.class_noun
                start = initial_rows(encoder, words, method.vectors, seed).to(base.device)
            rows = nn.Parameter(start)
            self._restore.append((encoder, table, encoder.tokenizer))
            self._rows[encoder.name] = rows
            encoder.model.set_input_embeddings(ExtendedEmbedding(table, rows, first))
            encoder.tokenizer = tokenizer

    def groups(self) -> list[ParameterGroup]:
        """The rows of all encoders."""
        rows = {f"{name}.rows": parameter for name, parameter in self._rows.items()}
        return [ParameterGroup(rows, self.method.learning_rate)]

    def size(self) -> Size:
        """Written in single precision."""
        trained = numbers(self.groups())
        return Size(trained, layers=0, file=HEADER + 4 * trained)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Nothing is to be switched off: prompts without the token do not see the rows."""
        yield

    def after_step(self) -> None:
        """Nothing is to be done."""

    def export(self) -> Export:
        """One encoder: {token: [n, d]}, as diffusers reads it; two: clip_l and clip_g."""
        rows = {name: parameter.detach().float().cpu() for name, parameter in self._rows.items()}
        if len(rows) == 1:
            tensors = {self.placeholder_token: next(iter(rows.values()))}
        else:
            tensors = dict(zip(("clip_l", "clip_g"), rows.values(), strict=True))
        return Export(tensors, "textual_inversion", rank=self.method.vectors)

    def remove(self) -> None:
        """Put tables and tokenizers back."""
        for encoder, table, tokenizer in self._restore:
            encoder.model.set_input_embeddings(table)
            encoder.tokenizer = tokenizer


def initial_rows(encoder: TextEncoder, words: str, vectors: int, seed: int) -> Tensor:
    """(vectors, width): the rows of `words`, one each while they last, then their mean.

    Where there are fewer vectors than words, each starts from the mean of its share of them.
    Copies of one row are told apart by noise of a hundredth of its norm: equal rows would get
    almost equal gradients. Raises `ConceptError` where there is nothing to start from.
    """
    check_initializer(words)
    ids = encoder.tokenizer(words, add_special_tokens=False).input_ids
    table = encoder.model.get_input_embeddings().weight.detach().float().cpu()
    known = table[torch.tensor(ids)]
    shares = known.tensor_split(vectors) if vectors < len(ids) else known.split(1)
    rows = torch.stack([share.mean(0) for share in shares] + [known.mean(0)] * (vectors - len(ids)))
    if vectors > len(ids):
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
        scale = 0.01 * known.norm(dim=-1).mean() / rows.shape[-1] ** 0.5
        rows[len(ids) :] += scale * noise[len(ids) :]
    return rows
