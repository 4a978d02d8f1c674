"""The whole spectrum on the same photos: every way of teaching in turn, and one sheet of them.

    for event in teaching(base, run, queue(base, run)): ...   # ends with a `Spectrum`

Beside a finished run lie the others, runs of their own in its folder: what exists is taken, what
was cut off goes on. Each is measured by the report; the sheet asks all of them for the same
prompts at the same seeds, and last for the class without the word, where forgetting shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from personalization.adapters import adapter as adapters
from personalization.adapters.adapter import Adapter
from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.data.concept import Kind
from personalization.data.frames import square
from personalization.errors import PersonalizationError, RunError
from personalization.evaluation import report_html
from personalization.evaluation.comparison import Comparison
from personalization.evaluation.evaluate import reporting, sampling_of, untrained_guides
from personalization.evaluation.figures import Estimate
from personalization.evaluation.plan import SECONDS, seeds_of
from personalization.evaluation.prompts import Prompt, eval_prompts
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import PART, TITLES
from personalization.events import Event, SliceEnded, Stage
from personalization.files import size_words, write_atomically
from personalization.recipe import Recipe
from personalization.sampling import generate
from personalization.sampling.guides import NO_GUIDES, Guides
from personalization.sampling.guiding import guided
from personalization.sampling.image_grid import image_grid
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import estimate, presets
from personalization.training.loop import train
from personalization.training.presets import Intent
from personalization.training.run import Run
from personalization.training.start import start

UNTRAINED = "no training"
PROMPTS = 4  # of the sheet


@dataclass(frozen=True)
class Slice:
    """A share of the work: reports in parts of so many seconds, and when to end the learning."""

    part: float | None = None
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Spectrum:
    """Reports by the ways' titles, the sheet of them, and a sentence for each that is missing."""

    comparison: Comparison
    sheet: Image.Image
    missing: tuple[str, ...] = ()

    def keep(self, run: Run) -> Path:
        """spectrum.html, .png and .json in the run's folder, and into its report."""
        part = report_html.render_spectrum(self.comparison, self.sheet, self.missing, whole=False)
        write_atomically(run.folder / "spectrum.png", report_html.png(self.sheet))
        write_atomically(run.folder / "spectrum.json", json.dumps(self.as_dict(), indent=1))
        write_atomically(run.folder / PART, part)
        if report := Report.open(run.folder):
            whole = report_html.render(report, spectrum=part)
            write_atomically(run.folder / "report.html", whole)
        path = run.folder / "spectrum.html"
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


def queue(base: Base, run: Run, without: Sequence[str] = ()) -> tuple[dict[str, Run], list[str]]:
    """The runs, by way, and a sentence for each that cannot be.

    A way that the run itself went is the run. Raises `RunError` for one that has not finished, for
    a way that is none, and where none is left.
    """
    if run.state.status != "finished":
        raise RunError(f"The run in {run.folder.name} has not finished. Train it to its end first.")
    if unknown := set(without) - set(TITLES):
        raise RunError(
            f"“{min(unknown)[:20]}” is no way of the spectrum: it has {', '.join(TITLES)}."
        )
    runs, missing = {}, []
    for way, recipe in recipes(base.spec, run.concept.kind).items():
        if way in without:
            continue
        try:
            runs[way] = _run_of(base, run, way, recipe.changed(seed=run.recipe.seed))
        except PersonalizationError as error:
            missing.append(f"{TITLES[way]}: {error}")
    if not runs:
        raise RunError("Every way was left out, so there is nothing to compare.")
    return runs, missing


def estimated(base: Base, run: Run, without: Sequence[str] = ()) -> float | None:
    """What the ways take together, without beginning any; 0 where all is there."""
    runs, total = recipes(base.spec, run.concept.kind), 0.0
    for way, recipe in runs.items():
        if way in without:
            continue
        found = run if _goes(run, recipe) else _begun(run, way)
        if found is None:
            told = estimate.outlook(base, recipe).seconds
            if told is None:
                return None
            total += told + SECONDS
        else:
            total += seconds(base, {way: found}) or 0.0
    return total


