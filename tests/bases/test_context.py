"""What lies beyond a text encoder's context is told, and no caption loses the concept's word."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personalization.bases.context import Context, read_caption, unread, unread_words
from personalization.bases.unet import UNetBase
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import clip_vocabulary, random_adapters, tiny

LONG = (
    "a small wooden kitchen table with a vase of dried flowers and a bowl of red and green apples "
)


@pytest.fixture(scope="module")
def base() -> UNetBase:
    """CLIP's vocabulary, 24 tokens."""
    return UNetBase(tiny.spec(), clip_vocabulary.pipeline(), torch.device("cpu"))


def embedded(base: UNetBase, prompt: str) -> torch.Tensor:
    with torch.no_grad():
        return base.encode_prompts([prompt]).tensors["encoder_hidden_states"]


@pytest.mark.parametrize(
    "end", ["by a window, sks style", "flowers", "一只猫 in the snow", "x" * 40]
)
def test_what_is_not_read_changes_nothing_and_what_is_read_does(base: UNetBase, end: str) -> None:
    prompt = f"{LONG * 2}{end}"
    rest = unread(base.contexts, prompt)
    assert prompt.endswith(rest)
    read = prompt.removesuffix(rest)
    assert len(base.contexts[0].tokenizer(read).input_ids) <= base.contexts[0].length
    assert torch.equal(embedded(base, f"{prompt} dog"), embedded(base, prompt))
    assert not torch.equal(embedded(base, read.rsplit(" ", 2)[0]), embedded(base, prompt))


@pytest.mark.parametrize("prompt", ["", "a dog", LONG.strip(), "  "])
def test_what_fits_is_read(base: UNetBase, prompt: str) -> None:
    assert unread(base.contexts, prompt) == ""
    assert unread_words(base.contexts, prompt) == []


def test_the_sentence_says_which_part(base: UNetBase) -> None:
    once = [replace(context, windows=1) for context in base.contexts]
    (sentence,) = unread_words(once, f"{LONG}on a farm in the north, sks style")
    assert "too long" in sentence
    assert "sks style” is cut off" in sentence
    assert "24 tokens" in sentence


def test_a_learned_word_takes_a_token_for_each_vector(base: UNetBase) -> None:
    word = random_adapters.word("<mug>", 4)
    prompts = [f"{'very ' * n}<mug>" for n in range(15, 24)]
    told = [unread(base.contexts, prompt, {"<mug>": 4}) for prompt in prompts]
    with applied(base, Stack((Slot(word),))):
        assert [unread(base.contexts, prompt) for prompt in prompts] == told
    assert told[0] == ""
    assert told[-1].endswith("<mug>")


@pytest.mark.parametrize("name", ["sdxl", "sd35-medium", "flux2-klein"])
def test_every_base_says_how_far_it_reads(name: str) -> None:
    family = tiny.family_base(name)
    longest = max(context.length for context in family.contexts)
    assert unread(family.contexts, "a photo of a dog") == ""
    rest = unread(family.contexts, "dog " * longest + "cat")
    assert rest.endswith("cat")
    assert len(rest) < 4 * longest


@pytest.mark.parametrize("length", [8, 12, 24])
def test_a_long_caption_keeps_the_concepts_word(base: UNetBase, length: int) -> None:
    caption = f"{LONG}and far away a sks dog"
    tokenizer = base.contexts[0].tokenizer

    contexts = (Context(tokenizer, length),)
    shortened = read_caption(contexts, caption, "sks dog", "sks")
    assert shortened.startswith("sks dog, a small")
    assert len(tokenizer(shortened).input_ids) <= length
    kept = f"sks dog, {LONG}"
    assert read_caption(contexts, kept, "sks dog", "sks") == kept
    assert read_caption(base.contexts, "sks dog here", "sks dog", "sks") == "sks dog here"
