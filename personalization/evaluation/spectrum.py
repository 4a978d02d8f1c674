"""The spectrum: from a word to the whole model, by what each changes and what its file weighs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from personalization.evaluation.svg import (
    FAINT,
    OTHER,
    PROMPT,
    SMALL,
    STRONG,
    SUBJECT,
    Margin,
    Plot,
    disc,
    figure,
    percent,
    svg_text,
)
from personalization.files import size_words

WHOLE_MODEL = 3_400_000_000  # bytes of a Stable Diffusion 1.x fine-tune
RAIL = 86  # pixels under the top


@dataclass(frozen=True)
class Mark:
    """A result on the spectrum: what it is called, its file's size and what it cost."""

    name: str
    method: str  # textual_inversion, lora, loha, lokr, dora, full
    size: int  # bytes
    seconds: float | None = None
    changed: str = ""  # what of the model, in words

    @property
    def caption(self) -> str:
        """For the legend: name, size, what it changed, time."""
        changed = f", {self.changed}" if self.changed else ""
        cost = "" if self.seconds is None else f", {self.seconds:.0f} s"
        return f"{self.name}: {size_words(self.size)}{changed}{cost}"


@dataclass(frozen=True)
class _Zone:
    """Where on the spectrum a way of teaching lies, and what is said of it."""

    kind: str  # textual_inversion, low rank, full
    title: str
    unit: str
    changes: str
    low: float  # bytes
    high: float
    anchor: str  # start, middle, end
    x: str


def spectrum(results: Sequence[Mark] = (), *, whole: int = WHOLE_MODEL) -> str:
    """From a word to the whole model, by file size on a log scale, with `results` placed on it.

    `whole` is the size of the base's own full fine-tune in bytes.
    """
    plot = Plot((3, math.log10(whole * 2)), (0, 1), 112, Margin(left=4, right=4, bottom=8))
    parts = [
        f'<line x1="0" x2="100%" y1="{RAIL}" y2="{RAIL}" stroke="currentColor" '
        f'stroke-opacity=".18" stroke-width="2"/>',
        *(_drawn(plot, zone) for zone in _zones(plot, whole)),
        *_scale(plot, whole),
    ]
    legend = []
    for number, mark in enumerate(results, 1):
        colour = method_colour(mark.method)
        parts.append(disc(_at(plot, mark.size), RAIL, number, colour))
        legend.append((str(number), colour, mark.caption))
    label = "From a word (kilobytes) over a LoRA (megabytes) to the whole model (gigabytes)."
    return figure(plot.svg(label, parts), legend, "")


def method_colour(method: str) -> str:
    """The colour of a way of teaching, wherever it is drawn."""
    return {"textual_inversion": OTHER, "full": PROMPT}.get(method, SUBJECT)


def _zones(plot: Plot, whole: int) -> tuple[_Zone, ...]:
    """An adapter of low rank lies between a thousandth and a twelfth of the whole model."""
    low, high = whole / 1000, whole / 12
    word = min(30e3, low / 3)
    middle = _at(plot, math.sqrt(low * high))
    return (
        _Zone("textual_inversion", "A word", "kilobytes", "nothing changes",
              1e3, word, "start", "0"),
        _Zone("low rank", "A LoRA", _unit(high), "a thin layer", low, high, "middle", middle),
        _Zone("full", "Full", _unit(whole), "everything", whole / 2, whole * 2, "end", "100%"),
    )  # fmt: skip


def _drawn(plot: Plot, zone: _Zone) -> str:
    """A stretch of the rail, and above it what is changed there, as a drawing and in words."""
    colour = method_colour(zone.kind)
    return (
        f'<line x1="{_at(plot, zone.low)}" x2="{_at(plot, zone.high)}" y1="{RAIL}" y2="{RAIL}" '
        f'stroke="{colour}" stroke-width="6" stroke-linecap="round"/>'
        + _layers(zone, colour)
        + svg_text(zone.x, 36, zone.title, zone.anchor, STRONG)
        + svg_text(zone.x, 51, zone.unit, zone.anchor, FAINT + SMALL)
        + svg_text(zone.x, 65, zone.changes, zone.anchor, FAINT + SMALL)
    )


def _scale(plot: Plot, whole: int) -> list[str]:
    """The sizes under the rail."""
    return [
        svg_text(
            _at(plot, 10**exponent),
            108,
            size_words(10**exponent),
            "start" if exponent == 3 else "middle",
            FAINT + SMALL,
        )
        for exponent in range(3, 12, 3)
        if 10**exponent <= whole * 2
    ]


def _layers(zone: _Zone, colour: str) -> str:
    """Four layers of a model, coloured as far as this way of teaching changes them."""
    left = {"start": 0, "middle": -20, "end": -40}[zone.anchor]
    ink = (colour, 1) if zone.kind == "full" else ("currentColor", 0.16)
    parts = []
    for y in range(0, 20, 5):
        parts.append(
            f'<rect x="{left}" y="{y}" width="40" height="3.4" rx="1.2" fill="{ink[0]}" '
            f'fill-opacity="{ink[1]}"/>'
        )
        if zone.kind == "low rank":
            parts.append(
                f'<rect x="{left + 33}" y="{y}" width="7" height="3.4" rx="1.2" fill="{colour}"/>'
            )
    if zone.kind == "textual_inversion":
        parts.append(f'<circle cx="{left + 48}" cy="9.2" r="3.2" fill="{colour}"/>')
    return f'<svg x="{zone.x}" y="0" width="1" height="1" overflow="visible">{"".join(parts)}</svg>'


def _at(plot: Plot, size: float) -> str:
    """Where a file of so many bytes lies."""
    return percent(min(100.0, max(0.0, 100 * plot.across(math.log10(max(size, 1))))))


def _unit(size: float) -> str:
    return "gigabytes" if size >= 1e9 else "megabytes" if size >= 1e6 else "kilobytes"
