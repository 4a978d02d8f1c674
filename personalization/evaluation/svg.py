"""What charts are drawn of: a plot's frame and lines, a legend, words, and round numbers.

SVG whose text keeps its size while the plot grows with its column; ink is the page's own. The three
colours are CSS variables that a page may set: ``--chart-subject``, ``--chart-prompt`` and
``--chart-other``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

SUBJECT = "var(--chart-subject,#6366f1)"  # indigo; each has 3:1 at least on white and on night
PROMPT = "var(--chart-prompt,#0d9488)"  # teal
OTHER = "var(--chart-other,#d97706)"  # amber

# How a text looks, as attributes; they add up.
FAINT = ' fill-opacity=".7"'
SMALL = ' font-size="11"'
STRONG = ' font-weight="600"'

Legend = Sequence[tuple[str, str, str]]  # (key, colour, words); see `legend_key`


@dataclass(frozen=True)
class Margin:
    """Pixels around a plot, for what stands beside it."""

    left: int = 44
    right: int = 14
    bottom: int = 42

    @property
    def top(self) -> int:
        """As much as an axis' name needs, where there are axes."""
        return 24 if self.bottom > 20 else 4


@dataclass(frozen=True)
class Plot:
    """A plot as wide as its column: across in percent, down in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int
    margin: Margin = Margin()

    def across(self, x: float) -> float:
        """The share of the width at which x lies."""
        return (x - self.x[0]) / (self.x[1] - self.x[0])

    def down(self, y: float) -> float:
        """The pixels under the top at which y lies."""
        return self.height * (1 - (y - self.y[0]) / (self.y[1] - self.y[0]))

    def frame(
        self,
        x_ticks: Iterable[tuple[float, str]],
        y_ticks: Iterable[tuple[float, str]],
        x_name: str,
        y_name: str,
    ) -> str:
        """Thin lines across, labels beside and under them, and what they count."""
        parts = []
        for value, label in y_ticks:
            y = self.down(value)
            strong = ".35" if value == self.y[0] else ".1"
            parts.append(
                f'<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
                f'stroke-opacity="{strong}"/>' + svg_text("-8", y + 4, label, "end", FAINT)
            )
        for value, label in x_ticks:
            x = percent(100 * self.across(value))
            parts.append(svg_text(x, self.height + 18, label, "middle", FAINT))
        parts.append(svg_text("50%", self.height + 35, x_name, "middle"))
        parts.append(svg_text("-36", -12, y_name, "start"))
        return "".join(parts)

    def inside(self, *parts: str) -> str:
        """Shapes in plot coordinates (0 to 100 both ways), cut at the plot's edge."""
        return (
            f'<svg width="100%" height="{self.height}" viewBox="0 0 100 100" '
            f'preserveAspectRatio="none">{"".join(parts)}</svg>'
        )

    def _points(self, xs: Sequence[float], ys: Sequence[float]) -> list[str]:
        return [
            f"{100 * self.across(x):.2f} {100 * self.down(y) / self.height:.2f}"
            for x, y in zip(xs, ys, strict=True)
        ]

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str) -> str:
        """A line through the points; nothing where there are none."""
        if not xs:
            return ""
        return (
            f'<path d="M{"L".join(self._points(xs, ys))}" fill="none" stroke="{colour}" '
            'stroke-width="2" stroke-linejoin="round" stroke-linecap="round" '
            'vector-effect="non-scaling-stroke"/>'
        )

    def dots(self, xs: Sequence[float], ys: Sequence[float], colour: str) -> str:
        """Many small dots in one path: strokes of no length with round ends."""
        path = "".join(f"M{point}h0" for point in self._points(xs, ys))
        return (
            f'<path d="{path}" stroke="{colour}" stroke-opacity=".42" stroke-width="3.5" '
            'stroke-linecap="round" vector-effect="non-scaling-stroke"/>'
        )

    def band(
        self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str
    ) -> str:
        """The area between two lines."""
        points = self._points(xs, highs) + self._points(xs, lows)[::-1]
        return f'<path d="M{"L".join(points)}Z" fill="{colour}" fill-opacity=".16"/>'

    def dot(self, x: float, y: float, colour: str) -> str:
        """One point."""
        return (
            f'<circle cx="{percent(100 * self.across(x))}" cy="{self.down(y):.1f}" r="3.5" '
            f'fill="{colour}"/>'
        )

    def vertical(self, x: float, *, dashed: bool) -> str:
        """A line from top to bottom."""
        dash = 'stroke-dasharray="2 4" stroke-opacity=".3"' if dashed else 'stroke-opacity=".5"'
        at = percent(100 * self.across(x))
        return f'<line x1="{at}" x2="{at}" y1="0" y2="{self.height}" stroke="currentColor" {dash}/>'

    def horizontal(self, y: float, colour: str) -> str:
        """A dashed line from side to side."""
        at = f"{self.down(y):.1f}"
        return (
            f'<line x1="0" x2="100%" y1="{at}" y2="{at}" stroke="{colour}" '
            'stroke-dasharray="5 4" stroke-opacity=".8"/>'
        )

    def mark(self, x: float, y: float) -> str:
        """A small triangle that points down at `x`, `y` pixels under the top."""
        at = percent(100 * self.across(x))
        return (
            f'<svg x="{at}" y="{y}" width="1" height="1" overflow="visible">'
            '<path d="M-3.5-3.5h7L0 2.5z" fill="currentColor" fill-opacity=".55"/></svg>'
        )

    def note(self, x: float, text: str) -> str:
        """`text` beside the vertical at x, at the top, on the side where there is room."""
        right = x <= sum(self.x) / 2
        words = svg_text("6", 14, text, "start") if right else svg_text("-6", 14, text, "end")
        return (
            f'<svg x="{percent(100 * self.across(x))}" y="0.0" width="1" height="1" '
            f'overflow="visible">{words}</svg>'
        )

    def svg(self, label: str, parts: Iterable[str]) -> str:
        """The whole drawing; `label` says it to whoever does not see it."""
        m = self.margin
        return (
            f'<svg role="img" aria-label="{escape(label)}" height="{self.height}" '
            f'style="display:block;overflow:visible;width:calc(100% - {m.left + m.right}px);'
            f"margin:{m.top}px {m.right}px {m.bottom}px {m.left}px;font-family:inherit;"
            f'font-size:12px;fill:currentColor">{"".join(parts)}</svg>'
        )


