"""A report: the figures of an evaluation, what they mean in words, and the pictures that show it.

It holds pictures that the models drew and never a photo: it is made to be handed on.

    report.json            everything but the pictures, and for people the sentences
    report/shot-00.png     the pictures at the recommended strength, the best first
    report/sweep-00.png    those of a few prompts at every strength
    report/untrained-00.png  without any training, where the base reads a reference
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from pydantic import Field, InstanceOf, TypeAdapter

from personalization.errors import ReportError
from personalization.evaluation import verdict
from personalization.evaluation.figures import Estimate, Figures
from personalization.evaluation.verdict import TrainedConcept
from personalization.files import write_atomically
from personalization.training.run import LossRow

FORMAT = 2


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
class Shot:
    """A picture that was judged."""

    image: Annotated[InstanceOf[Image.Image], Field(exclude=True)] = field(
        repr=False, compare=False
    )
    prompt: str
    seed: int
    strength: float
    subject_fidelity: float | None = None
    prompt_fidelity: float | None = None


@dataclass(frozen=True)
class Report:
    """`shots` are those at the recommended strength, the best first; `sweep` those of a few
    prompts at every strength."""

    concept: TrainedConcept
    cost: Cost
    figures: Figures | None
    shots: tuple[Shot, ...]
    losses: tuple[LossRow, ...] = ()
    sweep: tuple[Shot, ...] = ()
    limits: tuple[str, ...] = ()
    untrained: tuple[Shot, ...] = ()  # by the first photo as a reference, in the prompts' order
    evidence: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def verdict(self) -> str:
        """One to three sentences that a person understands."""
        if self.figures is None:
            return verdict.unmeasured(self.limits)
        return verdict.of(self.concept, self.figures, self.limits)

    @property
    def bought(self) -> str:
        """What training gave beyond a photo that is only looked at; empty where not measured."""
        return verdict.bought(self.figures) if self.figures else ""

    @property
    def failures(self) -> list[str]:
        """Where it is known to fail, in sentences."""
        return verdict.failures(self.concept, self.figures) if self.figures else []

    def strip(self, count: int = 8) -> list[tuple[Image.Image, str]]:
        """Pictures with captions: the best first, the worst last, named as such."""
        if self.figures is None or len(self.shots) < 2:
            return [(shot.image, shot.prompt) for shot in self.shots[:count]]
        # Beside the two ends, the first seed of each prompt: no selection of the best.
        best, worst = self.shots[0], self.shots[-1]
        firsts: dict[str, Shot] = {}
        for shot in sorted(self.shots, key=lambda shot: shot.seed):
            firsts.setdefault(shot.prompt, shot)
        others = [s for s in firsts.values() if s.prompt not in (best.prompt, worst.prompt)]
        return [
            (best.image, f"best: {best.prompt}"),
            *((shot.image, shot.prompt) for shot in others[: max(0, count - 2)]),
            (worst.image, f"worst: {worst.prompt}"),
        ]

    def summary(self) -> dict[str, Any]:
        """The figures that go into the adapter's header and the model card."""
        short: dict[str, Any] = {"verdict": self.verdict, "format": FORMAT}
        if f := self.figures:
            short |= {
                "strength": f.balance.strength,
                "subject_fidelity": _rounded(f.balance.subject_share),
                "prompt_fidelity": _rounded(f.balance.prompt_share),
                "drift": _rounded(f.drift.towards),
                "copies": f.copying.copies,
                "encoders": list(dict.fromkeys(f.encoders)),
            }
        return short

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures, and what follows from it for whoever reads the JSON."""
        data = _adapter().dump_python(self, mode="json")
        if f := self.figures:
            derived = {"subject_progress": f.subject_progress, "holds_until": f.holds_until}
            data["figures"] |= derived
        sentences = {"verdict": self.verdict, "failures": self.failures, "bought": self.bought}
        return {"format": FORMAT, **sentences, **data}

    def save(self, folder: Path) -> None:
        """report.json and its pictures in report/; the JSON last: then it is whole."""
        pictures = {"shot": self.shots, "sweep": self.sweep, "untrained": self.untrained}
        for name, shots in pictures.items():
            for index, shot in enumerate(shots):
                buffer = io.BytesIO()
                shot.image.save(buffer, "PNG")
                write_atomically(_picture(folder, name, index), buffer.getvalue())
        write_atomically(folder / "report.json", json.dumps(self.as_dict(), indent=1))

    @classmethod
    def open(cls, folder: Path) -> Report | None:
        """What `save` wrote into `folder`, by this version or 0.1.0; None where there is none.

        Raises `ReportError` where there is one that cannot be read.
        """
        try:
            data = json.loads((folder / "report.json").read_text())
            if data["format"] == 1:
                data = _from_format_1(data)
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']}")
            for name in ("shot", "sweep", "untrained"):
                key = "shots" if name == "shot" else name
                for index, shot in enumerate(data.get(key, ())):
                    shot["image"] = _opened(_picture(folder, name, index))
            return _adapter().validate_python(data)
        except FileNotFoundError as error:
            if Path(error.filename).name == "report.json":
                return None
            raise _damaged(folder, error) from error
        # A damaged file may be anything: pydantic raises ValueErrors, Pillow SyntaxErrors too.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
            raise _damaged(folder, error) from error


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def _damaged(folder: Path, error: Exception) -> ReportError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ReportError(
        f"The report of {folder.name} cannot be read; measure again. ({reason})", field="report"
    )


def _picture(folder: Path, name: str, index: int) -> Path:
    return folder / "report" / f"{name}-{index:02d}.png"


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def _rounded(estimate: Estimate) -> list[float]:
    return [round(value, 4) for value in (estimate.mean, estimate.low, estimate.high)]


# What version 0.1.0 wrote


def _from_format_1(data: dict[str, Any]) -> dict[str, Any]:
    concept = _renamed(data["learned"], noun="class_noun")
    if concept["method"] == "word":
        concept["method"] = "textual_inversion"
    return data | {
        "format": FORMAT,
        "concept": concept,
        "figures": data["figures"] and _figures_from_format_1(data["figures"]),
        "shots": [_renamed(shot, subject="subject_fidelity") for shot in data["shots"]],
        "sweep": [_renamed(shot, subject="subject_fidelity") for shot in data["sweep"]],
        "evidence": _renamed(data["evidence"], judges="encoders"),
    }


def _figures_from_format_1(data: dict[str, Any]) -> dict[str, Any]:
    fidelities = {"subject": "subject_fidelity", "prompt": "prompt_fidelity"}
    return _renamed(data, judges="encoders") | {
        "levels": [_renamed(level, **fidelities) for level in data["levels"]],
        "base": _renamed(data["base"], **fidelities),
        "balance": _renamed(data["balance"], **fidelities),
        "copying": _renamed(data["copying"], likeness="similarity"),
    }


def _renamed(data: dict[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in data.items()}
