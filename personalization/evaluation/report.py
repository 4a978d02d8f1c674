"""A report: the figures of an evaluation, what they mean in words, and how they are shown.

It holds pictures that the models drew and never a photo: it is made to be handed on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from personalization.evaluation import charts, report_html
from personalization.evaluation.metrics import Estimate, interval
from personalization.files import write_atomically
from personalization.training.run import LossRow

FORMAT = 2
_NAMES_BEFORE_2 = {"noun": "class_noun"}

# Shares from which the verdict changes its words.
KNOWS, ROUGHLY = 0.7, 0.35  # of the way from the untouched base to the real photos
FOLLOWS = 0.9  # of the base's own prompt fidelity
# Likeness between the base's pictures and the photos' own, below which there is nothing to measure
# in: people notice a gap of 0.1 (DINO; Ruiz et al. 2022).
ROOM = 0.15
DRIFTS = 0.3  # of the way from the class as it was to the subject


@dataclass(frozen=True)
class Learned:
    """What was taught, and how."""

    trigger: str
    class_noun: str
    kind: str
    method: str
    rank: int = 0
    prior: str = ""  # images, adapter_off, or none: what kept the class


@dataclass(frozen=True)
class Cost:
    """What it took; None where it is not known."""

    seconds: float | None = None
    gpu_seconds: float | None = None
    memory: int | None = None  # bytes of the GPU, at the most
    size: int | None = None  # bytes of the file
    steps: int | None = None
    device: str = ""
    whole: int | None = None  # bytes of the base's own full fine-tune, to compare with


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
    encoders: tuple[str, str]
    pictures: int

    @property
    def one_thing(self) -> bool:
        """Whether the photos are clearly more like each other than the base's pictures are like
        them: if not, nothing can be said about likeness. Of one photo it is not known."""
        return self.real is None or self.reference - self.base.subject.mean >= ROOM

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
        worst = _worst(self.learned, self.figures)
        if self.limits and not (worst and self.figures.one_thing):
            worst = self.limits[0]
        return " ".join(filter(None, [*sentences, worst]))

    @property
    def failures(self) -> list[str]:
        """Where it is known to fail, in sentences."""
        if self.figures is None:
            return []
        f = self.figures
        said = [f"It does worst at “{f.stability.worst}”."]
        if f.holds_until is not None:
            said.append(f"Above strength {f.holds_until:g} it ignores the scene.")
        if f.copying.copies:
            said.append(_copies(f))
        if f.drift.towards.low > 0:
            said.append(_drifts(self.learned, f))
        return said

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
                "encoders": list(dict.fromkeys(f.encoders)),
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
            "failures": self.failures,
            "evidence": self.evidence,
        }

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=1)

    def html(self, *, whole: bool = True) -> str:
        """One file with everything in it; `whole=False`: a fragment to put into a page that says
        the verdict and shows the loss itself, the evidence folded."""
        return report_html.report(self, whole=whole)

    def markdown(self) -> str:
        """For a model card: the verdict and the table."""
        head = "| | subject | prompt |\n|---|---|---|\n"
        rows = [f"| {name} | {s} | {p} |" for name, s, p in report_html.rows(self)]
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
            if data["format"] not in (1, FORMAT):
                return None
            return cls(
                learned=Learned(
                    **{_NAMES_BEFORE_2.get(k, k): v for k, v in data["learned"].items()}
                ),
                cost=Cost(**data["cost"]),
                figures=_figures(data["figures"]),
                shots=shots("shot"),
                losses=tuple(
                    LossRow(
                        **{
                            ("fixed_batch_loss" if k == "fixed_loss" else k): v
                            for k, v in row.items()
                        }
                    )
                    for row in data["losses"]
                ),
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
            return (
                "Nothing was measured on the same prompts: look at the pictures and judge for "
                "yourself."
            )
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
        shared = sorted(set.intersection(*(set(v) for v in values.values()))) if values else []
        if not shared:
            return []
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
        whole = [report.cost.whole for report in self.reports.values() if report.cost.whole]
        return charts.spectrum(marks, whole=max(whole, default=charts.WHOLE_MODEL))

    def trade_off(self) -> str:
        """Subject fidelity over prompt fidelity, a point for each way."""
        points = [
            (
                name,
                r.learned.method,
                _triple(f.balance.prompt_share),
                _triple(f.balance.subject_share),
            )
            for name, r in self.reports.items()
            if (f := r.figures)
        ]
        return charts.trade_off(points) if points else ""

    def json(self) -> str:
        return json.dumps({name: report.as_dict() for name, report in self.reports.items()})

    def html(self, *, whole: bool = True) -> str:
        """One file with everything in it; `whole=False`: a fragment to put into a page."""
        return report_html.comparison(self, whole=whole)


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
        encoders=tuple(data.get("encoders") or data["judges"]),
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
    if not figures.one_thing:
        return (
            f"Whether it knows {what} cannot be said: the photos are no more like each other than "
            f"{_any(learned)} is like them."
        )
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
    if figures.copying.copies:
        return _copies(figures)
    if figures.drift.towards.mean >= DRIFTS and figures.drift.towards.low > 0:
        more = "Give prior preservation more weight, or train for fewer steps."
        remedy = more if learned.prior else "Switch prior preservation on."
        return f"{_drifts(learned, figures)} {remedy}"
    if figures.drift.none_by_design:
        return "Nothing else has changed: a word changes no weights."
    if figures.gained.low > 0 and not figures.drift.towards.low > 0:
        return f"Without the word, {_others(learned)} stays as it was."
    return ""


def _copies(figures: Figures) -> str:
    return (
        f"It redraws photo {figures.copying.photo} closely: add photos with other backgrounds, "
        "or train for fewer steps."
    )


def _drifts(learned: Learned, figures: Figures) -> str:
    share = figures.drift.towards.mean
    return f"Without the word, {_others(learned)} now drifts towards it ({share:.0%} of the way)."


def _others(learned: Learned) -> str:
    return f"every {_class(learned)}"


def _any(learned: Learned) -> str:
    return f"any {_class(learned)}"


def _class(learned: Learned) -> str:
    return learned.class_noun if learned.class_noun and learned.kind != "style" else "picture"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} alike"


def _subject(learned: Learned) -> tuple[str, str]:
    """What is known, and the pronoun for it."""
    if learned.kind == "style":
        return "the style", "it"
    if learned.kind == "person":
        return "the person", "them"
    return (f"your {learned.class_noun}" if learned.class_noun else "your subject"), "it"


def _rounded(estimate: Estimate) -> list[float]:
    return [round(value, 4) for value in _triple(estimate)]


def _triple(estimate: Estimate) -> charts.Interval:
    return estimate.mean, estimate.low, estimate.high
