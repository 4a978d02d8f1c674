"""Charts as HTML and SVG.

A chart is a ``<figure>`` to be put into any page. Its text is as large on a phone as on a desk and
only the plot grows with the column; ink is the page's own (``currentColor``), so that it is meant
on dark and on light. The three colours are CSS variables that a page may set: ``--chart-subject``,
``--chart-prompt`` and ``--chart-other``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from personalization.evaluation.svg import Plot, figure, nice_above, percent, round_ticks, svg_text
from personalization.training.run import LossRow

SUBJECT = "var(--chart-subject,#6366f1)"  # indigo; each has 3:1 at least on white and on night
PROMPT = "var(--chart-prompt,#0d9488)"  # teal
OTHER = "var(--chart-other,#d97706)"  # amber
SERIES = (SUBJECT, PROMPT, OTHER)

Interval = tuple[float, float, float]  # mean, low, high

MAX_DOTS = 400
WHOLE_MODEL = 3_400_000_000  # bytes of a Stable Diffusion 1.x fine-tune


@dataclass(frozen=True)
class Mark:
    """A result on the spectrum: what it is called, its file's size and what it cost."""

    name: str
    method: str  # word, lora, loha, lokr, dora, full
    size: int  # bytes
    seconds: float | None = None
    changed: str = ""  # what of the model, in words


