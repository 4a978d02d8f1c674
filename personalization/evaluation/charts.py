"""A report's charts, as HTML and SVG.

A chart is a ``<figure>`` to be put into any page. Its text is as large on a phone as on a desk and
only the plot grows with the column; ink is the page's own (``currentColor``), so that it is meant
on dark and on light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from personalization.evaluation.figures import Estimate, Level
from personalization.evaluation.spectrum import method_colour
from personalization.evaluation.svg import (
    PROMPT,
    SUBJECT,
    Plot,
    disc,
    figure,
    nice_above,
    percent,
    round_ticks,
)
from personalization.training.run import LossRow

MAX_DOTS = 400


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
    finite = [(row.step, row.loss) for row in rows if math.isfinite(row.loss)]
    at, losses = [step for step, _ in finite], [loss for _, loss in finite]
    ceiling = sorted(losses)[int(0.98 * (len(losses) - 1))] if losses else 1.0
    # A single step that explodes is drawn at the edge, and does not lift the line for a while.
    line = smoothed([min(loss, 3 * ceiling) for loss in losses], window)
    plot = Plot((0, max(steps, 1)), (0, nice_above(max([ceiling, *line]) or 1.0)), height=168)
    y_ticks = round_ticks(0, plot.y[1], 4) if line else [(0.0, "0")]
    every = max(1, math.ceil(len(losses) / MAX_DOTS))
    marks = [plot.vertical(s, dashed=True) + plot.mark(s, -5) for s in previews if s <= steps]
    dots = plot.dots(at[::every], losses[::every], SUBJECT)
    parts = [
        plot.frame(round_ticks(0, max(steps, 1), 4), y_ticks, "step", "loss"),
        *marks,
        plot.inside(dots, plot.line(at, line, SUBJECT)),
    ]
    legend = [("dot", SUBJECT, "each step"), ("line", SUBJECT, f"average of about {window} steps")]
    if prior := _prior_line(plot, rows, window):
        parts.append(prior)
        legend.append(("line", PROMPT, "the class, average"))
    if previews:
        legend.append(("triangle", "currentColor", "preview"))
    if line:
        parts.append(plot.dot(at[-1], line[-1], SUBJECT))
    label = f"Loss {line[-1]:.3f} after {at[-1]} of {steps} steps." if line else "No steps yet."
    return figure(
        plot.svg(label, parts),
        legend,
        "The dots scatter because every step draws its own noise level, and more noise is harder "
        "to remove. Only the line says whether it learns.",
    )


def _prior_line(plot: Plot, rows: Sequence[LossRow], window: int) -> str:
    prior = [(row.step, row.prior_loss) for row in rows if row.prior_loss is not None]
    if not prior:
        return ""
    line = smoothed([loss for _, loss in prior], window)
    return plot.inside(plot.line([step for step, _ in prior], line, PROMPT))


def fidelity_chart(levels: Sequence[Level], base_subject: float, balance: float) -> str:
    """Subject and prompt fidelity over the adapter's strength, as shares of their references.

    The reference of the subject are the real photos among themselves, that of the prompt the
    untouched base. `base_subject` is how much of the subject the base has by chance; `balance` the
    recommended strength.
    """
    strengths = [level.strength for level in levels]
    subject = [level.subject_share for level in levels]
    prompt = [level.prompt_share for level in levels]
    values = [v for share in (*subject, *prompt) for v in _reaches(share)] + [base_subject or 1.0]
    low = min(0.5, math.floor(min(values) * 10) / 10)
    high = max(1.1, math.ceil(max(values) * 10) / 10)
    margin = 0.04 * (max(strengths) - min(strengths) or 1)
    plot = Plot((min(strengths) - margin, max(strengths) + margin), (low, high), height=196)
    ticks = [(s, f"{s:g}") for s in strengths]
    shares = [(value, f"{value:.0%}") for value, _ in round_ticks(low, high, 5)]
    parts = [
        plot.frame(ticks, shares, "strength", "share of the reference"),
        plot.vertical(balance, dashed=False),
        plot.note(balance, f"balance {balance:g}"),
        plot.horizontal(1.0, "currentColor"),
        plot.horizontal(base_subject, SUBJECT),
        _banded(plot, strengths, prompt, PROMPT),
        _banded(plot, strengths, subject, SUBJECT),
    ]
    legend = [
        ("line", SUBJECT, "subject fidelity: like the photos"),
        ("line", PROMPT, "prompt fidelity: as the prompt says"),
        ("dash", SUBJECT, "subject fidelity, untouched base"),
        ("dash", "currentColor", "100%: real photos, untouched base"),
    ]
    label = "Subject and prompt fidelity at strengths " + ", ".join(f"{s:g}" for s in strengths)
    return figure(
        plot.svg(label, parts),
        legend,
        "Bands are 95% intervals: where two bands overlap, call it no difference.",
    )


def _banded(plot: Plot, xs: Sequence[float], shares: Sequence[Estimate], colour: str) -> str:
    """A line with its interval around it and its points on it."""
    means = [share.mean for share in shares]
    band = plot.band(xs, [share.low for share in shares], [share.high for share in shares], colour)
    dots = (plot.dot(x, y, colour) for x, y in zip(xs, means, strict=True))
    return plot.inside(band, plot.line(xs, means, colour)) + "".join(dots)


def trade_off(points: Sequence[tuple[str, str, Level]]) -> str:
    """Ways of teaching by what they kept and what they learned: up and to the right is better.

    A point is (name, method, fidelities at the recommended strength).
    """
    x = _axis([level.prompt_share for _, _, level in points])
    y = _axis([level.subject_share for _, _, level in points])
    plot = Plot(x, y, height=196)
    x_ticks, y_ticks = ([(v, f"{v:.0%}") for v, _ in round_ticks(*axis, 5)] for axis in (x, y))
    parts = [
        plot.frame(x_ticks, y_ticks, "prompt fidelity", "subject fidelity"),
        plot.vertical(1.0, dashed=True),
        plot.horizontal(1.0, "currentColor"),
    ]
    legend = []
    for number, (name, method, level) in enumerate(points, 1):
        colour = method_colour(method)
        prompt, subject = level.prompt_share, level.subject_share
        parts.append(
            plot.inside(
                plot.line([prompt.low, prompt.high], [subject.mean] * 2, colour),
                plot.line([prompt.mean] * 2, [subject.low, subject.high], colour),
            )
        )
        across = percent(100 * plot.across(prompt.mean))
        parts.append(disc(across, plot.down(subject.mean), number, colour))
        legend.append((str(number), colour, name))
    return figure(
        plot.svg("Subject fidelity over prompt fidelity of each.", parts),
        legend,
        "Up: more like the photos. Right: closer to the prompt. Crosses are 95% intervals.",
    )


def _axis(shares: Sequence[Estimate]) -> tuple[float, float]:
    """An axis that holds shares and their reference, in tenths."""
    values = [value for share in shares for value in _reaches(share)]
    return math.floor(min(0.9, *values) * 10) / 10, math.ceil(max(1.1, *values) * 10) / 10


def _reaches(share: Estimate) -> tuple[float, float, float]:
    return share.mean, share.low, share.high
