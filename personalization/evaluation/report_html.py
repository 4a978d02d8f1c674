"""A report as HTML: one file with everything inside, or a fragment for a page.

What is shown is in templates/, where everything is escaped; here is what it is made of. It shows
pictures that the models drew and never a photo: it is made to be handed on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from personalization.evaluation import charts
from personalization.evaluation.comparison import Comparison
from personalization.evaluation.figures import Estimate, Figures
from personalization.evaluation.report import Cost, Report, Shot
from personalization.evaluation.spectrum import WHOLE_MODEL, Mark, spectrum
from personalization.evaluation.spectrum_files import LOSING
from personalization.evaluation.svg import OTHER, PROMPT, SUBJECT
from personalization.files import size_words

SIDE = 384  # pixels of a picture in the report, at most
COMPARED = 4  # pictures of each way of teaching
UNTRAINED = "no training, one photo as a reference"

Pairs = list[tuple[str, str]]


def render(report: Report, *, whole: bool = True, spectrum: str = "") -> str:
    """One file; with `whole=False` what a page shows under the verdict, the evidence folded.

    `spectrum`: of `render_spectrum`, the same photos taught in every way.
    """
    figures = report.figures
    return template("report.html").render(
        whole=whole,
        spectrum=Markup(spectrum),
        title=f"Report: {report.concept.trigger or report.concept.class_noun or 'an adapter'}",
        report=report,
        figures=figures,
        strip=[(image, *_named(caption)) for image, caption in report.strip()],
        fidelity_chart=_fidelity_chart(figures),
        sweep=_sweep(report.sweep),
        bought=_bought(report),
        loss_curve=_loss_curve(report),
        cost=_cost(report.cost),
        rows=rows(figures) if figures else [],
        drift=_drift(figures) if figures else [],
        copying=_copying(figures) if figures else [],
        stability=_stability(figures) if figures else [],
        records=_records(report),
        three_digits="{:.3f}".format,
    )


def render_comparison(comparison: Comparison, *, whole: bool = True) -> str:
    """Several ways of teaching the same photos side by side: one file, or a fragment."""
    return template("comparison.html").render(
        whole=whole,
        title="Compared",
        comparison=comparison,
        rows=comparison.rows(),
        trade_off=_trade_off(comparison),
        spectrum=_spectrum(comparison),
        strips=_strips(comparison),
        colours={"subject": SUBJECT, "prompt": PROMPT, "drift": OTHER},
        percent="{:.0%}".format,
    )


def render_spectrum(
    comparison: Comparison, sheet: Image.Image, missing: Sequence[str], *, whole: bool = True
) -> str:
    """The whole spectrum on the same photos, without training first; one file, or a fragment."""
    return template("spectrum.html").render(
        whole=whole,
        title="The whole spectrum",
        comparison=comparison,
        rows=spectrum_rows(comparison),
        trade_off=_trade_off(comparison),
        spectrum=_spectrum(comparison),
        strips=[],
        losing=[(getattr(comparison, key), said) for key, said in LOSING.items()],
        sheet=_data_uri(sheet, max(sheet.size)),
        missing=missing,
        colours={"subject": SUBJECT, "prompt": PROMPT, "drift": OTHER},
        percent="{:.0%}".format,
    )


def spectrum_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The comparison's, after that of no training where the base reads a reference."""
    figures = [report.figures for report in comparison.reports.values() if report.figures]
    level = next((each.untrained for each in figures if each.untrained), None)
    nothing = dict.fromkeys(("drift", "strength", "size", "seconds"))
    untrained = (
        {
            "name": UNTRAINED,
            "method": "reference",
            "subject_fidelity": level.subject_share,
            "prompt_fidelity": level.prompt_share,
        }
        if level
        else {}
    )
    return [*([untrained | nothing] if level else []), *comparison.rows()]


def png(image: Image.Image) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def rows(figures: Figures) -> list[tuple[str, Estimate | None, Estimate | None]]:
    """The table with its two reference rows: what was drawn, subject and prompt fidelity."""
    levels = [(f"strength {level.strength:g}", level) for level in figures.levels]
    if figures.balance not in figures.levels:
        levels.append((f"chosen, {figures.balance.strength:g}, all seeds", figures.balance))
    untrained = [(UNTRAINED, figures.untrained)] if figures.untrained else []
    photos = "real photos among themselves" if figures.real else "one photo: nothing to compare"
    return [
        (photos, figures.real, None),
        *(
            (name, level.subject_fidelity, level.prompt_fidelity)
            for name, level in [("untouched base", figures.base), *untrained, *levels]
        ),
    ]


