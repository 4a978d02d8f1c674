"""How far a base reads: its text encoders cut the rest of a prompt off without a word."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from personalization.bases.learned_embedding import with_all_vectors
from personalization.data.words import pattern

NO_WORDS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Context:
    """What one text encoder reads: `length` tokens at most, those at the ends included."""

    tokenizer: Any
    length: int

    def unread(self, prompt: str, words: Mapping[str, int] = NO_WORDS) -> str:
        """The end of the prompt from the first word on that is not read to its own end."""
        starts = [found.start() for found in re.finditer(r"\S+", prompt)]
        ends = [*starts[1:], len(prompt)]

        def cut(word: int) -> bool:
            return self._count(prompt[: ends[word]], words) > self.length

        first = bisect_left(range(len(ends)), True, key=cut)
        return prompt[starts[first] :].strip() if first < len(ends) else ""

    def _count(self, prompt: str, words: Mapping[str, int]) -> int:
        for word, vectors in words.items():
            # "a" is one token in any vocabulary, as each vector is.
            prompt = pattern(word).sub(" ".join("a" * vectors), prompt)
        written = with_all_vectors(prompt, self.tokenizer)
        return len(self.tokenizer(written, verbose=False).input_ids)


def unread(contexts: Sequence[Context], prompt: str, words: Mapping[str, int] = NO_WORDS) -> str:
    """The end of the prompt that none of a base's text encoders reads; "" where all is read.

    words: vectors by learned word, of those that the tokenizers do not know at the moment.
    """
    return min((context.unread(prompt, words) for context in contexts), key=len)


def unread_words(
    contexts: Sequence[Context], prompt: str, words: Mapping[str, int] = NO_WORDS
) -> list[str]:
    """A sentence where the end of the prompt is not read."""
    if not (rest := unread(contexts, prompt, words)):
        return []
    length = max(context.length for context in contexts)
    return [
        f"The prompt is too long: “{rest}” is cut off, for this base reads {length} tokens. "
        "Say less, or put what matters first."
    ]


def read_caption(
    contexts: Sequence[Context], caption: str, name: str, placeholder_token: str
) -> str:
    """The caption in the base's context: shortened to it, and `name` put first if it was cut off.

    One whose word is read stays as it is.
    """
    rest = unread(contexts, caption)
    read = caption.removesuffix(rest).rstrip(" ,;")
    if not rest or pattern(placeholder_token).search(read):
        return caption
    longer = f"{name}, {read}"
    return longer.removesuffix(unread(contexts, longer) or "\0").rstrip(" ,;")
