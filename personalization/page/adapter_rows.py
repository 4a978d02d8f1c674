"""The adapters on the stack tab's list, as the browser keeps them and as a stack has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from personalization.adapters.adapter import Adapter
from personalization.stacking.stack import MAX_WEIGHT, Slot, Stack, check_count
from personalization.workspaces.library import Entry, Library

from .loaded import spec_of
from .stacks import stack_of


class Row(NamedTuple):
    """An adapter on the list, as the browser keeps it."""

    name: str  # in the library
    weight: float
    text: float | None = None  # of its text-encoder part, where that differs
    blocks: dict[str, float] | None = None  # see `Slot`
    region: dict[str, str] | None = None  # "place" and "prompt", as `places_panel` has them


def as_json(rows: Iterable[Row]) -> list[list[Any]]:
    """The rows as the browser keeps them."""
    return [list(row) for row in rows]


def listed(library: Library, rows: Sequence[Row], **how: Any) -> Stack:
    """The rows as a stack, read and not yet checked. Raises `AdapterError` or `StackError`."""
    check_count(len(rows))
    slots = (Slot(library.get(r.name), r.weight, r.text, r.blocks or {}, r.name) for r in rows)
    return Stack(tuple(slots), **how)


def stacked(base: str, library: Library, rows: Sequence[Row], **how: Any) -> Stack:
    """The same, checked against the base: one that is for another family is refused."""
    return listed(library, rows, **how).check(spec_of(base))


def check_for(base: str, entry: Entry, weight: float = 1.0) -> None:
    """Refuse an adapter that is for other bases. Raises `AdapterError` or `StackError`."""
    if entry.description:
        stack_of(base, [(entry.name, Adapter(entry.description, {}), weight)])


def receive(base: str, library: Library, path: Path, title: str, source: str = "") -> Entry:
    """A stranger's file or folder into the library, read whole before anything is kept.

    `source`: where anyone can have it from.
    """
    from personalization.adapters import formats

    stack_of(base, [(title, Adapter(formats.describe(path), {}), 1.0)])
    return library.add(formats.read(path).described(source=source), title)


def slider(entry: Entry, weight: float) -> dict[str, Any]:
    """A learned word is there or not; of anything else there can be more, less, or its opposite."""
    if entry.description and entry.description.method == "textual_inversion":
        return gr.update(minimum=0, maximum=1, step=1, value=float(bool(weight)))
    return gr.update(minimum=-MAX_WEIGHT, maximum=MAX_WEIGHT, step=0.05, value=weight)
