"""Adapters in words: rows of the stack, chips that call, what was found, saved or published."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from personalization.adapters.adapter import Description
from personalization.bases.ready import ReadyAdapter
from personalization.data.words import contains
from personalization.files import size_words
from personalization.workspaces.library import Entry

if TYPE_CHECKING:  # take seconds to import
    from personalization.adapters.extraction import Extracted
    from personalization.sharing.hub import Found
from .words import METHODS, data_uri


def ready_adapters(ready: Sequence[ReadyAdapter]) -> str:
    """A button for each, which fetches it; whose it is and its licence beside it."""
    buttons = "".join(
        f'<button type="button" class="chip" data-key="{escape(each.key)}" '
        f'title="{escape(each.checkpoint.source)}, {escape(each.checkpoint.licence)}">'
        f"{escape(each.title)}</button>"
        for each in ready
    )
    said = '<span class="hint">From the Hub, by others:</span>'
    return f'<div class="chips ready">{said}{buttons}</div>' if buttons else ""


def word_chips(
    placeholder_token: str, pieces: Sequence[str], start: Sequence[str], learned: bool
) -> str:
    """How the base reads the word, and what it starts from.

    `pieces` are the tokens that it is read as today; `start` those of the words to start from.
    """
    if not pieces:
        return ""
    reading = "".join(f'<span class="chip">{escape(piece)}</span>' for piece in pieces)
    if learned:
        new = f'<span class="chip new">{escape(placeholder_token)}</span>'
        after = f'<span class="arrow">becomes</span>{new}' if len(pieces) > 1 else new
        line = f'<div class="chips"><span class="lead">Read today as</span>{reading}{after}</div>'
        if start:
            chips = "".join(f'<span class="chip">{escape(piece)}</span>' for piece in start)
            line += f'<div class="chips"><span class="lead">Starts from</span>{chips}</div>'
        return line
    class_noun = "".join(f'<span class="chip known">{escape(piece)}</span>' for piece in start)
    return f'<div class="chips"><span class="lead">Read as</span>{reading}{class_noun}</div>'


def uncalled(prompt: str, words: Sequence[str]) -> list[str]:
    """A sentence for each adapter that the prompt does not call by its word."""
    return [
        f"The prompt does not call {word}: what was learned hardly shows without its word."
        for word in words
        if word and not any(contains(prompt, form) for form in (word, f"{word}s"))
    ]


def called(entry: Entry) -> str:
    """What an adapter is called in a list: by its word, where it has one."""
    about = entry.description
    return (about.trigger or about.title if about else "") or entry.name


def adapter_row(entry: Entry, picture: Path | None = None, family: str = "") -> str:
    """An adapter in the list: a picture of it or a sign, its word, and what it is.

    family: of the base in use, with which one of another family is left out.
    """
    if entry.description is None:
        return f'<div class="adapter"><b>{escape(entry.name)}</b><p>{escape(entry.error)}</p></div>'
    about = entry.description
    badge = (
        f'<span class="badge {escape(about.method)}" aria-hidden="true">{_glyph(about.method)}'
        "</span>"
    )
    if picture:
        badge = f'<img class="badge" src="{data_uri(picture, 96)}" alt="">'
    return (
        f'<div class="adapter">{badge}<div><b class="token">{escape(called(entry))}</b>'
        f"<p>{escape(_kind(about))} · {size_words(entry.size)} · {_whose(entry)}</p>"
        f"{_left_out(about.family, family)}{_trigger_words(about)}</div></div>"
    )


def _left_out(own: str, family: str) -> str:
    """Why it is in no picture, where it was made for another family."""
    if not (own and family) or own == family:
        return ""
    return (
        f"<p><b>Left out: it was made for {escape(own)}, and the base is {escape(family)}.</b></p>"
    )


def found(each: Found) -> str:
    """A file of a repository, on one line."""
    if each.contents is None:
        return each.name
    about = each.contents.description
    parts = [each.name, _kind(about), about.family or "family unknown", size_words(each.size)]
    return " · ".join(part for part in (about.trigger, *parts) if part)


def saved(title: str, residual: float) -> str:
    """The stack is an adapter now, and what was lost on the way."""
    lost = "It is the same change" if residual < 5e-4 else f"It keeps {1 - residual:.1%} of it"
    return f"Saved as “{title}” in your library. {lost}."


def published(address: str, version: str = "", changes: Sequence[str] = ()) -> str:
    """Where an adapter is now, and what its version changed."""
    safe = escape(address, quote=True)
    link = f'<a href="{safe}" target="_blank">{safe}</a>'
    said = "".join(f"<li>{escape(change)}</li>" for change in changes)
    told = f'<ul class="hint">{said}</ul>' if said else ""
    return f'<p class="hint">Published {escape(version)}: {link}</p>{told}'


def choice(entry: Entry) -> str:
    """An adapter in a list to choose from, on one line."""
    about = entry.description
    if about is None:
        return f"{entry.name} (cannot be read)"
    return f"{called(entry)} · {_kind(about)} · {_whose(entry)}"


def not_in_link(words: Sequence[str]) -> list[str]:
    """A sentence for the adapters that nobody else could open."""
    if not words:
        return []
    are = "is" if len(words) == 1 else "are"
    return [
        f"{', '.join(words)} {are} yours alone and not in the link. What is public on the Hub and "
        "was added from there can be in one."
    ]


def _kind(about: Description) -> str:
    return METHODS.get(about.method, about.method).removeprefix("a ")


def _trigger_words(about: Description) -> str:
    """What others' files name as what calls them, to be clicked into the prompt."""
    words = [word for word in about.trigger_words if word != about.trigger]
    chips = "".join(
        f'<button type="button" class="chip" data-key="{escape(word)}" '
        f'title="Put “{escape(word)}” into the prompt">{escape(word)}</button>'
        for word in words
    )
    return f'<div class="chips triggers">{chips}</div>' if chips else ""


def _whose(entry: Entry) -> str:
    return "yours" if entry.own else "ready"


def extracted(made: Extracted) -> str:
    """What a LoRA keeps of a full fine-tune, over all and layer by layer."""
    beside = made.beside / made.change
    rows = "".join(
        f"<tr><td>{escape(str(layer.place))}</td><td>{layer.residual:.1%}</td></tr>"
        for layer in sorted(made.layers, key=lambda layer: -layer.residual)
    )
    return (
        f'<div class="extracted"><p>A LoRA of rank {made.adapter.description.rank} is in your '
        f"library. It leaves out <b>{made.residual:.1%}</b> of what the fine-tune changed, by the "
        f"size of the change (Frobenius norm); biases and norms, which no LoRA holds, are "
        f"{beside:.1%}. A higher rank leaves out less.</p><details><summary>Left out, layer by "
        f"layer</summary><table>{rows}</table></details></div>"
    )


def _glyph(method: str) -> str:
    return {"textual_inversion": "“ ”", "full": "■"}.get(method, "≡")
