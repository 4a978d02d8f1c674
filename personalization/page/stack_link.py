"""A stack as a link: `?stack=crowned-dog:0.55,someone/mug-lora:1&prompt=…&seed=7`.

What anyone else can have is named in it, and nothing else: adapters that come with the app, and
those of public repositories on the Hub. Pure functions of names and texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from personalization.errors import StackError
from personalization.sampling.settings import SEEDS
from personalization.stacking.stack import COMBINATIONS, MAX_SLOTS, MAX_WEIGHT
from personalization.workspaces.library import Entry

from .adapter_rows import Row

MAX_PROMPT = 1000  # characters: an address of more is cut off on its way by some


@dataclass(frozen=True)
class StackLink:
    """`adapters` by what anyone knows them by: a ready one's name, or owner/repository[/file]."""

    adapters: tuple[tuple[str, float], ...]
    prompt: str = ""
    seed: int | None = None
    combine: str = "sum"

    def query(self) -> str:
        """The link's end, from its question mark on."""
        listed = ",".join(f"{quote(name)}:{weight:g}" for name, weight in self.adapters)
        parts = {"stack": listed, "prompt": self.prompt[:MAX_PROMPT], "seed": self.seed}
        parts["combine"] = "" if self.combine == "sum" else self.combine
        said = {key: value for key, value in parts.items() if value not in (None, "")}
        return "?" + urlencode(said, quote_via=quote, safe="/:,")

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> StackLink | None:
        """What an address asks for, None where it asks for no stack. Raises `StackError`."""
        if not (listed := parameters.get("stack", "")):
            return None
        adapters = tuple(map(_adapter, filter(None, listed.split(","))))
        if len(adapters) > MAX_SLOTS:
            raise StackError(
                f"The link names {len(adapters)} adapters, and a stack holds {MAX_SLOTS}."
            )
        combine = parameters.get("combine", "sum")
        if combine not in COMBINATIONS:
            raise StackError(
                f"The link combines by “{combine[:20]}”. It can be {', '.join(COMBINATIONS)}.",
                field="combine",
            )
        return cls(adapters, parameters.get("prompt", "")[:MAX_PROMPT], _seed(parameters), combine)


def link_to(
    rows: Sequence[Row], entries: Mapping[str, Entry], prompt: str, seed: int | None, combine: str
) -> tuple[StackLink, list[Entry]]:
    """The link to a stack; and what cannot be in it, since nobody else has it."""
    on = [(entries[row.name], row.weight) for row in rows if row.name in entries]
    named = tuple((name, weight) for entry, weight in on if (name := _public_name(entry)))
    return (
        StackLink(named, prompt, seed, combine),
        [entry for entry, _ in on if not _public_name(entry)],
    )


def _public_name(entry: Entry) -> str:
    if not entry.own:
        return entry.name
    return entry.description.source if entry.description else ""


def _adapter(text: str) -> tuple[str, float]:
    name, _, weight = text.partition(":")
    try:
        value = float(weight or 1)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_WEIGHT:
        raise StackError(
            f"The link gives “{unquote(name)[:40]}” the weight “{weight[:20]}”. It is a number "
            f"between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g}.",
            field="weight",
        )
    return unquote(name), value


def _seed(parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("seed", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:20]) < SEEDS):
        raise StackError(f"The link’s seed “{text[:20]}” is no whole number below {SEEDS}.")
    return int(text)
