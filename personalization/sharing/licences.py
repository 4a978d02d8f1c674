"""Under what an adapter may be given on: what the licence of its base leaves to choose.

These are the licences' own names on the Hub. A summary is no advice: each names where the text is.
"""

from __future__ import annotations

from dataclasses import dataclass

from personalization.errors import HubError

OPENRAIL = (
    "The base’s licence goes along: its list of uses that are not allowed must be passed on with "
    "whatever is made from it."
)


@dataclass(frozen=True)
class Terms:
    """What may be chosen, the suggestion first, and what the base asks for, in a sentence."""

    licences: tuple[str, ...]
    condition: str


_TERMS = {
    "apache-2.0": Terms(
        ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0"),
        "The base leaves the choice to you; name it, and what you changed.",
    ),
    "creativeml-openrail-m": Terms(("creativeml-openrail-m",), OPENRAIL),
    "openrail++": Terms(("openrail++",), OPENRAIL),
    "stabilityai-community": Terms(
        ("other",),
        "Stability AI’s Community License goes along: free below a yearly revenue of a million US "
        "dollars, and “Powered by Stability AI” is to be said.",
    ),
}
_UNKNOWN = Terms(
    ("other",), "Read the base’s own licence first: what is made from it stands under it."
)


def terms_of(licence: str) -> Terms:
    """What a base of that licence allows."""
    return _TERMS.get(licence, _UNKNOWN)


def suggested(base_licence: str) -> str:
    """What to take where nobody chooses."""
    return terms_of(base_licence).licences[0]


def check(licence: str, base_licence: str) -> str:
    """The licence, if the base's allows it. Raises `HubError`."""
    terms = terms_of(base_licence)
    if licence not in terms.licences:
        raise HubError(
            f"The base stands under {base_licence}, so its adapter cannot be published under "
            f"{licence[:40] or 'no licence'}: take {' or '.join(terms.licences)}.",
            field="licence",
        )
    return licence