def figure(drawing: str, legend: Legend, caption: str) -> str:
    """A drawing with its legend and its caption, to be put into any page."""
    items = "".join(
        f'<span style="display:inline-flex;align-items:center;gap:6px">{legend_key(kind, colour)}'
        f"<span>{escape(text)}</span></span>"
        for kind, colour, text in legend
    )
    row = (
        '<div style="display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12px;line-height:1.4">'
        f"{items}</div>"
        if legend
        else ""
    )
    words = (
        '<figcaption style="font-size:12px;line-height:1.45;opacity:.72;margin-top:6px">'
        f"{escape(caption)}</figcaption>"
        if caption
        else ""
    )
    return (
        '<figure class="chart" style="margin:0;font-family:inherit;color:inherit">'
        f"{drawing}{row}{words}</figure>"
    )


def legend_key(kind: str, colour: str) -> str:
    """What stands before a legend's words; digits become a numbered disc."""
    if kind.isdigit():
        return (
            f'<span style="flex:none;background:{colour};color:#fff;border-radius:50%;width:16px;'
            'height:16px;font-size:10px;font-weight:600;line-height:16px;text-align:center">'
            f"{kind}</span>"
        )
    shape = {
        "dot": f'<circle cx="8" cy="5" r="2.5" fill="{colour}" fill-opacity=".45"/>',
        "line": f'<path d="M0 5h16" stroke="{colour}" stroke-width="2.5"/>',
        "dash": f'<path d="M0 5h16" stroke="{colour}" stroke-width="1.5" stroke-dasharray="5 3"/>',
        "square": f'<rect x="3" width="10" height="10" rx="2" fill="{colour}"/>',
        "triangle": f'<path d="M4 2h8L8 8z" fill="{colour}" fill-opacity=".55"/>',
    }[kind]
    look = 'width="16" height="10" aria-hidden="true" style="flex:none;display:block"'
    return f"<svg {look}>{shape}</svg>"


def svg_text(x: str, y: float, text: str, anchor: str, look: str = "") -> str:
    """Words at a place; `look` is FAINT, SMALL, STRONG, or several of them."""
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}"{look}>{escape(text)}</text>'


def disc(x: str, y: float, number: int, colour: str) -> str:
    """A numbered result; the number is explained in the legend."""
    return (
        f'<circle cx="{x}" cy="{y:.1f}" r="8" fill="{colour}" '
        'stroke="var(--body-background-fill,Canvas)" stroke-width="2"/>'
        f'<text x="{x}" y="{y + 3.5:.1f}" text-anchor="middle" fill="#fff" '
        f'font-size="10" font-weight="600">{number}</text>'
    )


def round_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Round values from low to high, about as many as asked, each with its label."""
    raw = (high - low) / max(1, about)
    scale = 10 ** math.floor(math.log10(raw))
    step = next(s for s in (1, 2, 2.5, 5, 10) if s * scale >= raw * 0.999) * scale
    first = math.ceil(low / step - 1e-9)
    values = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{value:.4g}") for value in values]


def nice_above(value: float) -> float:
    """The next round number, where an axis may end."""
    scale = 10 ** math.floor(math.log10(value))
    return float(next(s for s in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if s * scale >= value) * scale)


def percent(value: float) -> str:
    """As SVG wants it: of the width."""
    return f"{value:.2f}%"
