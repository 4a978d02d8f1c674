"""“Your things” as HTML: the meter, and each kind with its pieces. Pure functions, as `html`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from html import escape

from personalization.files import size_words
from personalization.workspaces.belongings import KINDS, Belonging, Kind
from personalization.workspaces.trash import UNDO

from .html import data_uri

FIRST = 12  # of a kind that are shown before somebody asks for all
TITLES: dict[Kind, str] = {
    "run": "Runs",
    "adapter": "Adapters",
    "photo": "Photos",
    "picture": "Pictures",
    "preset": "Presets",
}
NOTHING = (
    '<p class="list-empty">Nothing yet: what you add, teach and draw is listed here, and can be '
    "deleted piece by piece.</p>"
)
NO_HITS = '<p class="list-empty">Nothing of yours is called so.</p>'


def meter(found: Sequence[Belonging], used: int, quota: int) -> str:
    """How much of the quota is in use, and by what."""
    by_kind = {kind: sum(each.size for each in found if each.kind == kind) for kind in KINDS}
    by_kind = {kind: size for kind, size in by_kind.items() if size}
    parts = "".join(
        f'<i class="of-{kind}" style="width:{100 * size / quota:.3f}%"></i>'
        for kind, size in by_kind.items()
    )
    legend = "".join(
        f'<li class="of-{kind}">{TITLES[kind]} {size_words(size)}</li>'
        for kind, size in by_kind.items()
    )
    return (
        f'<div class="meter"><p>{size_words(used)} of {size_words(quota)} in use</p>'
        f'<div class="meter-bar" role="meter" aria-valuemin="0" aria-valuemax="{quota}" '
        f'aria-valuenow="{used}" aria-label="Room in use">{parts}</div><ul>{legend}</ul></div>'
    )


def listing(
    found: Sequence[Belonging], hits: Sequence[Belonging], whole: Collection[str], now: float
) -> str:
    """Those that a search left, kind by kind; of the kinds in `whole` all, of others the first."""
    if not found:
        return NOTHING
    if not hits:
        return NO_HITS
    of_kind = {kind: [each for each in hits if each.kind == kind] for kind in KINDS}
    groups = [_group(kind, of_kind[kind], kind in whole, now) for kind in KINDS if of_kind[kind]]
    return f'<div class="things">{"".join(groups)}</div>'


def undo(count: int, kind: Kind, ticket: str) -> str:
    """What was deleted, and the button that brings it back while it can be."""
    noun = TITLES[kind].lower()
    what = f"{count} {noun if count != 1 else noun.removesuffix('s')} deleted."
    return (
        f'<div class="undo" role="status" style="--seconds:{UNDO:.0f}s"><span>{what}</span>'
        f'<button type="button" data-key="{escape(ticket)}">Undo</button><i></i></div>'
    )


def ago(seconds: float) -> str:
    """How long ago, in words: the visitor's clock may be another than the machine's."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _group(kind: Kind, pieces: Sequence[Belonging], whole: bool, now: float) -> str:
    shown = pieces if whole else pieces[:FIRST]
    size = size_words(sum(each.size for each in pieces))
    head = (
        f"<h4>{TITLES[kind]} <span>{len(pieces)} · {size}</span>"
        f"{_button('Delete all', 'all', kind, title=f'Delete all {TITLES[kind].lower()}')}</h4>"
    )
    more = _button(f"Show all {len(pieces)}", "more", kind) if len(shown) < len(pieces) else ""
    tiles = "".join(_tile(each, now) for each in shown)
    return f'<section><div class="group-head">{head}</div><ul>{tiles}</ul>{more}</section>'


def _tile(each: Belonging, now: float) -> str:
    """A piece: its picture, what it is, and what can be done with it."""
    picture = '<span class="none" aria-hidden="true"></span>'
    if each.picture:
        with suppress(OSError, SyntaxError, ValueError):  # damaged behind its head
            picture = f'<img src="{data_uri(each.picture, 96)}" alt="">'
    age = ago(max(0.0, now - each.when))
    facts = " · ".join(filter(None, (each.about, size_words(each.size), age)))
    said = f'<p class="wrong">{escape(each.error)}</p>' if each.error else ""
    buttons = ""
    if each.kind == "adapter" and not each.error:
        buttons += _button("Rename", "rename", each.kind, each.name)
    if each.kind == "run" and each.about:  # its recipe can be read, whatever else is damaged
        buttons += _button("Keep as preset", "keep", each.kind, each.name)
    buttons += _button("×", "delete", each.kind, each.name, title=f"Delete {each.title}")
    return (
        f'<li>{picture}<div><b title="{escape(each.title)}">{escape(each.title)}</b>'
        f'<p>{escape(facts)}</p>{said}</div><span class="acts">{buttons}</span></li>'
    )


def _button(label: str, *key: str, title: str = "") -> str:
    named = f' title="{escape(title)}" aria-label="{escape(title)}"' if title else ""
    kind = ' class="cross"' if label == "×" else ""
    return (
        f'<button type="button"{kind} data-key="{escape(json.dumps(key))}"{named}>'
        f"{escape(label)}</button>"
    )
