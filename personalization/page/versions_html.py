"""Versions as HTML: their list, and two side by side. Pure functions, as `html`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from .html import data_uri, hint

if TYPE_CHECKING:
    from personalization.sampling.picture_record import Picture
    from personalization.sharing.going_back import Gone
    from personalization.sharing.versions import Held, Version

FIGURES = {
    "subject_fidelity": "subject fidelity",
    "prompt_fidelity": "prompt fidelity",
    "drift": "drift",
    "strength": "strength",
}


class Shown(NamedTuple):
    """A version, what it says of itself, and what it draws."""

    version: Version
    held: Held
    pictures: list[Picture]


def listing(found: Sequence[Version]) -> str:
    """The newest first, each with what changed and the button that goes back to it."""
    return f'<ul class="versions">{"".join(map(_line, found))}</ul>'


def comparison(one: Shown, other: Shown) -> str:
    """Two columns: pictures of the same prompt and seeds, figures, and settings that differ."""
    from personalization.sharing.versions import differing

    both = (one, other)
    rows = [_row("", [escape(each.version.tag) for each in both], "th")]
    for pair in zip(one.pictures, other.pictures, strict=True):
        seed, prompt = f"seed {pair[0].record.seed}", escape(pair[0].record.prompt)
        cells = [f'<img src="{data_uri(each.image, 320)}" alt="{prompt}, {seed}">' for each in pair]
        rows.append(_row(f"{prompt} <small>{seed}</small>", cells))
    for key, name in FIGURES.items():
        values = [each.held.figures.get(key) for each in both]
        if any(value is not None for value in values):
            rows.append(_row(name, ["–" if v is None else f"{v:.3f}" for v in values]))
    for name, was, is_now in differing(one.held.recipe, other.held.recipe):
        rows.append(_row(escape(name), [escape(was), escape(is_now)]))
    if not any(each.held.figures for each in both):
        rows.append(_row("figures", ["not measured", "not measured"]))
    return f'<section class="report"><table class="beside">{"".join(rows)}</table></section>'


def went_back(version: Version, gone: Gone) -> str:
    """What the library has now, and what was kept."""
    said = f"“{gone.entry.name}” is {version.tag} again."
    if gone.kept:
        said += f" What it was before is on no version: it is kept as “{gone.kept.name}”."
    return hint(escape(said))


def _line(version: Version) -> str:
    tag, address = escape(version.tag), escape(version.address, quote=True)
    changes = "".join(f"<li>{escape(change)}</li>" for change in version.changes)
    said = f"<ul>{changes}</ul>" if changes else ""
    return (
        f'<li><div><b><a href="{address}" target="_blank">{tag}</a></b> '
        f"<time>{version.date:%-d %B %Y, %H:%M} UTC</time>{said}</div>"
        f'<button type="button" data-key="{tag}">Go back to {tag}</button></li>'
    )


def _row(name: str, cells: Sequence[str], kind: str = "td") -> str:
    inside = "".join(f"<{kind}>{cell}</{kind}>" for cell in cells)
    return f'<tr><th scope="row">{name}</th>{inside}</tr>'