def seconds(base: Base, runs: dict[str, Run]) -> float | None:
    """What is left of them takes about that long, reports and the sheet included."""
    total = 0.0
    for run in runs.values():
        reported = (run.folder / "report.json").exists()
        total += 0.0 if reported else SECONDS
        if run.state.status == "finished":
            continue
        told = estimate.outlook(base, run.recipe).seconds
        if told is None:
            return None
        total += told * (1 - run.state.step / run.recipe.steps)
    return total


def teaching(
    base: Base,
    run: Run,
    runs: dict[str, Run],
    missing: Sequence[str] = (),
    *,
    report_seconds: float | None = SECONDS,
    slice: Slice = Slice(),
) -> Iterator[Event | Stage | Report | Spectrum]:
    """Teach and measure what is not done, one after the other; ends with the `Spectrum`, saved.

    Stopped, it ends with `SliceEnded`, and goes on from there when it is called again.
    """
    reports: dict[str, Report] = {}
    for number, (way, each) in enumerate(runs.items(), 1):
        yield Stage(TITLES[way], number, len(runs))
        for step in train(base, each, cache=run.folder / "cache", stop=slice.stop):
            yield step
            if isinstance(step, SliceEnded):
                return
        report = Report.open(each.folder)
        if report is None:
            for event in reporting(base, each, seconds=report_seconds, part=slice.part):
                yield event
                if isinstance(event, SliceEnded):
                    return
                report = event if isinstance(event, Report) else report
        assert report is not None
        reports[TITLES[way]] = report
    sheet = yield from _sheet(base, run, runs)
    spectrum = Spectrum(Comparison(reports), sheet, tuple(missing))
    spectrum.keep(run)
    yield spectrum


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


def _sheet(base: Base, run: Run, runs: dict[str, Run]) -> Generator[Stage, None, Image.Image]:
    """Rows the ways, the first without training where the base reads a reference."""
    taught = {way: adapters.read(each.adapter_path) for way, each in runs.items()}
    rows: list[list[Image.Image]] = []
    labels: list[str] = []
    crops = [square(photo, base.spec.size, run.recipe.framing) for photo in run.concept.photos]
    guides = untrained_guides(base, crops, run.concept.kind)
    total = len(taught) + (guides is not NO_GUIDES)
    first = next(iter(taught.values()))
    asked = _prompts(first)
    if guides is not NO_GUIDES:
        yield Stage("the sheet", 0, total)
        rows.append(_drawn(base, None, [prompt.of_class for prompt in asked], guides))
        labels.append(UNTRAINED)
    for way, adapter in taught.items():
        yield Stage("the sheet", len(rows), total)
        prompts = [prompt.of_subject for prompt in _prompts(adapter)]
        rows.append(_drawn(base, adapter, [*prompts, asked[0].of_class]))
        labels.append(f"{TITLES[way]}, {size_words(runs[way].adapter_path.stat().st_size)}")
    columns = [prompt.of_class for prompt in asked] + [f"{asked[0].of_class}, without the word"]
    yield Stage("the sheet", total, total)
    return image_grid(rows, labels, columns)


def _prompts(adapter: Adapter) -> list[Prompt]:
    return eval_prompts(adapter.description, PROMPTS)


def _drawn(
    base: Base, adapter: Adapter | None, prompts: Sequence[str], guides: Guides = NO_GUIDES
) -> list[Image.Image]:
    """As the report draws, at the adapter's own strength."""
    settings = sampling_of(base)
    seeds = [*seeds_of(PROMPTS), seeds_of(1)[0]][: len(prompts)]
    slots = (Slot(adapter, adapter.description.strength),) if adapter else ()
    with ExitStack() as undo:
        undo.enter_context(applied(base, Stack(slots)))
        undo.enter_context(guided(base, guides, guidance=settings.guidance or 0.0))
        return generate.draw_each(base, prompts, seeds, settings)
