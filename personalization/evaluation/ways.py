"""The whole spectrum on the same photos: every way of teaching in turn, and one sheet of them.

    for event in teaching(base, run, queue(base, run)): ...   # ends with a `Spectrum`

Beside a finished run lie the others, runs of their own in its folder: what exists is taken, what
was cut off goes on. Each is measured by the report; the sheet asks all of them for the same
prompts at the same seeds, and last for the class without the word, where forgetting shows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.data.concept import Kind
from personalization.errors import PersonalizationError, RunError
from personalization.evaluation import report_html
from personalization.evaluation.comparison import Comparison
from personalization.evaluation.evaluate import expected_seconds, reporting
from personalization.evaluation.figures import Estimate
from personalization.evaluation.plan import SECONDS
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import PAGE, PART, PICTURE, TABLE, TITLES
from personalization.evaluation.spectrum_sheet import LEAST, drawing
from personalization.events import Event, SliceEnded, Stage
from personalization.files import write_atomically
from personalization.recipe import Recipe
from personalization.training import estimate, presets
from personalization.training.loop import train
from personalization.training.presets import Intent
from personalization.training.run import Run
from personalization.training.start import disk_needed, start


@dataclass(frozen=True)
class Slice:
    """A share of the work: seconds in all, seconds of a report at once, and what else ends it."""

    seconds: float | None = None
    part: float | None = None
    stop: Callable[[], bool] | None = None
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        """Seconds, where they are counted."""
        return None if self.seconds is None else self.seconds - (time.monotonic() - self.begun)

    def over(self, least: float = LEAST) -> bool:
        """Whether it is stopped, or less is left than that."""
        left = self.left
        return bool(self.stop and self.stop()) or (left is not None and left < least)

    @property
    def report(self) -> float | None:
        """Seconds of the next part of a report."""
        known = [seconds for seconds in (self.part, self.left) if seconds is not None]
        return min(known) if known else None


@dataclass(frozen=True)
class Spectrum:
    """Reports by the ways' titles, the sheet of them, and a sentence for each that is missing."""

    comparison: Comparison
    sheet: Image.Image
    missing: tuple[str, ...] = ()

    def keep(self, run: Run) -> Path:
        """spectrum.html, .png and .json in the run's folder, and into its report."""
        part = report_html.render_spectrum(self.comparison, self.sheet, self.missing, whole=False)
        write_atomically(run.folder / PICTURE, report_html.png(self.sheet))
        write_atomically(run.folder / TABLE, json.dumps(self.as_dict(), indent=1))
        write_atomically(run.folder / PART, part)
        if report := Report.open(run.folder):
            whole = report_html.render(report, spectrum=part)
            write_atomically(run.folder / "report.html", whole)
        path = run.folder / PAGE
        page = report_html.render_spectrum(self.comparison, self.sheet, self.missing)
        return write_atomically(path, page)

    def as_dict(self) -> dict[str, Any]:
        """The table and what it means."""
        return {
            "verdict": self.comparison.verdict,
            "behind": self.comparison.behind,
            "forgetting": self.comparison.forgetting,
            "rows": [
                {name: asdict(v) if isinstance(v, Estimate) else v for name, v in row.items()}
                for row in report_html.spectrum_rows(self.comparison)
            ],
            "missing": self.missing,
        }


def recipes(spec: BaseSpec, kind: Kind) -> dict[str, Recipe]:
    """Each way's, by the base's own defaults."""
    intent = Intent(kind)
    lora = presets.recipe_of(spec, "lora", intent)
    return {
        "word": presets.recommend(spec, "word", intent, full=False).recipe,
        "lora": lora,
        "lokr": presets.recipe_of(spec, "lokr", intent),
        "full": presets.recipe_of(spec, "full", intent),
        "unpreserved": replace(lora, prior=None),
    }


def check(run: Run, without: Sequence[str]) -> None:
    """Raise `RunError` for a run that has not finished, a way that is none, and where none is
    left."""
    if run.state.status != "finished":
        raise RunError(f"The run in {run.folder.name} has not finished. Train it to its end first.")
    if unknown := set(without) - set(TITLES):
        raise RunError(
            f"“{min(unknown)[:20]}” is no way of the spectrum: it has {', '.join(TITLES)}."
        )
    if set(without) >= set(TITLES):
        raise RunError("Every way was left out, so there is nothing to compare.")


def queue(base: Base, run: Run, without: Sequence[str] = ()) -> tuple[dict[str, Run], list[str]]:
    """The runs, by way, and a sentence for each that cannot be.

    A way that the run itself went is the run. Raises what `check` does, and `RunError` where this
    base can go none.
    """
    check(run, without)
    runs, missing = {}, []
    for way, recipe in recipes(base.spec, run.concept.kind).items():
        if way in without:
            continue
        try:
            runs[way] = _run_of(base, run, way, recipe.changed(seed=run.recipe.seed))
        except PersonalizationError as error:
            missing.append(f"{TITLES[way]}: {error}")
    if not runs:
        raise RunError(" ".join(missing))
    return runs, missing


