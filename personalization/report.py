"""A report: the figures of an evaluation, what they mean in words, and how they are shown.

It holds pictures that the models drew and never a photo: it is made to be handed on.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from personalization import charts
from personalization.charts import size_words
from personalization.files import write_atomically
from personalization.metrics import Estimate, interval
from personalization.runs import LossRow

FORMAT = 1

# Shares from which the verdict changes its words.
KNOWS, ROUGHLY = 0.7, 0.35  # of the way from the untouched base to the real photos
FOLLOWS = 0.9  # of the base's own prompt fidelity
DRIFTS = 0.3  # of the way from the class as it was to the subject


@dataclass(frozen=True)
class Learned:
    """What was taught, and how."""

    trigger: str
    noun: str
    kind: str
    method: str
    rank: int = 0


@dataclass(frozen=True)
class Cost:
    """What it took; None where it is not known."""

    seconds: float | None = None
    gpu_seconds: float | None = None
    memory: int | None = None  # bytes of the GPU, at the most
    size: int | None = None  # bytes of the file
    steps: int | None = None
    device: str = ""


@dataclass(frozen=True)
class Level:
    """Fidelity at one strength; the shares are of the references (real photos, untouched base)."""

    strength: float
    subject: Estimate
    prompt: Estimate
    subject_share: Estimate
    prompt_share: Estimate

    @property
    def product(self) -> float:
        return min(1.0, self.subject_share.mean) * min(1.0, self.prompt_share.mean)


@dataclass(frozen=True)
class Drift:
    """What happened to prompts that do not name the concept."""

    towards: Estimate  # share of the way from the class as it was to the subject
    preservation: Estimate  # PRES of DreamBooth, lower is better
    base_preservation: Estimate
    diversity: Estimate  # DIV of DreamBooth, higher is better
    base_diversity: Estimate
    unrelated: Estimate  # distance from the base's own pictures at the same seeds
    none_by_design: bool = False  # no weight was changed


@dataclass(frozen=True)
class Copying:
    """The output that is nearest to a training photo, and how many count as copies."""

    photo: int  # from 1
    likeness: float
    threshold: float
    copies: int
    outputs: int


@dataclass(frozen=True)
class Stability:
    """How much the product of both fidelities varies."""

    over_prompts: float
    over_seeds: float | None
    worst: str  # prompt


@dataclass(frozen=True)
class Figures:
    """Everything measured."""

    levels: tuple[Level, ...]
    base: Level
    real: Estimate | None  # the photos among themselves; None of one photo
    balance: Level  # at the recommended strength, over all seeds
    gained: Estimate  # subject fidelity above the base's, in pairs
    reference: float  # what a subject share of 1 is
    drift: Drift
    copying: Copying
    stability: Stability
    by_prompt: dict[str, tuple[float, float]] = field(hash=False)  # subject, prompt
    judges: tuple[str, str]
    pictures: int

    @property
    def way(self) -> float:
        """How far from the untouched base to the real photos, 0 to 1."""
        room = max(self.reference - self.base.subject.mean, 1e-6)
        return (self.balance.subject.mean - self.base.subject.mean) / room

    @property
    def holds_until(self) -> float | None:
        """The largest strength swept before the prompt is surely lost; None where it never is."""
        lost = [
            level.strength
            for level in self.levels
            if level.strength > self.balance.strength and level.prompt_share.high < FOLLOWS
        ]
        if not lost:
            return None
        return max(level.strength for level in self.levels if level.strength < min(lost))


@dataclass(frozen=True)
class Shot:
    """A picture that was judged."""

    image: Image.Image = field(repr=False, compare=False)
    prompt: str
    seed: int
    strength: float
    subject: float | None = None
    prompt_fidelity: float | None = None


@dataclass(frozen=True)
class Report:
    """`shots` are those at the recommended strength, the best first; `sweep` those of a few
    prompts at every strength."""

    learned: Learned
    cost: Cost
    figures: Figures | None
    shots: tuple[Shot, ...]
    losses: Sequence[LossRow] = ()
    sweep: tuple[Shot, ...] = ()
    limits: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def verdict(self) -> str:
        """One to three sentences that a person understands."""
        if self.figures is None:
            return (
                "Nothing was measured: look at the pictures and judge for yourself. "
                + " ".join(self.limits)
            ).strip()
        sentences = [_knows(self.learned, self.figures), _follows(self.figures)]
        worst = _worst(self.learned, self.figures) or (self.limits[0] if self.limits else "")
        return " ".join(filter(None, [*sentences, worst]))

    def strip(self, count: int = 8) -> list[tuple[Image.Image, str]]:
        """Pictures with captions: the best first, the worst last, named as such."""
        shots = list(self.shots)
        if self.figures is None or len(shots) < 2:
            return [(shot.image, shot.prompt) for shot in shots[:count]]
        # Beside the two ends, the first seed of each prompt: no selection of the best.
        best, worst = shots[0], shots[-1]
        firsts: dict[str, Shot] = {}
        for shot in sorted(shots, key=lambda shot: shot.seed):
            firsts.setdefault(shot.prompt, shot)
        others = [s for s in firsts.values() if s.prompt not in (best.prompt, worst.prompt)]
        chosen = [best, *others[: max(0, count - 2)], worst]
        named = [(shot.image, shot.prompt) for shot in chosen]
        named[0] = (named[0][0], f"best: {named[0][1]}")
        named[-1] = (named[-1][0], f"worst: {named[-1][1]}")
        return named

    def summary(self) -> dict[str, Any]:
        """The figures that go into the adapter's header and the model card."""
        short: dict[str, Any] = {"verdict": self.verdict, "format": FORMAT}
        if self.figures:
            f = self.figures
            short |= {
                "strength": f.balance.strength,
                "subject": _rounded(f.balance.subject_share),
                "prompt": _rounded(f.balance.prompt_share),
                "drift": _rounded(f.drift.towards),
                "copies": f.copying.copies,
                "judges": list(dict.fromkeys(f.judges)),
            }
        return short

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "learned": asdict(self.learned),
            "cost": asdict(self.cost),
            "figures": None
            if self.figures is None
            else asdict(self.figures)
            | {"way": self.figures.way, "holds_until": self.figures.holds_until},
            "shots": [
                {name: value for name, value in vars(shot).items() if name != "image"}
                for shot in self.shots
            ],
            "sweep": [
                {name: value for name, value in vars(shot).items() if name != "image"}
                for shot in self.sweep
            ],
            "losses": [asdict(row) for row in self.losses],
            "limits": list(self.limits),
            "evidence": self.evidence,
        }

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=1)

    def html(self, *, whole: bool = True) -> str:
        """One file with everything in it; `whole=False`: a fragment to put into a page."""
        body = "".join(
            [
                f'<p class="verdict">{escape(self.verdict)}</p>',
                _strip(self),
                _charts(self),
                _table(self),
                _details(self),
            ]
        )
        title = f"Report: {self.learned.trigger or self.learned.noun or 'an adapter'}"
        fragment = f'<style>{_STYLE}</style><section class="report">{body}</section>'
        return _page(title, fragment) if whole else fragment

    def markdown(self) -> str:
        """For a model card: the verdict and the table."""
        head = "| | subject | prompt |\n|---|---|---|\n"
        rows = [f"| {name} | {s} | {p} |" for name, s, p in _rows(self)]
        return f"{self.verdict}\n\n" + (head + "\n".join(rows) + "\n" if rows else "")

    def save(self, folder: Path) -> None:
        """report.html, report.json and its pictures in report/; the JSON last: then it is whole."""
        for name, shots in (("shot", self.shots), ("sweep", self.sweep)):
            for index, shot in enumerate(shots):
                buffer = io.BytesIO()
                shot.image.save(buffer, "PNG")
                write_atomically(folder / "report" / f"{name}-{index:02d}.png", buffer.getvalue())
        write_atomically(folder / "report.html", self.html())
        write_atomically(folder / "report.json", self.json())

    @classmethod
    def open(cls, folder: Path) -> Report | None:
        """What `save` wrote into `folder`; None where there is none that can be read."""

        def shots(name: str) -> tuple[Shot, ...]:
            given = data["shots" if name == "shot" else name]
            paths = [folder / "report" / f"{name}-{i:02d}.png" for i in range(len(given))]
            return tuple(
                Shot(_opened(path), **said) for path, said in zip(paths, given, strict=True)
            )

        try:
            data = json.loads((folder / "report.json").read_text())
            if data["format"] != FORMAT:
                return None
            return cls(
                learned=Learned(**data["learned"]),
                cost=Cost(**data["cost"]),
                figures=_figures(data["figures"]),
                shots=shots("shot"),
                losses=tuple(LossRow(**row) for row in data["losses"]),
                sweep=shots("sweep"),
                limits=tuple(data["limits"]),
                evidence=data["evidence"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Comparison:
    """The same photos taught in several ways, by name."""

    reports: Mapping[str, Report]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each: what it learned, forgot, weighs and costs."""
        return [
            {
                "name": name,
                "method": report.learned.method,
                "subject": report.figures.balance.subject_share if report.figures else None,
                "prompt": report.figures.balance.prompt_share if report.figures else None,
                "drift": report.figures.drift.towards if report.figures else None,
                "strength": report.figures.balance.strength if report.figures else None,
                "size": report.cost.size,
                "seconds": report.cost.seconds,
            }
            for name, report in self.reports.items()
        ]

    @property
    def verdict(self) -> str:
        """Who is ahead on subject and on prompt; what no interval tells apart is not told apart."""
        subject, prompt = self._ahead(0), self._ahead(1)
        if not subject:
            return "Nothing was measured: look at the pictures and judge for yourself."
        if len(subject) == len(prompt) == len(self.reports):
            return "In subject and in prompt there is no difference between them."
        return (
            f"Nearest to the photos: {_listed(subject)}. Most faithful to the prompt: "
            f"{_listed(prompt)}."
        )

    def _ahead(self, which: int) -> list[str]:
        """Names of the best and of those not surely worse, in pairs of prompts."""
        values = {
            name: {prompt: pair[which] for prompt, pair in report.figures.by_prompt.items()}
            for name, report in self.reports.items()
            if report.figures
        }
        if not values:
            return []
        shared = sorted(set.intersection(*(set(v) for v in values.values())))
        table = {name: torch.tensor([v[prompt] for prompt in shared]) for name, v in values.items()}
        best = max(table, key=lambda name: float(table[name].mean()))
        return [name for name in table if not interval(table[best] - table[name]).low > 0]

    def spectrum(self) -> str:
        """The ways on the spectrum of file sizes."""
        marks = [
            charts.Mark(name, report.learned.method, report.cost.size, report.cost.seconds)
            for name, report in self.reports.items()
            if report.cost.size
        ]
        full = [mark.size for mark in marks if mark.method == "full"]
        return charts.spectrum(marks, whole=max(full, default=charts.WHOLE_MODEL))

    def json(self) -> str:
        return json.dumps({name: report.as_dict() for name, report in self.reports.items()})

    def table(self) -> str:
        """An HTML table whose cells show the figure, its interval and a bar."""
        head = "".join(
            f'<th scope="col">{name}</th>'
            for name in ("", "subject", "prompt", "drift", "strength", "file", "time")
        )
        body = []
        for row in self.rows():
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

    def strips(self) -> str:
        """The same prompts and seeds, a line of pictures for each way."""
        lines = []
        first = next(iter(self.reports.values()))
        wanted = [s.seed for s in sorted(first.shots, key=lambda shot: shot.seed)][:4]
        for name, report in self.reports.items():
            by_seed = {shot.seed: shot for shot in report.shots}
            pictures = "".join(
                f"<figure>{_img(by_seed[seed].image, by_seed[seed].prompt)}</figure>"
                for seed in wanted
                if seed in by_seed
            )
            lines.append(f'<h3>{escape(name)}</h3><div class="strip">{pictures}</div>')
        return "".join(lines)

    def html(self, *, whole: bool = True) -> str:
        """One file with everything in it; `whole=False`: a fragment to put into a page."""
        notes = (
            '<p class="note">Subject is the share of the real photos\' likeness to each other, '
            "prompt the share of what the untouched base follows, drift how far the class moves "
            "towards the subject when the word is not said. Where two intervals overlap, call it "
            "no difference.</p>"
        )
        fragment = (
            f'<style>{_STYLE}</style><section class="report">'
            f'<p class="verdict">{escape(self.verdict)}</p>{self.spectrum()}'
            f"{self.table()}{notes}{self.strips()}</section>"
        )
        return _page("Compared", fragment) if whole else fragment


# Read back


def _figures(data: dict[str, Any] | None) -> Figures | None:
    if data is None:
        return None
    return Figures(
        levels=tuple(_level(level) for level in data["levels"]),
        base=_level(data["base"]),
        real=_estimate(data["real"]),
        balance=_level(data["balance"]),
        gained=Estimate(**data["gained"]),
        reference=data["reference"],
        drift=Drift(**{name: _estimate(value) for name, value in data["drift"].items()}),
        copying=Copying(**data["copying"]),
        stability=Stability(**data["stability"]),
        by_prompt={prompt: (pair[0], pair[1]) for prompt, pair in data["by_prompt"].items()},
        judges=(data["judges"][0], data["judges"][1]),
        pictures=data["pictures"],
    )


def _level(data: dict[str, Any]) -> Level:
    return Level(**{name: _estimate(value) for name, value in data.items()})


def _estimate(value: Any) -> Any:
    """An `Estimate` where it was one, anything else as it is."""
    return Estimate(**value) if isinstance(value, dict) else value


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


# Words


def _knows(learned: Learned, figures: Figures) -> str:
    what, pronoun = _subject(learned)
    if not figures.gained.low > 0:
        return (
            f"It has not learned {what}: with the word it draws no more of {pronoun} than the "
            "untouched base does. Train longer, or check that the photos show one thing."
        )
    if figures.way >= KNOWS:
        return f"It knows {what}."
    if figures.way >= ROUGHLY:
        return f"It knows {what} roughly, {figures.way:.0%} of the way to the photos."
    return f"It has only begun to know {what}, {figures.way:.0%} of the way: train longer."


def _follows(figures: Figures) -> str:
    share = figures.balance.prompt_share
    if share.high < FOLLOWS:
        return f"It follows the scene less well than the base does ({share.mean:.0%})."
    if figures.holds_until is not None:
        return f"Above {figures.holds_until:g} it ignores the scene."
    return ""


def _worst(learned: Learned, figures: Figures) -> str:
    """What most needs saying of what went wrong, or right."""
    copying, drift = figures.copying, figures.drift
    if copying.copies:
        return (
            f"It redraws photo {copying.photo} closely: add photos with other backgrounds, "
            "or train for fewer steps."
        )
    others = (
        f"every {learned.noun}" if learned.noun and learned.kind != "style" else "every picture"
    )
    if drift.towards.mean >= DRIFTS and drift.towards.low > 0:
        return (
            f"Without the word, {others} now drifts towards it ({drift.towards.mean:.0%} of the "
            "way): switch prior preservation on."
        )
    if drift.none_by_design:
        return "Nothing else has changed: a word changes no weights."
    if figures.gained.low > 0 and not drift.towards.low > 0:
        return f"Without the word, {others} stays as it was."
    return ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} alike"


def _subject(learned: Learned) -> tuple[str, str]:
    """What is known, and the pronoun for it."""
    if learned.kind == "style":
        return "the style", "it"
    if learned.kind == "person":
        return "the person", "them"
    return (f"your {learned.noun}" if learned.noun else "your subject"), "it"


# HTML

_STYLE = """
.report{max-width:720px;font-size:14px;line-height:1.5}
.report .verdict{font-size:1.25em;line-height:1.4;margin:0 0 16px;font-weight:600;text-wrap:pretty}
.report h3{font-size:13px;font-weight:600;margin:24px 0 8px}
.report .strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(max(72px,22%),1fr));
gap:8px}
.report figure{margin:0}
.report .strip img{width:100%;display:block;border-radius:6px}
.report .strip figcaption{font-size:11px;line-height:1.3;opacity:.75;margin-top:3px}
.report .strip b{font-weight:600}
.report table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
.report th,.report td{text-align:left;padding:6px 12px 6px 0;font-weight:400;vertical-align:top;
border:0;border-bottom:1px solid color-mix(in srgb,currentColor 14%,transparent)}
.report thead th{opacity:.7;font-size:12px}
.report .wide{overflow-x:auto;margin-top:20px}
.report .sweep{text-align:center}
.report .range{opacity:.65;font-size:11px;white-space:nowrap}
.report .bar{height:3px;border-radius:2px;margin-top:4px;min-width:64px;
background:color-mix(in srgb,currentColor 12%,transparent)}
.report .bar i{display:block;height:100%;border-radius:2px}
.report .note,.report li{font-size:12px;line-height:1.45;opacity:.75}
.report dl{display:grid;grid-template-columns:minmax(88px,max-content) 1fr;gap:4px 16px;
font-size:12px;margin:0}
.report dt{opacity:.7}.report dd{margin:0;overflow-wrap:anywhere}
""".replace("\n", "")

_COLOURS = {"subject": charts.SUBJECT, "prompt": charts.PROMPT, "drift": charts.OTHER}


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
    return f'<div class="strip">{figures}</div>'


def _caption(caption: str) -> str:
    name, colon, rest = caption.partition(": ")
    if colon and name in ("best", "worst"):
        return f"<b>{name}</b> {escape(rest)}"
    return escape(caption)


def _charts(report: Report) -> str:
    parts = []
    figures = report.figures
    if figures and len(figures.levels) > 1:
        parts.append("<h3>Which strength</h3>")
        parts.append(
            charts.fidelity_chart(
                [level.strength for level in figures.levels],
                [_triple(level.subject_share) for level in figures.levels],
                [_triple(level.prompt_share) for level in figures.levels],
                base_subject=figures.base.subject_share.mean,
                balance=figures.balance.strength,
            )
        )
    if report.sweep:
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
            parts.append(f'<div class="strip sweep" style="{columns}">{cells}</div>')
    if report.losses:
        steps = report.cost.steps or report.losses[-1].step
        parts.append("<h3>Training</h3>" + charts.loss_curve(report.losses, steps))
    return "".join(parts)


def _rows(report: Report) -> list[tuple[str, str, str]]:
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
        (
            f"chosen, {f.balance.strength:g}, all seeds",
            str(f.balance.subject),
            str(f.balance.prompt),
        ),
    ]


def _table(report: Report) -> str:
    rows = _rows(report)
    if not rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_ranged(subject)}</td>'
        f"<td>{_ranged(prompt)}</td></tr>"
        for name, subject, prompt in rows
    )
    return (
        "<h3>Fidelity</h3><table><thead><tr><th></th><th>subject</th><th>prompt</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _details(report: Report) -> str:
    parts = []
    if f := report.figures:
        d, c, s = f.drift, f.copying, f.stability
        entries = [
            (
                "towards the subject",
                "not at all: a word changes no weights"
                if d.none_by_design
                else f"{_percent(d.towards)} of the way",
            ),
            ("likeness (PRES)", f"{d.preservation}; untouched {d.base_preservation}"),
            ("variety (DIV)", f"{d.diversity}; untouched {d.base_diversity}"),
            ("unrelated prompts", f"moved by {d.unrelated}"),
        ]
        parts.append("<h3>What changed without the word</h3>" + _list(entries))
        entries = [
            (
                "nearest",
                f"photo {c.photo}, likeness {c.likeness:.2f}; a copy from {c.threshold:.2f}",
            ),
            ("copies", f"{c.copies} of {c.outputs} pictures"),
        ]
        parts.append("<h3>Copying</h3>" + _list(entries))
        entries = [("over prompts", f"± {s.over_prompts:.2f}; worst: {s.worst}")]
        if s.over_seeds is not None:
            entries.append(("over seeds", f"± {s.over_seeds:.2f}"))
        parts.append("<h3>Stability</h3>" + _list(entries))
    cost = report.cost
    entries = [
        ("time", "" if cost.seconds is None else f"{cost.seconds:.0f} s on {cost.device}"),
        ("GPU time", f"{cost.gpu_seconds:.0f} s" if cost.gpu_seconds else ""),
        ("GPU memory, peak", size_words(cost.memory) if cost.memory else ""),
        ("file", size_words(cost.size) if cost.size else ""),
    ]
    parts.append("<h3>Cost</h3>" + _list([(k, v) for k, v in entries if v]))
    evidence = [("method", _method(report.learned))]
    if report.figures:
        candidates = ", ".join(f"{x.strength:g}: {x.product:.2f}" for x in report.figures.levels)
        why = "subject times prompt, each at most its reference"
        evidence.append(("strengths tried", f"{candidates} ({why}; the largest is chosen)"))
        evidence.append(("pictures judged", str(report.figures.pictures)))
    for key, value in report.evidence.items():
        said = "; ".join(value) if isinstance(value, list) else str(value)
        evidence.append((key, said))
    parts.append("<h3>Evidence</h3>" + _list(evidence))
    if report.limits and report.figures:
        items = "".join(f"<li>{escape(limit)}</li>" for limit in report.limits)
        parts.append(f"<h3>What this report cannot say</h3><ul>{items}</ul>")
    return "".join(parts)


def _method(learned: Learned) -> str:
    rank = f", rank {learned.rank}" if learned.rank and learned.method != "word" else ""
    return f"{learned.method}{rank}, {learned.kind}"


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
        f'<div class="bar"><i style="width:{width:.0f}%;background:{_COLOURS[series]}"></i></div>'
    )


def _img(image: Image.Image, said: str) -> str:
    """The picture inside the page: PNG where it is small, JPEG where that is much smaller."""
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= 160 else "jpeg"
    image.convert("RGB").save(buffer, kind, **({} if kind == "png" else {"quality": 88}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(said)}" loading="lazy">'


def _percent(estimate: Estimate) -> str:
    return f"{estimate.mean:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"


def _triple(estimate: Estimate) -> charts.Interval:
    return estimate.mean, estimate.low, estimate.high


def _rounded(estimate: Estimate) -> list[float]:
    return [round(value, 4) for value in _triple(estimate)]
