"""The base and the machine: the choice, the terms, the estimate, the page's head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.evaluation.spectrum import WHOLE_MODEL, Mark, spectrum
from personalization.files import size_words
from personalization.training.base_selection import Option

if TYPE_CHECKING:  # take seconds to import
    from personalization.training.estimate import Outlook
from .words import duration


def other_base(name: str | None, spec: BaseSpec) -> list[str]:
    """A sentence where a picture was drawn by another base than the one in use."""
    if not name or name == spec.name:
        return []
    drew = CATALOG[name].title if name in CATALOG else name
    return [f"{drew} drew this picture, and {spec.title} is in use: it will look different."]


def bases(options: Sequence[Option], variable: str) -> str:
    """The bases that cannot be had here, together where the reason is the same."""
    reasons: dict[str, list[str]] = {}
    for option in options:
        if option.why_not:
            reasons.setdefault(option.why_not, []).append(option.spec.title)
    items = "".join(
        f"<li><b>{escape(', '.join(titles))}:</b> {escape(why)}</li>"
        for why, titles in reasons.items()
    )
    if not items:
        return ""
    return (
        f'<ul class="bases-not">{items}<li>Who runs the app can choose any base, with the variable '
        f"<code>{variable}</code>.</li></ul>"
    )


def terms(spec: BaseSpec, seconds: float | None = None) -> str:
    """What a base is allowed for, and the size that it draws; seconds: of a picture, where told."""
    gated = ", gated" if spec.gated else ""
    pace = f"; {duration(seconds)} a picture here" if seconds else ""
    return f"{spec.title} ({spec.size} px, {spec.licence}{gated}{pace})"


def outlook(
    said: Outlook, device: str, lent: str | None = None, pictures: float | None = None
) -> str:
    """What a run will take, and leave, as far as it can be told before.

    pictures: seconds of its first pictures, which come after it.
    lent: what its seconds are on a GPU that is lent, "" where none can tell; None on one's own.
    """
    words = ["how long shows after a few steps"]
    if said.seconds is not None:
        words = [f"{duration(said.seconds)} {'here' if lent is None else 'of GPU time'}"]
        if pictures:
            words[0] += f" and {duration(pictures)} for its first pictures"
    if said.file:
        words.append(f"a file of {size_words(said.file)}")
    if said.memory:
        where = "the GPU’s memory" if device == "cuda" else "memory"
        words.append(f"{said.memory / 2**30:.1f} GiB of {where}")
    line = ", ".join(words)
    also = f". The GPU time is {lent}" if lent else ""
    return f'<p class="hint">{line[0].upper()}{line[1:]}{also}</p>'


def machine(rows: Sequence[tuple[Any, ...]], device: str) -> str:
    """A table of (base, why not, seconds of a word, of a subject), as far as each is known."""
    lines = "".join(
        f'<tr><th scope="row">{escape(title)}</th>'
        + (
            f'<td colspan="2">{escape(why_not)}</td>'
            if why_not
            else "".join(f"<td>{_time(seconds)}</td>" for seconds in times)
        )
        + "</tr>"
        for title, why_not, *times in rows
    )
    return (
        f'<table class="machine"><caption>By each base’s own recipes on {escape(device)}. Weights '
        'that are not here yet are fetched first.</caption><thead><tr><th scope="col">base</th>'
        '<th scope="col">a word</th><th scope="col">a subject</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )


def first_start(title: str, word: float | None, subject: float | None) -> str:
    """A line for the log."""
    return f"{title} is loaded. Here a word takes {_time(word)}, a subject {_time(subject)}."


def _time(seconds: float | None) -> str:
    return duration(seconds) if seconds else "a time that shows after a few steps"


def header(base: str, device: str, last: Mark | None = None, whole: int = WHOLE_MODEL) -> str:
    """The title, one sentence, the spectrum with the visitor's `last` result, the base.

    `whole` is what a full fine-tune of this base weighs, in bytes.
    """
    return (
        '<header><div class="head-line"><h1>Personalization</h1>'
        f'<p class="state"><i class="dot"></i>{escape(base)}<span class="sep">·</span>'
        f"{escape(device)}</p></div>"
        '<p class="lede">Show a text-to-image model a few photos, give them a word, '
        "and draw with it.</p>"
        f'<div class="spectrum">{spectrum([last] if last else [], whole=whole)}</div></header>'
    )


def device_words(device: str, *, shared: bool) -> str:
    """The device as a visitor calls it."""
    if shared:
        return "ZeroGPU, shared"
    if device == "cpu":
        return f"this machine’s CPU, {os.cpu_count()} cores, no network needed"
    return "this machine’s GPU"
