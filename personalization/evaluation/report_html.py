"""A report as HTML: one file with everything inside, or a fragment for a page.

It shows pictures that the models drew and never a photo: it is made to be handed on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from personalization.evaluation import charts
from personalization.evaluation.charts import size_words
from personalization.evaluation.metrics import Estimate

if TYPE_CHECKING:
    from personalization.evaluation.report import Comparison, Report

SIDE = 384  # pixels of a picture in the sheet, at most
_STYLE = """
.report{max-width:720px;font-size:14px;line-height:1.5}
.report .said{font-size:1.25em;line-height:1.4;margin:0 0 16px;font-weight:600;text-wrap:pretty}
.report h3{font-size:13px;font-weight:600;margin:24px 0 8px}
.report .shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(max(72px,22%),1fr));
gap:8px}
.report figure{margin:0}
.report .shots img{width:100%;display:block;border-radius:6px}
.report .shots figcaption{font-size:11px;line-height:1.3;opacity:.75;margin-top:3px}
.report .shots b{font-weight:600}
.report table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
.report th,.report td{text-align:left;padding:6px 12px 6px 0;font-weight:400;vertical-align:top;
border:0;border-bottom:1px solid color-mix(in srgb,currentColor 14%,transparent)}
.report thead th{opacity:.7;font-size:12px}
.report .wide{overflow-x:auto;margin-top:20px}
.report .sweep{text-align:center}
.report .range{opacity:.65;font-size:11px;white-space:nowrap}
.report .share{height:3px;border-radius:2px;margin-top:4px;min-width:64px;
background:color-mix(in srgb,currentColor 12%,transparent)}
.report .share i{display:block;height:100%;border-radius:2px}
.report .note,.report li{font-size:12px;line-height:1.45;opacity:.75}
.report dl{display:grid;grid-template-columns:minmax(88px,max-content) 1fr;gap:4px 16px;
font-size:12px;margin:0}
.report .cost{display:flex;flex-wrap:wrap;gap:8px 28px;font-variant-numeric:tabular-nums}
.report .cost dd{font-size:15px;font-weight:560}
.report ul{margin:0;padding-left:18px}
.report summary{margin-top:24px;font-size:13px;font-weight:600;cursor:pointer}
.report dt{opacity:.7}.report dd{margin:0;overflow-wrap:anywhere}
""".replace("\n", "")

_COLOURS = {"subject": charts.SUBJECT, "prompt": charts.PROMPT, "drift": charts.OTHER}


def report(of: Report, *, whole: bool) -> str:
    """A report: one file, or what a page shows under the verdict, the evidence folded."""
    parts = [_strip(of), _strengths(of), _cost(of), _limits(of), _evidence(of, folded=not whole)]
    if whole:
        parts.insert(0, f'<p class="said">{escape(of.verdict)}</p>')
        parts.insert(3, _losses(of))
    return _made(
        f"Report: {of.learned.trigger or of.learned.class_noun or 'an adapter'}", parts, whole
    )


def comparison(of: Comparison, *, whole: bool) -> str:
    """Several ways of teaching the same photos, side by side."""
    note = (
        "Subject is the share of the real photos' likeness to each other, prompt the share of what "
        "the untouched base follows, drift how far the class moves towards the subject when the "
        "word is not said. Where two intervals overlap, call it no difference."
    )
    parts = [
        f'<p class="said">{escape(of.verdict)}</p>',
        of.trade_off(),
        _compared(of),
        f'<p class="note">{note}</p>',
        of.spectrum(),
        _strips(of),
    ]
    return _made("Compared", parts, whole)


def _made(title: str, parts: Sequence[str], whole: bool) -> str:
    fragment = f'<style>{_STYLE}</style><section class="report">{"".join(parts)}</section>'
    return _page(title, fragment) if whole else fragment


def _page(title: str, fragment: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>:root{{color-scheme:light dark}}"
        "body{margin:0;padding:32px 20px;display:flex;justify-content:center;"
        "font-family:system-ui,sans-serif;background:light-dark(#fff,#0b0f19);"
        "color:light-dark(#1f2430,#e5e7eb)}.report{width:100%}</style></head>"
        f"<body>{fragment}</body></html>"
    )


def _strip(report: Report) -> str:
    figures = "".join(
        f"<figure>{_img(image, caption)}<figcaption>{_caption(caption)}</figcaption></figure>"
        for image, caption in report.strip()
    )
    return f'<div class="shots">{figures}</div>'


def _caption(caption: str) -> str:
    name, colon, rest = caption.partition(": ")
    if colon and name in ("best", "worst"):
        return f"<b>{name}</b> {escape(rest)}"
    return escape(caption)


def _strengths(report: Report) -> str:
    """What the strength does: the figures as a chart, and the same seeds at each."""
    parts = []
    figures = report.figures
    if figures and len(figures.levels) > 1:
        parts.append(f"<h3>Which strength: {figures.balance.strength:g} is recommended</h3>")
        parts.append(
            charts.fidelity_chart(
                [level.strength for level in figures.levels],
                [_triple(level.subject_share) for level in figures.levels],
                [_triple(level.prompt_share) for level in figures.levels],
                base_subject=figures.base.subject_share.mean,
                balance=figures.balance.strength,
            )
        )
    prompts = list(dict.fromkeys(shot.prompt for shot in report.sweep))
    strengths = list(dict.fromkeys(shot.strength for shot in report.sweep))
    if len(strengths) > 1:
        sheet = [[s.image for s in report.sweep if s.prompt == p] for p in prompts]
        columns = f"grid-template-columns:repeat({len(strengths)},1fr)"
        cells = "".join(
            f"<figure>{_img(image, f'{prompt}, strength {strength:g}')}"
            + (f"<figcaption>{strength:g}</figcaption>" if prompt == prompts[-1] else "")
            + "</figure>"
            for prompt, row in zip(prompts, sheet, strict=True)
            for strength, image in zip(strengths, row, strict=True)
        )
        parts.append("<h3>The same seeds at each strength</h3>")
        parts.append(f'<div class="shots sweep" style="{columns}">{cells}</div>')
    return "".join(parts)


def _losses(report: Report) -> str:
    if not report.losses:
        return ""
    steps = report.cost.steps or report.losses[-1].step
    return "<h3>Training</h3>" + charts.loss_curve(report.losses, steps)


def _cost(report: Report) -> str:
    """What it took; what is not known is left out."""
    cost = report.cost
    entries = [
        ("time", "" if cost.seconds is None else f"{cost.seconds:.0f} s on {cost.device}"),
        ("GPU time", "" if cost.gpu_seconds is None else f"{cost.gpu_seconds:.0f} s"),
        ("GPU memory, peak", size_words(cost.memory) if cost.memory else ""),
        ("file", size_words(cost.size) if cost.size else ""),
        ("steps", f"{cost.steps}" if cost.steps else ""),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{said}</dd></div>" for name, said in entries if said)
    return f'<h3>What it cost</h3><dl class="cost">{cells}</dl>'


def _limits(report: Report) -> str:
    if not report.limits or not report.figures:  # without figures the verdict says them
        return ""
    items = "".join(f"<li>{escape(limit)}</li>" for limit in report.limits)
    return f"<h3>What this report cannot say</h3><ul>{items}</ul>"


def rows(report: Report) -> list[tuple[str, str, str]]:
    """The table with its two reference rows."""
    f = report.figures
    if f is None:
        return []
    real = f"{f.real}" if f.real else "one photo: not known"
    return [
        ("real photos among themselves", real, "–"),
        ("untouched base", str(f.base.subject), str(f.base.prompt)),
        *(
            (f"strength {level.strength:g}", str(level.subject), str(level.prompt))
            for level in f.levels
        ),
        *(
            (f"chosen, {level.strength:g}, all seeds", str(level.subject), str(level.prompt))
            for level in (f.balance,)
            if level not in f.levels
        ),
    ]


def _table(report: Report) -> str:
    measured = rows(report)
    if not measured:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_ranged(subject)}</td>'
        f"<td>{_ranged(prompt)}</td></tr>"
        for name, subject, prompt in measured
    )
    return (
        "<h3>Fidelity</h3><table><thead><tr><th></th><th>subject</th><th>prompt</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _evidence(report: Report, *, folded: bool) -> str:
    """What was measured and how, the candidates with the reason for choosing, known failures."""
    method = report.learned.method
    rank = (
        f", rank {report.learned.rank}"
        if report.learned.rank and method != "textual_inversion"
        else ""
    )
    records = [("method", f"{method}{rank}, {report.learned.kind}")]
    parts = [_table(report)]
    if f := report.figures:
        d, c, s = f.drift, f.copying, f.stability
        towards = "not at all: a word changes no weights"
        parts.append("<h3>What changed without the word</h3>")
        parts.append(
            _list(
                [
                    (
                        "towards the subject",
                        towards if d.none_by_design else f"{_percent(d.towards)} of the way",
                    ),
                    ("likeness (PRES)", f"{d.preservation}; untouched {d.base_preservation}"),
                    ("variety (DIV)", f"{d.diversity}; untouched {d.base_diversity}"),
                    ("unrelated prompts", f"moved by {d.unrelated}"),
                ]
            )
        )
        nearest = f"photo {c.photo}, likeness {c.likeness:.2f}; a copy from {c.threshold:.2f}"
        copies = [("nearest", nearest), ("copies", f"{c.copies} of {c.outputs} pictures")]
        parts.append("<h3>Copying</h3>" + _list(copies))
        stable = [("over prompts", f"± {s.over_prompts:.2f}")]
        if s.over_seeds is not None:
            stable.append(("over seeds", f"± {s.over_seeds:.2f}"))
        parts.append("<h3>Stability</h3>" + _list(stable))
        failures = "".join(f"<li>{escape(said)}</li>" for said in report.failures)
        parts.append(f"<h3>Where it fails</h3><ul>{failures}</ul>")
        tried = ", ".join(f"{level.strength:g}: {level.product:.2f}" for level in f.levels)
        why = "subject times prompt, each at most its reference; the largest is chosen"
        records.append(("strengths tried", f"{tried} ({why})"))
        records.append(("pictures judged", str(f.pictures)))
    for key, value in report.evidence.items():
        records.append((key, "; ".join(value) if isinstance(value, list) else str(value)))
    parts.append("<h3>Records</h3>" + _list(records))
    body = "".join(parts)
    if folded:
        return f"<details><summary>The evidence</summary>{body}</details>"
    return body


def _compared(of: Comparison) -> str:
    """An HTML table whose cells show the figure, its interval and a bar."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("", "subject", "prompt", "drift", "strength", "file", "time")
    )
    body = []
    for row in of.rows():
        cells = [
            _bar(row["subject"], "subject"),
            _bar(row["prompt"], "prompt"),
            _bar(row["drift"], "drift"),
            "–" if row["strength"] is None else f"{row['strength']:g}",
            "–" if row["size"] is None else size_words(row["size"]),
            "–" if row["seconds"] is None else f"{row['seconds']:.0f} s",
        ]
        body.append(
            f'<tr><th scope="row">{escape(row["name"])}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    rows = "".join(body)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _strips(of: Comparison) -> str:
    """The same prompts and seeds, a line of pictures for each way."""
    drawn = {name: {shot.seed: shot for shot in r.shots} for name, r in of.reports.items()}
    wanted = sorted(set.intersection(*map(set, drawn.values())))[:4]
    lines = []
    for name, by_seed in drawn.items():
        pictures = "".join(
            f"<figure>{_img(by_seed[seed].image, by_seed[seed].prompt)}</figure>" for seed in wanted
        )
        lines.append(f'<h3>{escape(name)}</h3><div class="shots">{pictures}</div>')
    return "".join(lines)


def _list(entries: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in entries)
    return f"<dl>{inner}</dl>"


def _ranged(estimate: str) -> str:
    mean, bracket, rest = estimate.partition(" [")
    return escape(mean) + (f' <span class="range">[{escape(rest)}</span>' if bracket else "")


def _bar(estimate: Estimate | None, series: str) -> str:
    if estimate is None:
        return "–"
    width = 100 * min(1.0, max(0.0, estimate.mean))
    return (
        f'{estimate.mean:.0%} <span class="range">{estimate.low:.0%} to {estimate.high:.0%}</span>'
        f'<div class="share"><i style="width:{width:.0f}%;background:{_COLOURS[series]}"></i></div>'
    )


def _img(image: Image.Image, said: str) -> str:
    """The picture inside the page: PNG where it is small, JPEG where that is much smaller; not
    larger than it is shown on a fine screen."""
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= 160 else "jpeg"
    image.save(buffer, kind, **({} if kind == "png" else {"quality": 88}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(said)}" loading="lazy">'


def _percent(estimate: Estimate) -> str:
    return f"{estimate.mean:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"


def _triple(estimate: Estimate) -> charts.Interval:
    return estimate.mean, estimate.low, estimate.high
