"""The evidence of a run: the report's pictures, and what a person says of each.

evidence.json    in the run's folder: by prompt, seed and strength, chosen or rejected, and why
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from personalization.adapters.adapter import Description
from personalization.errors import ReportError
from personalization.evaluation.recipe_words import method_in_words, settings_in_words
from personalization.evaluation.report import Report, Shot
from personalization.files import on_disk, size_words, write_atomically

FILE = "evidence.json"
FORMAT = 1
MAX_WHY = 200  # characters of a line
Verdict = Literal["chosen", "rejected", ""]
_WRITING = threading.Lock()  # a tick and a line are kept at once by one page


@dataclass(frozen=True)
class Judgement:
    """What a person says of a picture; "" for what they have not decided."""

    prompt: str
    seed: int
    strength: float
    verdict: Verdict = ""
    why: str = ""

    @classmethod
    def of(cls, shot: Shot) -> Judgement:
        """None yet."""
        return cls(shot.prompt, shot.seed, shot.strength)

    @property
    def key(self) -> str:
        """Of the picture it is about: short, and no text of anybody's."""
        what = json.dumps([self.prompt, self.seed, self.strength])
        return hashlib.sha256(what.encode()).hexdigest()[:16]


_ONE = TypeAdapter(Judgement)
_ALL = TypeAdapter(tuple[Judgement, ...])


@dataclass(frozen=True)
class Evidence:
    """The pictures with their judgements, and what they come of."""

    report: Report = field(repr=False)
    about: Description = field(repr=False)
    judgements: tuple[Judgement, ...]  # one for each of the report's shots
    version: str = "not published"

    @classmethod
    def open(cls, folder: Path, report: Report, about: Description) -> Evidence:
        """Of the run in `folder`; a judgement of a picture that is not there any more is left."""
        kept = {each.key: each for each in _read(folder)}
        asked = map(Judgement.of, report.shots)
        return cls(report, about, tuple(kept.get(each.key, each) for each in asked))

    def judged(self, verdict: Verdict) -> list[tuple[Shot, Judgement]]:
        """The pictures of that verdict."""
        pairs = zip(self.report.shots, self.judgements, strict=True)
        return [(shot, judgement) for shot, judgement in pairs if judgement.verdict == verdict]

    @property
    def model(self) -> str:
        """What drew the pictures."""
        about = self.about
        made = f" ({about.fingerprint[:12]})" if about.fingerprint else ""
        return f"{about.title or about.trigger} on {about.base or about.family}{made}"

    def note(self) -> Iterator[tuple[str, str]]:
        """The technical note: base, method, recipe, seconds, sizes, versions."""
        about, cost = self.about, self.report.cost
        yield "model", self.model
        yield "version", self.version
        rank = f", rank {about.rank}, alpha {about.alpha:g}" if about.rank else ""
        yield "method", f"{method_in_words(about.method)}{rank}"
        yield "recipe", ", ".join(map(": ".join, settings_in_words(about.recipe).items()))
        yield "strength", f"{about.strength:g}"
        yield "seconds", f"{cost.seconds:.0f} on {cost.device}" if cost.seconds else ""
        yield "memory", size_words(cost.memory) if cost.memory else ""
        yield "file", size_words(cost.size) if cost.size else ""
        yield "software", ", ".join(f"{name} {it}" for name, it in about.software.items())
        yield "made", about.created

    def as_dict(self) -> dict[str, Any]:
        """As JSON: the judgements, the note, and the report's failures."""
        return {
            "format": FORMAT,
            "judgements": [asdict(each) for each in self.judgements],
            "note": {name: value for name, value in self.note() if value},
            "failures": self.report.failures,
        }


def keep(folder: Path, judgement: Judgement, **said: str) -> Judgement:
    """Keep a `verdict` or a `why` of a picture, beside what was said of others; atomically.

    Raises `ReportError` for a verdict that is none and a line that is too long, `WorkspaceError`
    for a disk that is full.
    """
    said |= {"why": " ".join(said["why"].split())} if "why" in said else {}
    try:
        _ONE.validate_python(asdict(judgement) | said)
    except ValueError as error:
        raise ReportError(
            "A picture is chosen or rejected, or neither; and a line says why.", field="verdict"
        ) from error
    if (long := len(said.get("why", ""))) > MAX_WHY:
        raise ReportError(
            f"The line has {long} characters; at most {MAX_WHY} fit. Shorten it.", field="why"
        )
    with _WRITING, on_disk():
        kept = {each.key: each for each in _read(folder)}
        # What was said of it meanwhile counts: a tick and its line come at once.
        new = _ONE.validate_python(asdict(kept.pop(judgement.key, judgement)) | said)
        others = kept.values()
        content = [asdict(each) for each in (*others, new) if each.verdict or each.why]
        whole = {"format": FORMAT, "judgements": content}
        write_atomically(folder / FILE, json.dumps(whole, indent=1, ensure_ascii=False))
    return new


def _read(folder: Path) -> tuple[Judgement, ...]:
    """What is kept; nothing where there is none. Raises `ReportError` for a damaged file."""
    try:
        data = json.loads((folder / FILE).read_bytes())
        return _ALL.validate_python(data["judgements"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"What was said of the pictures of {folder.name} cannot be read: delete {FILE} in its "
            "folder, or bring back the one from your archive."
        ) from error
