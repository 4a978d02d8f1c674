"""A learned word is read where it stands as a word, on CLIP's own vocabulary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personalization.bases.learned_embedding import (
    ExtendedEmbedding,
    extended_tokenizer,
    folds_case,
    with_all_vectors,
)
from personalization.bases.unet import UNetBase
from personalization.sampling.generate import draw_each
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import clip_vocabulary, random_adapters, tiny

CLIP = clip_vocabulary.tokenizer()
# Words, prompts that only have their letters, and prompts that call them.
WORDS = [
    ("beac", ["on the beach", "a beac_7", "beacs"], ["a beac", "Beac, BEAC!", "beac's"]),
    ("sks", ["two desks", "masks", "sks2"], ["a photo of SKS dog", "a sks-like dog", "(sks)"]),
    ("<Mug>", ["a mug", "< mug >"], ["a <mug> here", "a <Mug>", "two <mug>s"]),
    ("MyDog", ["a mydogs"], ["mydog", "a MyDog.", "MYDOG"]),
]


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize(("word", "others", "calls"), WORDS)
def test_a_word_is_read_as_a_word(
    word: str, others: list[str], calls: list[str], vectors: int
) -> None:
    extended = extended_tokenizer(CLIP, word, vectors)
    new = list(range(len(CLIP), len(CLIP) + vectors))
    for prompt in others:
        ids = extended(with_all_vectors(prompt, extended)).input_ids
        assert ids == CLIP(prompt).input_ids, prompt
    for prompt in calls:
        ids = extended(with_all_vectors(prompt, extended)).input_ids
        at = ids.index(new[0])
        assert ids[at : at + vectors] == new, prompt


def test_words_within_words_are_told_apart() -> None:
    extended = extended_tokenizer(extended_tokenizer(CLIP, "<bea>", 2), "beac", 3)
    written = with_all_vectors("Beac and <BEA> on the beach", extended)
    assert written == "beac beac_1 beac_2 and <bea> <bea>_1 on the beach"


def test_clip_reads_capitals_as_small_letters() -> None:
    assert folds_case(CLIP)
    assert not folds_case(tiny.family_pipeline("flux2-klein").tokenizer)


def test_a_prompt_that_only_has_the_letters_draws_the_bases_own_picture() -> None:
    base = UNetBase(tiny.spec(), clip_vocabulary.pipeline(), torch.device("cpu"))
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=2))
    prompts, seeds = ["a house on the beach", "a beac"], [3, 4]
    plain = draw_each(base, prompts, seeds)
    with applied(base, Stack((Slot(random_adapters.word("beac", 2)),))):
        table = base.text_encoders[0].model.get_input_embeddings()
        assert isinstance(table, ExtendedEmbedding)
        drawn = draw_each(base, prompts, seeds)
    assert [one == other for one, other in zip(plain, drawn, strict=True)] == [True, False]
