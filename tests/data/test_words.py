"""Captions and class nouns name the word, or are told not to."""

from __future__ import annotations

import pytest
from PIL import Image

from personalization.data.captions import captioned
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.data.words import contains, visible
from personalization.errors import ConceptError

PHOTO = Photo("a.png", Image.effect_noise((200, 200), 90).convert("RGB"))


def concept(token: str = "sks", noun: str = "toy", caption: str | None = None) -> Concept:
    return Concept("object", token, noun, (Photo("a.png", PHOTO.image, caption=caption),))


@pytest.mark.parametrize(
    ("token", "caption"),
    [
        ("sks", "between two desks"),
        ("sks", "a basket of masks"),
        ("ana", "eating a banana"),
        ("art", "in a shopping cart"),
        ("<mug>", "a mug on a table"),
    ],
)
def test_letters_in_another_word_are_not_the_word(token: str, caption: str) -> None:
    assert concept(token, caption=caption).caption(0) == f"{token} toy, {caption}"
    short = concept(token, caption=caption).caption(0, with_class_noun=False)
    assert short == f"{token}, {caption}"


@pytest.mark.parametrize("caption", ["sks, on a desk", "SKS on a desk", "my sks's ear", "(sks)"])
def test_a_caption_with_the_word_stays(caption: str) -> None:
    assert concept(caption=caption).caption(0) == caption


def test_a_capital_is_another_word_where_the_tokenizer_reads_it_so() -> None:
    assert concept(caption="SKS here").caption(0, folds_case=False) == "sks toy, SKS here"


@pytest.mark.parametrize(
    ("token", "noun"),
    [("sks", "sks dog"), ("sks", "SKS"), ("<mug>", "a <mug>"), ("art", "pop art")],
)
def test_a_noun_with_the_word_in_it_is_refused(token: str, noun: str) -> None:
    with pytest.raises(ConceptError, match="has the word") as caught:
        concept(token, noun)
    assert caught.value.field == "class_noun"


@pytest.mark.parametrize("noun", ["desks", "teddy bear", "dogs", "cocktail glass"])
def test_plurals_and_nouns_of_two_words_are_taken(noun: str) -> None:
    assert concept(noun=noun).class_prompt() == f"a photo of {noun}"
    assert concept(noun=noun).name == f"sks {noun}"


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u2060", "\u00ad", "\u200e"])
def test_what_nobody_sees_is_no_part_of_a_caption(mark: str) -> None:
    (photo,) = captioned([PHOTO], f"{mark}in the{mark} snow{mark}\n{mark}")
    assert photo.caption == "in the snow"


def test_joiners_of_emoji_and_scripts_stay() -> None:
    assert visible("👩‍🚀 می‌خواهم") == "👩‍🚀 می‌خواهم"


def test_several_words_are_found_with_any_space_between() -> None:
    assert contains("a photo of sks  dog", "sks dog")
    assert not contains("sks dogsled", "sks dog")
    assert not contains("anything", "")
