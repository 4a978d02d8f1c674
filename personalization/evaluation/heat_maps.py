"""How two or more adapters meet in a model, as shaded cells."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from personalization.evaluation.svg import (
    FAINT,
    OTHER,
    PROMPT,
    SMALL,
    SUBJECT,
    Margin,
    Plot,
    figure,
    percent,
    svg_text,
)

_CELL = "padding:8px 4px;border-radius:4px;border:0;"


def heat_map(names: Sequence[str], matrix: Sequence[Sequence[float]], caption: str = "") -> str:
    """How far each pair of adapters overlaps, 0 to 1, as a table whose cells are shaded.

    `matrix` is symmetric; its diagonal is not shown.
    """
    head = "".join(
        f'<th scope="col" style="{_CELL}text-align:center;vertical-align:bottom;font-weight:400">'
        f"{_clamped(name)}</th>"
        for name in names
    )
    body = "".join(
        f'<tr style="border:0"><th scope="row" style="{_CELL}text-align:right;'
        f'padding-right:8px;font-weight:400">{_clamped(name)}</th>'
        + "".join(_cell(None if i == j else value) for j, value in enumerate(matrix[i]))
        + "</tr>"
        for i, name in enumerate(names)
    )
    table = (
        '<table style="width:100%;table-layout:fixed;border-collapse:separate;border-spacing:2px;'
        'border:0;font-size:12px;margin:0"><thead><tr style="border:0">'
        f'<td style="{_CELL}"></td>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return figure(table, [], caption)


def layer_map(layers: Sequence[tuple[str, str, float, float]], caption: str = "") -> str:
    """Where in a model two adapters meet: a column for each layer, in the model's order.

    layers: (part of the model, layer, cosine of the two changes, share of their directions in
    common), in the model's order. Above, the cosine: one colour where they push the same way,
    another where they pull apart. Below, the shared directions.
    """
    plot = Plot((0, max(1, len(layers))), (0, 1), 44, Margin(left=48, bottom=24))
    columns = [_column(number, layer, len(layers)) for number, layer in enumerate(layers)]
    rows = svg_text("-8", 15, "cosine", "end", FAINT + SMALL)
    rows += svg_text("-8", 38, "shared", "end", FAINT + SMALL)
    label = f"Cosine and shared directions of two adapters in {len(layers)} layers."
    legend = [
        ("square", SUBJECT, "push the same way"),
        ("square", OTHER, "pull apart"),
        ("square", PROMPT, "use the same directions"),
    ]
    parts = [*columns, rows, *_part_names(plot, [part for part, *_ in layers])]
    return figure(plot.svg(label, parts), legend, caption)


def _column(number: int, layer: tuple[str, str, float, float], count: int) -> str:
    """One layer: its cosine above, the shared directions below."""
    _, name, cosine, shared = layer
    width = 100 / count
    return "".join(
        f'<rect x="{percent(number * width)}" y="{y}" width="{percent(width)}" height="21" '
        f'fill="{colour}" fill-opacity="{0.05 + 0.95 * min(1.0, abs(value)):.2f}">'
        f"<title>{escape(name)}: cosine {cosine:.2f}, shared {shared:.2f}</title></rect>"
        for y, value, colour in (
            (0, cosine, SUBJECT if cosine >= 0 else OTHER),
            (23, shared, PROMPT),
        )
    )


def _part_names(plot: Plot, parts: Sequence[str]) -> list[str]:
    """Each part of the model under its columns, and a line where the next one begins."""
    drawn, start = [], 0
    for number, part in enumerate(parts, 1):
        if number == len(parts) or parts[number] != part:
            middle = percent(50 * (start + number) / len(parts))
            drawn.append(svg_text(middle, 58, part, "middle", FAINT + SMALL))
            if start:
                drawn.append(plot.vertical(start, dashed=False))
            start = number
    return drawn


def _cell(value: float | None) -> str:
    if value is None:
        return f'<td style="{_CELL}"></td>'
    value = min(1.0, max(0.0, float(value)))
    return (
        f'<td style="{_CELL}text-align:center;font-variant-numeric:tabular-nums;'
        f"background:color-mix(in srgb,{SUBJECT} {4 + 62 * value:.0f}%,transparent)"
        f'">{value:.2f}</td>'
    )


def _clamped(text: str) -> str:
    """At most two lines; the whole of it on hover."""
    return (
        f'<span title="{escape(text)}" style="display:-webkit-box;-webkit-box-orient:vertical;'
        f'-webkit-line-clamp:2;overflow:hidden;overflow-wrap:anywhere;line-height:1.25">'
        f"{escape(text)}</span>"
    )
