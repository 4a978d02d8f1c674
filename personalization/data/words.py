"""Whether a text names a word, told as a tokenizer tells it: by whole words, not by letters."""

from __future__ import annotations

import re

# What takes no room on the page, but a token or three each: byte order marks, zero-width spaces and
# word joiners, soft hyphens, marks of direction. Joiners of scripts and emoji are none of these.
_INVISIBLE = re.compile("[\ufeff\u200b\u2060\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def stands_alone(word: str) -> bool:
    """Whether the word ends where letters do; one in < > ends by itself."""
    return bool(re.match(r"\w", word) or re.search(r"\w$", word))


def pattern(word: str, *, folds_case: bool = True) -> re.Pattern[str]:
    """What finds `word`, or several with spaces between, in a prompt or a caption.

    "bea" is not in "beach", nor "sks" in "desks". `folds_case`: as the tokenizer does. The second
    vector's token, such as "<mug>_1", is not the word.
    """
    spaced = r"\s+".join(map(re.escape, word.split()))
    bounded = rf"(?<!\w){spaced}(?!\w)" if stands_alone(word) else rf"{spaced}(?!_\d)"
    return re.compile(bounded, re.IGNORECASE if folds_case else 0)


def contains(text: str, word: str, *, folds_case: bool = True) -> bool:
    """Whether `text` names `word`."""
    return bool(word.strip() and pattern(word, folds_case=folds_case).search(text))


def without(text: str, word: str) -> str:
    """`text` with `word` taken out of it, where anything else is left."""
    return " ".join(pattern(word).sub(" ", text).split())


def visible(text: str) -> str:
    """The text without what nobody sees in it and a tokenizer reads all the same."""
    return _INVISIBLE.sub("", text)