def outstanding(base: Base, run: Run, without: Sequence[str] = ()) -> dict[str, float | None]:
    """What each way still takes, without beginning any; 0 where it is there, None where untold."""
    left: dict[str, float | None] = {}
    for way, recipe in recipes(base.spec, run.concept.kind).items():
        if way in without:
            continue
        found = run if _goes(run, recipe) else _begun(run, way)
        if found:
            left[way] = seconds(base, {way: found})
            continue
        with suppress(PersonalizationError):  # a way that cannot be gone takes nothing
            told = estimate.outlook(base, recipe).seconds
            left[way] = None if told is None else told + _report(base, way)
    return left


def estimated(base: Base, run: Run, without: Sequence[str] = ()) -> float | None:
    """What the ways take together; 0 where all is there."""
    left = outstanding(base, run, without).values()
    return None if None in left else sum(each or 0.0 for each in left)


def seconds(base: Base, runs: dict[str, Run]) -> float | None:
    """What is left of them takes about that long, reports and the sheet included."""
    total = 0.0
    for way, run in runs.items():
        reported = (run.folder / "report.json").exists()
        total += 0.0 if reported else _report(base, way)
        if run.state.status == "finished":
            continue
        told = estimate.outlook(base, run.recipe).seconds
        if told is None:
            return None
        total += told * (1 - run.state.step / run.recipe.steps)
    return total


def _report(base: Base, way: str) -> float:
    """Seconds that a way's report takes, about."""
    return expected_seconds(base.spec, base.device, word=way == "word") or SECONDS


def disk(base: Base, run: Run, without: Sequence[str] = ()) -> int:
    """Bytes that the ways which have not begun may come to, where they count."""
    return sum(
        disk_needed(base, recipe)
        for way, recipe in recipes(base.spec, run.concept.kind).items()
        if way not in without and not _goes(run, recipe) and not _begun(run, way)
    )


def teaching(
    base: Base,
    run: Run,
    runs: dict[str, Run],
    missing: Sequence[str] = (),
    *,
    report_seconds: float | None = SECONDS,
    slice: Slice | None = None,
) -> Iterator[Event | Stage | Report | Spectrum]:
    """Teach and measure what is not done, one after the other; ends with the `Spectrum`, saved.

    Where its `slice` is over it ends with `SliceEnded`, and goes on from there when it is called
    again. Raises what `train` and `reporting` do.
    """
    slice = slice or Slice()
    reports: dict[str, Report] = {}
    for number, (way, each) in enumerate(runs.items(), 1):
        yield Stage(TITLES[way], number, len(runs))
        report = Report.open(each.folder) if each.state.status == "finished" else None
        if report is None:
            report = yield from _taught(base, each, run.folder / "cache", report_seconds, slice)
        if report is None:
            return
        if each.folder != run.folder:  # three times the model, of a full fine-tune
            each.checkpoint_path.unlink(missing_ok=True)
        reports[TITLES[way]] = report
    sheet = yield from drawing(base, run, runs, slice.over)
    if sheet is None:
        return
    spectrum = Spectrum(Comparison(reports), sheet, tuple(missing))
    spectrum.keep(run)
    yield spectrum


def _taught(
    base: Base, run: Run, cache: Path, report_seconds: float | None, slice: Slice
) -> Generator[Event | Stage | Report, None, Report | None]:
    """One way, as far as the slice goes; its report where it came to that."""
    for step in train(base, run, cache=cache, seconds=slice.left, stop=slice.stop):
        yield step
        if isinstance(step, SliceEnded):
            return None
    if slice.over():
        yield SliceEnded(run.state.step, run.recipe.steps)
        return None
    parts = reporting(base, run, seconds=report_seconds, part=slice.report, stop=slice.stop)
    for event in parts:
        yield event
        if isinstance(event, Report):
            return event
    return None


def _goes(run: Run, recipe: Recipe) -> bool:
    """Whether the run itself went that way."""
    own = run.recipe
    return own.method_name == recipe.method_name and bool(own.prior) == bool(recipe.prior)


def _begun(run: Run, way: str) -> Run | None:
    folder = run.folder / "spectrum" / way
    return Run.open(folder) if (folder / "run.json").exists() else None


def _run_of(base: Base, run: Run, way: str, recipe: Recipe) -> Run:
    """The run that goes that way: the given one, one begun before, or a new one."""
    if _goes(run, recipe):
        return run
    if begun := _begun(run, way):
        return begun
    concept = run.concept
    if way == "word":  # a row for a token of its own
        word = f"<{concept.placeholder_token.strip('<>')}>"
        concept = replace(concept, placeholder_token=word)
    return start(run.folder / "spectrum" / way, base, concept, recipe.changed(preview_every=0))
