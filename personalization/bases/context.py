"""How far a base reads: its text encoders cut the rest of a prompt off without a word.

What is drawn may be read in several windows, where the denoiser takes their embeddings joined (see
`bases.windows`); what is learned from is read in one.
"""

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
    """What one text encoder reads at once: `length` tokens at most, those at the ends included.

    A prompt to draw is read in `windows` such pieces at most.
    """

    tokenizer: Any
    length: int
    windows: int = 1

    def unread(self, prompt: str, words: Mapping[str, int] = NO_WORDS) -> str:
        """The end of the prompt from the first word on that is not read to its own end."""
        starts = [found.start() for found in re.finditer(r"\S+", prompt)]
        ends = [*starts[1:], len(prompt)]

        def cut(word: int) -> bool:
            return self._count(prompt[: ends[word]], words) > self.length

        first = bisect_left(range(len(ends)), True, key=cut)
        return prompt[starts[first] :].strip() if first < len(ends) else ""

    def fits(self, text: str, words: Mapping[str, int] = NO_WORDS) -> bool:
        """Whether it is read to its end in one window."""
        return self._count(text, words) <= self.length

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


def in_windows(
    contexts: Sequence[Context], prompt: str, words: Mapping[str, int] = NO_WORDS
) -> tuple[list[str], str]:
    """The prompt in pieces, each of which every text encoder reads whole; and what is left over.

    Pieces end between words; a word that is longer than a window is cut.
    """
    most = min(context.windows for context in contexts)
    pieces: list[str] = []
    rest = prompt
    while rest and len(pieces) < most:
        left = max((context.unread(rest, words) for context in contexts), key=len)
        if left == rest.strip():
            letters = range(1, len(rest) + 1)
            cut = bisect_left(
                letters, True, key=lambda n: not all(c.fits(rest[:n], words) for c in contexts)
            )
            left = rest[max(1, cut) :]
        pieces.append(rest.removesuffix(left).strip() if left else rest)
        rest = left
    return pieces or [""], rest


def unread_words(
    contexts: Sequence[Context], prompt: str, words: Mapping[str, int] = NO_WORDS
) -> list[str]:
    """A sentence where the end of a prompt to draw is not read."""
    most = min(context.windows for context in contexts)
    rest = unread(contexts, prompt, words) if most == 1 else in_windows(contexts, prompt, words)[1]
    if not rest:
        return []
    length = most * max(context.length for context in contexts)
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
