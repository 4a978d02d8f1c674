"""A long prompt is read in windows: what plain transformers make of each stands side by side."""

from __future__ import annotations

import pytest
import torch

from personalization.bases.context import in_windows, unread_words
from personalization.bases.windows import MOST
from personalization.sampling.generate import draw
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from tests.support import random_adapters, tiny

LONG = "a red dog on the beach in the snow of a style, " * 4 + "a cat"


def plain(encoder, pieces: list[str]) -> list[torch.Tensor]:
    """Each piece as plain transformers read it, with none of our code."""
    tokenizer = encoder.tokenizer
    with torch.no_grad():
        return [
            encoder.model(
                tokenizer(piece, padding="max_length", return_tensors="pt").input_ids,
                output_hidden_states=True,
            )
            for piece in pieces
        ]


def encoded(base, prompt, negative):
    with torch.no_grad():
        return base.pipeline("text").encode_prompt(
            prompt=prompt,
            negative_prompt=negative,
            device=base.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )


@pytest.fixture(scope="module")
def sd():
    return tiny.family_base("sd15")


def test_of_stable_diffusion_the_last_states_are_joined(sd):
    pieces, rest = in_windows(sd.contexts, LONG)
    assert (len(pieces) > 2, rest) == (True, "")
    assert " ".join(pieces).split() == LONG.split()
    found, negative = encoded(sd, [LONG, "a dog"], ["the snow", ""])
    (encoder,) = sd.text_encoders
    empty = [""] * (len(pieces) - 1)
    for row, texts in zip(
        (*found, *negative),
        (pieces, ["a dog", *empty], ["the snow", *empty], ["", *empty]),
        strict=True,
    ):
        wanted = torch.cat([out.last_hidden_state[0] for out in plain(encoder, texts)])
        assert torch.allclose(row, wanted, atol=1e-5)


def test_of_sdxl_both_encoders_are_and_the_first_window_is_pooled():
    base = tiny.family_base("sdxl")
    pieces, _ = in_windows(base.contexts, LONG)
    states, _, pooled, _ = encoded(base, [LONG], [""])
    both = [plain(encoder, pieces) for encoder in base.text_encoders]
    wanted = [torch.cat([out.hidden_states[-2] for out in outs], dim=1) for outs in both]
    assert torch.allclose(states, torch.cat(wanted, dim=-1), atol=1e-5)
    assert torch.allclose(pooled, both[1][0].text_embeds, atol=1e-5)
    draw(base, Settings(LONG, steps=1))


def test_what_fits_is_read_as_ever_and_the_end_of_a_long_prompt_draws(sd):
    pipe = tiny.family_pipeline("sd15")
    ours, plainly = encoded(sd, ["a dog"], [""])
    with torch.no_grad():
        theirs = pipe.encode_prompt(["a dog"], "cpu", 1, True, [""])
    assert torch.equal(ours, theirs[0])
    assert torch.equal(plainly, theirs[1])
    pictures = [draw(sd, Settings(LONG + end, steps=2))[0].image for end in ("", " in red")]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    again = draw(sd, Settings(LONG, steps=2))[0].image
    assert again.tobytes() == pictures[0].tobytes()


def test_a_word_of_several_vectors_stays_in_one_window(sd):
    word = random_adapters.word("<mug>", 6)
    for before in range(18, 24):
        prompt = "a " * before + "<mug>"
        with applied(sd, Stack((Slot(word.described(family=sd.spec.family)),))):
            pieces, rest = in_windows(sd.contexts, prompt)
            assert (pieces[-1].endswith("<mug>"), rest) == (True, "")
            assert all(context.fits(piece) for context in sd.contexts for piece in pieces)


@pytest.mark.parametrize("prompt", ["x" * 100, "a dog " + "猫" * 40, "q" * 21 + " " + "q" * 23])
def test_a_word_longer_than_a_window_is_cut_and_read(sd, prompt):
    pieces, rest = in_windows(sd.contexts, prompt)
    assert "".join(pieces).replace(" ", "") + rest == prompt.replace(" ", "")
    assert rest == ""
    assert all(context.fits(piece) for context in sd.contexts for piece in pieces)


def test_what_is_longer_than_all_windows_is_still_told(sd):
    (sentence,) = unread_words(sd.contexts, "dog " * 22 * MOST + "cat")
    assert "“cat” is cut off" in sentence
    assert unread_words(sd.contexts, LONG) == []
