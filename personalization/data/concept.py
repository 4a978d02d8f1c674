"""A concept: what is taught, under which word, shown by which photos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from personalization.data import captions, words
from personalization.data.photos import Photo
from personalization.errors import ConceptError, PhotoError

Kind = Literal["object", "creature", "person", "style"]

MAX_TOKEN_LENGTH = 32
MAX_PHOTOS = 50
_TOKEN = re.compile(r"[A-Za-z0-9<>_\-]+")

# A style is not a thing in the picture but the look of all of it, so it is asked for differently.
_TEMPLATES = {
    "object": ("a photo of {}", "a {}", "a picture of {}", "a close-up of {}"),
    "creature": ("a photo of {}", "a {}", "a picture of {}", "a portrait of {}"),
    "person": ("a photo of {}", "{}", "a picture of {}", "a portrait of {}"),
    "style": ("a picture in the style of {}", "{} style", "a drawing in {} style", "{}"),
}


@dataclass(frozen=True)
class Concept:
    """Something to teach.

    `placeholder_token` stands for it in prompts; `class_noun` is its class ("dog") or, for a
    style, empty or what the photos show; `photos` may be such as are read when they are asked for.
    Raises `ConceptError` or `PhotoError`, whose `field` names the argument at fault.
    """

    kind: Kind
    placeholder_token: str
    class_noun: str
    photos: Sequence[Photo]

    def __post_init__(self) -> None:
        check_placeholder_token(self.placeholder_token)
        check_class_noun(self.class_noun, needed=self.kind != "style")
        check_class_without_token(self.class_noun, self.placeholder_token)
        check_photos(self.photos)

    @property
    def name(self) -> str:
        """The words that call it: the token with its class noun, "sks dog"."""
        return f"{self.placeholder_token} {self.class_noun}".strip()

    def prompts(self, *, with_class_noun: bool = True) -> tuple[str, ...]:
        """What the photos are captioned as, in several phrasings; the first is the instance prompt.

        A learned word carries its class in its vector and is used without the noun.
        """
        name = self.name if with_class_noun else self.placeholder_token
        return tuple(template.format(name) for template in _TEMPLATES[self.kind])

    def class_prompt(self) -> str:
        """The instance prompt without the token: what prior preservation keeps as it is."""
        return class_prompt(self.kind, self.class_noun)

    def caption(
        self, index: int, *, with_class_noun: bool = True, folds_case: bool = True
    ) -> str | None:
        """Photo `index`'s own caption with the token in it, or None where it has none.

        `folds_case`: whether the tokenizer reads "SKS" as "sks".
        """
        caption = self.photos[index].caption
        if not caption:
            return None
        name = self.name if with_class_noun else self.placeholder_token
        return captions.naming(
            caption,
            name,
            self.placeholder_token,
            of_style=self.kind == "style",
            folds_case=folds_case,
        )


def class_prompt(kind: Kind, class_noun: str) -> str:
    """What a class is asked for as, in the first of its phrasings."""
    return _TEMPLATES[kind][0].format(class_noun or "anything")


def check_placeholder_token(placeholder_token: str) -> None:
    """Refuse a token that could not stand in a prompt."""
    if not placeholder_token.strip():
        raise ConceptError(
            "The word is empty. Choose one that means nothing yet, such as sks or <my-mug>.",
            field="placeholder_token",
        )
    if len(placeholder_token) > MAX_TOKEN_LENGTH:
        raise ConceptError(
            f"The word “{placeholder_token[:12]}…” has {len(placeholder_token)} characters; "
            f"at most {MAX_TOKEN_LENGTH} fit. Shorten it.",
            field="placeholder_token",
        )
    if not _TOKEN.fullmatch(placeholder_token):
        raise ConceptError(
            f"The word “{placeholder_token}” has a space or a sign in it. "
            "Use letters, digits, - and _ only, with < > around it if you like.",
            field="placeholder_token",
        )


def check_name_of_word(name: str) -> None:
    """Refuse what no word that is learned already can be called: any script will do, no spaces."""
    if not name or len(name) > MAX_TOKEN_LENGTH or not name.isprintable() or " " in name:
        raise ConceptError(
            f"“{name[:12]}” cannot be a word’s name: it takes 1 to {MAX_TOKEN_LENGTH} letters, "
            "digits and signs of any script, without a space.",
            field="placeholder_token",
        )


def check_class_noun(class_noun: str, *, needed: bool) -> None:
    """Refuse an empty class noun where one is needed, or one that is a sentence."""
    if needed and not class_noun.strip():
        raise ConceptError(
            "The class noun is empty. Say what the subject is in one word, such as dog or mug: "
            "without it the base does not know what to start from.",
            field="class_noun",
        )
    if len(class_noun) > 48:
        raise ConceptError(
            f"The class noun has {len(class_noun)} characters. One or two words are enough.",
            field="class_noun",
        )


def check_class_without_token(class_noun: str, placeholder_token: str) -> None:
    """Refuse a class noun that names the word: its prompts would hold the word to what it was."""
    if words.contains(class_noun, placeholder_token):
        raise ConceptError(
            f"The class noun “{class_noun}” has the word “{placeholder_token}” in it. Give the "
            "class alone, in words that the base knows, and beside it a word that means nothing.",
            field="class_noun",
        )


def check_initializer(initializer: str) -> None:
    """Refuse nothing to start a learned word from."""
    if not initializer.strip():
        raise ConceptError(
            "There is no word to start from. Name what the photos show, such as dog or painting.",
            field="class_noun",
        )


def check_photos(photos: Sequence[Photo]) -> None:
    """Refuse no photos, or more than a run can use."""
    if not photos:
        raise PhotoError("There are no photos. Add 3 to 5 of the same thing.", field="photos")
    if len(photos) > MAX_PHOTOS:
        raise PhotoError(
            f"There are {len(photos)} photos; at most {MAX_PHOTOS} are used. Keep the best.",
            field="photos",
        )