def size_words(size: float) -> str:
    """Bytes as a person says them: "3 KB", "1.4 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= 0.9995 * scale:
            number = size / scale
            digits = f"{number:.1f}".removesuffix(".0") if number < 9.95 else f"{number:.0f}"
            return f"{digits} {unit}"
    return f"{size:.0f} bytes"


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """An exponential average over about `window` values, without the bias of its start.

    It looks backwards only: what has been drawn stays when the run goes on.
    """
    keep, total, weight, out = 1 - 1 / max(1, window), 0.0, 0.0, []
    for value in values:
        total = keep * total + value
        weight = keep * weight + 1
        out.append(total / weight)
    return out


def loss_curve(rows: Sequence[LossRow], steps: int, previews: Iterable[int] = ()) -> str:
    """The loss of each step as a faint dot, and its running average as a line.

    `steps` are those of the whole run, so that the line grows to the right; `previews` are the
    steps after which pictures were drawn. The class's loss is drawn where the run has a prior.
    """
    window = max(5, steps // 12)
    losses = [row.loss for row in rows if math.isfinite(row.loss)]
    ceiling = sorted(losses)[int(0.98 * (len(losses) - 1))] if losses else 1.0
    # A single step that explodes is drawn at the edge, and does not lift the line for a while.
    line = smoothed([min(loss, 3 * ceiling) for loss in losses], window)
    top = max([ceiling, *line]) or 1.0
    plot = Plot((0, max(steps, 1)), (0, nice_above(top)), height=168)
    y_ticks = round_ticks(0, plot.y[1], 4) if line else [(0.0, "0")]
    at = [row.step for row in rows if math.isfinite(row.loss)]
    every = max(1, math.ceil(len(losses) / MAX_DOTS))
    parts = [
        plot.frame(round_ticks(0, max(steps, 1), 4), y_ticks, "step", "loss"),
        *(
            plot.vertical(step, dashed=True) + plot.mark(step, -5)
            for step in previews
            if step <= steps
        ),
        plot.inside(
            plot.dots(at[::every], losses[::every], SUBJECT),
            plot.line(at, line, SUBJECT),
        ),
    ]
    legend = [("dot", SUBJECT, "each step"), ("line", SUBJECT, f"average of about {window} steps")]
    prior = [(r.step, r.prior_loss) for r in rows if r.prior_loss is not None]
    if prior:
        class_line = smoothed([loss for _, loss in prior], window)
        parts.append(plot.inside(plot.line([step for step, _ in prior], class_line, PROMPT)))
        legend.append(("line", PROMPT, "the class, average"))
    if previews:
        legend.append(("triangle", "currentColor", "preview"))
    if line:
        parts.append(plot.dot(at[-1], line[-1], SUBJECT))
    said = f"Loss {line[-1]:.3f} after {at[-1]} of {steps} steps." if line else "No steps yet."
    return figure(
        plot.svg(said, parts),
        legend,
        "The dots scatter because every step draws its own noise level, and more noise is harder "
        "to remove. Only the line says whether it learns.",
    )


def fidelity_chart(
    strengths: Sequence[float],
    subject: Sequence[Interval],
    prompt: Sequence[Interval],
    *,
    base_subject: float | None = None,
    balance: float | None = None,
) -> str:
    """Subject and prompt fidelity over the adapter's strength, as shares of their references.

    Every interval is (mean, low, high) with 1 for the reference: for the subject the real photos
    among themselves, for the prompt the untouched base. `base_subject` is how much of the subject
    the base has by chance; `balance` the recommended strength.
    """
    values = [v for interval in (*subject, *prompt) for v in interval] + [base_subject or 1.0]
    low = min(0.5, math.floor(min(values) * 10) / 10)
    high = max(1.1, math.ceil(max(values) * 10) / 10)
    margin = 0.04 * (max(strengths) - min(strengths) or 1)
    plot = Plot((min(strengths) - margin, max(strengths) + margin), (low, high), height=196)
    ticks = [(s, f"{s:g}") for s in strengths]
    shares = [(value, f"{value:.0%}") for value, _ in round_ticks(low, high, 5)]
    parts = [plot.frame(ticks, shares, "strength", "share of the reference")]
    if balance is not None:
        parts.append(plot.vertical(balance, dashed=False))
        side = "end" if balance > sum(plot.x) / 2 else "start"
        parts.append(plot.note(balance, high, f"balance {balance:g}", side, 14))
    parts.append(plot.horizontal(1.0, "currentColor"))
    legend = [("line", SUBJECT, "subject"), ("line", PROMPT, "prompt")]
    if base_subject is not None:
        parts.append(plot.horizontal(base_subject, SUBJECT))
        legend.append(("dash", SUBJECT, "subject, untouched base"))
    legend.append(("dash", "currentColor", "100%: real photos, untouched base"))
    for series, colour in ((prompt, PROMPT), (subject, SUBJECT)):
        means = [mean for mean, _, _ in series]
        parts.append(
            plot.inside(
                plot.band(strengths, [v[1] for v in series], [v[2] for v in series], colour),
                plot.line(strengths, means, colour),
            )
        )
        parts += [plot.dot(x, y, colour) for x, y in zip(strengths, means, strict=True)]
    said = "Subject and prompt fidelity at strengths " + ", ".join(f"{s:g}" for s in strengths)
    return figure(
        plot.svg(said, parts),
        legend,
        "Bands are 95% intervals: where two bands overlap, call it no difference.",
    )


def trade_off(points: Sequence[tuple[str, str, Interval, Interval]]) -> str:
    """Ways of teaching by what they kept and what they learned: up and to the right is better.

    A point is (name, method, prompt fidelity, subject fidelity), each fidelity (mean, low, high) as
    a share of its reference: for the prompt the untouched base, for the subject the real photos.
    """
    x = _reach([value for _, _, prompt, _ in points for value in prompt])
    y = _reach([value for _, _, _, subject in points for value in subject])
    plot = Plot(x, y, height=196)
    x_ticks, y_ticks = ([(v, f"{v:.0%}") for v, _ in round_ticks(*axis, 5)] for axis in (x, y))
    parts = [
        plot.frame(x_ticks, y_ticks, "prompt fidelity", "subject fidelity"),
        plot.vertical(1.0, dashed=True),
        plot.horizontal(1.0, "currentColor"),
    ]
    legend = []
    for number, (name, method, prompt, subject) in enumerate(points, 1):
        colour = _method_colour(method)
        parts.append(
            plot.inside(
                plot.line(prompt[1:], [subject[0]] * 2, colour),
                plot.line([prompt[0]] * 2, subject[1:], colour),
            )
        )
        across = percent(100 * plot.across(prompt[0]))
        parts.append(_disc(across, plot.down(subject[0]), number, colour))
        legend.append((str(number), colour, name))
    return figure(
        plot.svg("Subject fidelity over prompt fidelity of each.", parts),
        legend,
        "Up: more like the photos. Right: closer to the prompt. Crosses are 95% intervals.",
    )


def spectrum(results: Sequence[Mark] = (), *, whole: int = WHOLE_MODEL) -> str:
    """From a word to the whole model, by file size on a log scale, with `results` placed on it.

    `whole` is the size of the base's own full fine-tune in bytes; an adapter of low rank lies
    between a thousandth and a twelfth of it.
    """
    low, high = whole / 1000, whole / 12
    zones = (
        (
            "textual_inversion",
            OTHER,
            "A word",
            "kilobytes",
            "nothing changes",
            1e3,
            min(30e3, low / 3),
        ),
        ("low rank", SUBJECT, "A LoRA", _unit(high), "a thin layer", low, high),
        ("full", PROMPT, "Full", _unit(whole), "everything", whole / 2, whole * 2),
    )
    plot = Plot((3, math.log10(whole * 2)), (0, 1), height=112)

    def at(size: float) -> str:
        return percent(min(100.0, max(0.0, 100 * plot.across(math.log10(max(size, 1))))))

    rail = 86
    parts = [
        f'<line x1="0" x2="100%" y1="{rail}" y2="{rail}" stroke="currentColor" '
        f'stroke-opacity=".18" stroke-width="2"/>'
    ]
    for (kind, colour, name, size, what, start, end), (x, anchor) in zip(
        zones,
        (("0", "start"), (at(math.sqrt(low * high)), "middle"), ("100%", "end")),
        strict=True,
    ):
        parts.append(
            f'<line x1="{at(start)}" x2="{at(end)}" y1="{rail}" y2="{rail}" stroke="{colour}" '
            'stroke-width="6" stroke-linecap="round"/>'
        )
        parts.append(_layers(kind, colour, x, anchor))
        parts.append(svg_text(x, 36, name, anchor, weight=600))
        parts.append(svg_text(x, 51, size, anchor, faint=True, small=True))
        parts.append(svg_text(x, 65, what, anchor, faint=True, small=True))
    for exponent in range(3, 12, 3):
        if 10**exponent <= whole * 2:
            anchor = "start" if exponent == 3 else "middle"
            parts.append(
                svg_text(
                    at(10**exponent), 108, size_words(10**exponent), anchor, faint=True, small=True
                )
            )
    legend = []
    for number, mark in enumerate(results, 1):
        colour = _method_colour(mark.method)
        parts.append(_disc(at(mark.size), rail, number, colour))
        cost = "" if mark.seconds is None else f", {mark.seconds:.0f} s"
        said = f", {mark.changed}" if mark.changed else ""
        legend.append((str(number), colour, f"{mark.name}: {size_words(mark.size)}{said}{cost}"))
    said = "From a word (kilobytes) over a LoRA (megabytes) to the whole model (gigabytes)."
    return figure(plot.svg(said, parts, left=4, right=4, bottom=8), legend, "")


def heat_map(names: Sequence[str], matrix: Sequence[Sequence[float]], caption: str = "") -> str:
    """How far each pair of adapters overlaps, 0 to 1, as a table whose cells are shaded.

    `matrix` is symmetric; its diagonal is not shown.
    """
    cell = "padding:8px 4px;border-radius:4px;border:0;"
    head = "".join(
        f'<th scope="col" style="{cell}text-align:center;vertical-align:bottom;font-weight:400">'
        f"{_clamped(name)}</th>"
        for name in names
    )
    body = []
    for i, name in enumerate(names):
        cells = []
        for j, value in enumerate(matrix[i]):
            value = min(1.0, max(0.0, float(value)))
            shade = f"{4 + 62 * value:.0f}%"
            cells.append(
                f'<td style="{cell}"></td>'
                if i == j
                else f'<td style="{cell}text-align:center;font-variant-numeric:tabular-nums;'
                f'background:color-mix(in srgb,{SUBJECT} {shade},transparent)">{value:.2f}</td>'
            )
        body.append(
            f'<tr style="border:0"><th scope="row" style="{cell}text-align:right;'
            f'padding-right:8px;font-weight:400">{_clamped(name)}</th>' + "".join(cells) + "</tr>"
        )
    table = (
        '<table style="width:100%;table-layout:fixed;border-collapse:separate;border-spacing:2px;'
        'border:0;font-size:12px;margin:0"><thead><tr style="border:0">'
        f'<td style="{cell}"></td>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )
    return figure(table, [], caption)


def layer_map(layers: Sequence[tuple[str, str, float, float]], caption: str = "") -> str:
    """Where in a model two adapters meet: a column for each layer, in the model's order.

    layers: (part of the model, layer, cosine of the two changes, share of their directions in
    common), in the model's order. Above, the cosine: one colour where they push the same way,
    another where they pull apart. Below, the shared directions.
    """
    plot = Plot((0, max(1, len(layers))), (0, 1), height=44)
    wide = 100 / max(1, len(layers))
    cells, heads, start = [], [], 0
    for number, (part, name, cosine, shared) in enumerate(layers):
        for y, value, colour in (
            (0, cosine, SUBJECT if cosine >= 0 else OTHER),
            (23, shared, PROMPT),
        ):
            cells.append(
                f'<rect x="{percent(number * wide)}" y="{y}" width="{percent(wide)}" height="21" '
                f'fill="{colour}" fill-opacity="{0.05 + 0.95 * min(1.0, abs(value)):.2f}">'
                f"<title>{escape(name)}: cosine {cosine:.2f}, shared {shared:.2f}</title></rect>"
            )
        if number + 1 == len(layers) or layers[number + 1][0] != part:
            middle = percent((start + number + 1) / 2 * wide)
            heads.append(svg_text(middle, 58, part, "middle", faint=True, small=True))
            if start:
                heads.append(plot.vertical(start, dashed=False))
            start = number + 1
    rows = svg_text("-8", 15, "cosine", "end", faint=True, small=True)
    rows += svg_text("-8", 38, "shared", "end", faint=True, small=True)
    said = f"Cosine and shared directions of two adapters in {len(layers)} layers."
    legend = [
        ("square", SUBJECT, "push the same way"),
        ("square", OTHER, "pull apart"),
        ("square", PROMPT, "use the same directions"),
    ]
    return figure(plot.svg(said, [*cells, rows, *heads], left=48, bottom=24), legend, caption)


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """An axis that holds shares and their reference, in tenths."""
    return math.floor(min(0.9, *values) * 10) / 10, math.ceil(max(1.1, *values) * 10) / 10


def _disc(x: str, y: float, number: int, colour: str) -> str:
    """A numbered result; the number is explained in the legend."""
    return (
        f'<circle cx="{x}" cy="{y:.1f}" r="8" fill="{colour}" '
        'stroke="var(--body-background-fill,Canvas)" stroke-width="2"/>'
        f'<text x="{x}" y="{y + 3.5:.1f}" text-anchor="middle" fill="#fff" '
        f'font-size="10" font-weight="600">{number}</text>'
    )


def _clamped(text: str) -> str:
    """At most two lines; the whole of it on hover."""
    return (
        f'<span title="{escape(text)}" style="display:-webkit-box;-webkit-box-orient:vertical;'
        f'-webkit-line-clamp:2;overflow:hidden;overflow-wrap:anywhere;line-height:1.25">'
        f"{escape(text)}</span>"
    )


def _layers(kind: str, colour: str, x: str, anchor: str) -> str:
    """Four layers of a model, coloured as far as this way of teaching changes them."""
    left = {"start": 0, "middle": -20, "end": -40}[anchor]
    parts = []
    for row in range(4):
        y = row * 5
        filled = kind == "full"
        parts.append(
            f'<rect x="{left}" y="{y}" width="40" height="3.4" rx="1.2" '
            f'fill="{colour if filled else "currentColor"}" '
            f'fill-opacity="{1 if filled else 0.16}"/>'
        )
        if kind == "low rank":
            parts.append(
                f'<rect x="{left + 33}" y="{y}" width="7" height="3.4" rx="1.2" fill="{colour}"/>'
            )
    if kind == "textual_inversion":
        parts.append(f'<circle cx="{left + 48}" cy="9.2" r="3.2" fill="{colour}"/>')
    return f'<svg x="{x}" y="0" width="1" height="1" overflow="visible">{"".join(parts)}</svg>'


def _method_colour(method: str) -> str:
    return {"textual_inversion": OTHER, "full": PROMPT}.get(method, SUBJECT)


def _unit(size: float) -> str:
    return "gigabytes" if size >= 1e9 else "megabytes" if size >= 1e6 else "kilobytes"