@cache
def template(name: str) -> Template:
    """One of templates/, where everything is escaped."""
    environment = Environment(
        loader=PackageLoader("personalization.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "size_words": size_words}
    return environment.get_template(name)


def _named(caption: str) -> tuple[str, str]:
    """The name of a picture, "best" or "worst" or none, and its prompt."""
    name, colon, prompt = caption.partition(": ")
    return (name, prompt) if colon and name in ("best", "worst") else ("", caption)


# `charts` make HTML, and escape what they are given: it goes into the page as it is.


def _fidelity_chart(figures: Figures | None) -> Markup:
    if not figures or len(figures.levels) < 2:
        return Markup()
    base, balance = figures.base.subject_share.mean, figures.balance.strength
    return Markup(charts.fidelity_chart(figures.levels, base, balance))


def _loss_curve(report: Report) -> Markup:
    if not report.losses:
        return Markup()
    return Markup(charts.loss_curve(report.losses, report.cost.steps or report.losses[-1].step))


def _spectrum(comparison: Comparison) -> Markup:
    """The ways on the spectrum of file sizes."""
    costs = {name: report.cost for name, report in comparison.reports.items()}
    marks = [
        Mark(name, comparison.reports[name].concept.method, cost.size, cost.seconds)
        for name, cost in costs.items()
        if cost.size
    ]
    whole = max((cost.whole for cost in costs.values() if cost.whole), default=WHOLE_MODEL)
    return Markup(spectrum(marks, whole=whole))


def _trade_off(comparison: Comparison) -> Markup:
    """Subject fidelity over prompt fidelity, a point for each way."""
    points = [
        (name, report.concept.method, report.figures.balance)
        for name, report in comparison.reports.items()
        if report.figures
    ]
    return Markup(charts.trade_off(points)) if points else Markup()


def _sweep(shots: Sequence[Shot]) -> list[list[Shot]]:
    """A row for each prompt with a picture at each strength; none of a single strength."""
    by_prompt = [list(row) for _, row in groupby(shots, lambda shot: shot.prompt)]
    return by_prompt if len({shot.strength for shot in shots}) > 1 else []


def _bought(report: Report) -> list[tuple[str, list[Shot]]]:
    """The same prompts and seeds without training and with it."""
    trained = {shot.seed: shot for shot in report.shots}
    pairs = [(shot, trained[shot.seed]) for shot in report.untrained if shot.seed in trained]
    if not pairs:
        return []
    without, taught = zip(*pairs[:COMPARED], strict=True)
    return [("no training", list(without)), ("trained", list(taught))]


def _strips(comparison: Comparison) -> list[tuple[str, list[Shot]]]:
    """The same prompts and seeds, a line of pictures for each way."""
    by_seed = {name: {s.seed: s for s in r.shots} for name, r in comparison.reports.items()}
    shared = sorted(set.intersection(*map(set, by_seed.values())))[:COMPARED]
    return [(name, [shots[seed] for seed in shared]) for name, shots in by_seed.items()]


def _cost(cost: Cost) -> Pairs:
    """What it took; what is not known is left out."""
    entries = [
        ("time", "" if cost.seconds is None else f"{cost.seconds:.0f} s on {cost.device}"),
        ("GPU time", "" if cost.gpu_seconds is None else f"{cost.gpu_seconds:.0f} s"),
        ("GPU memory, peak", size_words(cost.memory) if cost.memory else ""),
        ("file", size_words(cost.size) if cost.size else ""),
        ("steps", f"{cost.steps}" if cost.steps else ""),
    ]
    return [(name, value) for name, value in entries if value]


def _drift(figures: Figures) -> Pairs:
    drift = figures.drift
    towards = f"{_percent(drift.towards)} of the way"
    if drift.none_by_design:
        towards = "not at all: a word changes no weights"
    return [
        ("towards the subject", towards),
        ("subject fidelity (PRES)", f"{drift.preservation}; untouched {drift.base_preservation}"),
        ("variety (DIV)", f"{drift.diversity}; untouched {drift.base_diversity}"),
        ("unrelated prompts", f"moved by {drift.unrelated}"),
    ]


def _copying(figures: Figures) -> Pairs:
    c = figures.copying
    nearest = f"photo {c.photo}, similarity {c.similarity:.2f}; a copy from {c.threshold:.2f}"
    return [("nearest", nearest), ("copies", f"{c.copies} of {c.outputs} pictures")]


def _stability(figures: Figures) -> Pairs:
    stability = figures.stability
    entries = [("over prompts", f"± {stability.over_prompts:.2f}")]
    if stability.over_seeds is not None:
        entries.append(("over seeds", f"± {stability.over_seeds:.2f}"))
    return entries


def _records(report: Report) -> Pairs:
    """How it was taught and measured, the strengths tried with the reason for the choice."""
    concept, figures = report.concept, report.figures
    ranked = concept.rank and concept.method != "textual_inversion"
    rank = f", rank {concept.rank}" if ranked else ""
    records = [("method", f"{concept.method}{rank}, {concept.kind}")]
    if figures:
        levels = figures.levels
        tried = ", ".join(f"{each.strength:g}: {figures.product(each):.2f}" for each in levels)
        why = "subject times prompt, the first at most 1, the second at most "
        why += f"{figures.attainable:.2f}; the largest is chosen, or the next down to nine tenths "
        why += "of it at which the class stays as it was"
        records.append(("strengths tried", f"{tried} ({why})"))
        records.append(("pictures judged", str(figures.pictures)))
    for key, value in report.evidence.items():
        records.append((key, "; ".join(value) if isinstance(value, list) else str(value)))
    return records


def _data_uri(image: Image.Image, side: int = SIDE) -> str:
    """The picture inside the page: PNG where it is small, JPEG where that is much smaller; not
    larger than it is shown on a fine screen."""
    image = image.convert("RGB")
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= 160 else "jpeg"
    image.save(buffer, kind, **({} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.mean:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"
