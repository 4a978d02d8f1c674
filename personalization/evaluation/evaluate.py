"""What was learned, what was lost, and at which strength: an adapter measured beside references.

Every picture is kept until the report is written, so that it can be made in parts as a run is
(`reporting`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

import torch
from PIL import Image

from personalization.adapters import adapter as adapters
from personalization.adapters.adapter import Adapter
from personalization.adapters.formats import diffusers_metadata
from personalization.bases import encoders
from personalization.bases.base import Base
from personalization.bases.catalog import BaseSpec
from personalization.bases.encoders import EncoderPair
from personalization.bases.guide_loading import reference_at_hand
from personalization.errors import PersonalizationError
from personalization.evaluation import report_html
from personalization.evaluation.measure import measuring
from personalization.evaluation.plan import SECONDS, Budget
from personalization.evaluation.renderer import Drawing, ImageCache, Renderer, never
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import part_in
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import SliceEnded, Stage
from personalization.files import write_atomically
from personalization.sampling import generate, pace
from personalization.sampling.guides import NO_GUIDES, Guides, without_training
from personalization.sampling.guiding import guided, usable
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training.run import Run

SAMPLING = 0.7  # of the base's own sampling steps: judged alike, and a third cheaper


def evaluate(
    base: Base,
    trained: Run | TrainedAdapter,
    budget: Budget | None = None,
    *,
    on_progress: Callable[[Stage], None] | None = None,
) -> Report:
    """The report of a run, or of an adapter with its photos; see `evaluating`."""
    for event in evaluating(base, trained, budget):
        if isinstance(event, Report):
            return event
        if on_progress and isinstance(event, Stage):
            on_progress(event)
    raise AssertionError("evaluating ends with a Report")


def evaluating(
    base: Base,
    trained: Run | TrainedAdapter,
    budget: Budget | None = None,
    *,
    image_cache: ImageCache | None = None,
    out_of_time: Callable[[float], bool] = never,
) -> Iterator[Stage | SliceEnded | Report]:
    """Tell how far it is, then give the report.

    `image_cache` remembers what was drawn and how much was planned, for whoever goes on or
    compares. `out_of_time(seconds)` says whether so many seconds are too many now: then it ends
    with `SliceEnded`, its steps being pictures. Where the encoder cannot be loaded, the report has
    pictures and cost, and says why it has no figures. Raises `PhotoError` where there are no photos
    to compare with, `AdapterError` where a run's adapter is missing, and what `stack.applied` does.
    """
    if isinstance(trained, Run):
        trained = TrainedAdapter.of_run(trained, adapters.read(trained.adapter_path), base)
    yield Stage("the judge", 0, 1)
    encoder_pair, missing = _encoder_pair(base)
    settings = sampling_of(base)
    conditions = f"{base.fingerprint}/{base.spec.size}/{settings.steps}/{settings.guidance:g}"
    conditions += "/fast" if settings.fast else ""
    crops = trained.squares(base.spec.size)
    guides = untrained_guides(base, crops, trained.description.kind)
    renderer = Renderer(
        _drawing(base, trained.adapter, settings, guides),
        image_cache,
        base=conditions,
        trained=f"{conditions}/{trained.adapter.sha256}",
        out_of_time=out_of_time,
        per_batch=generate.per_batch(base),
    )
    poses = encoders.encoder_spec(base.spec.encoder).poses
    budget = replace(budget or Budget(), untrained=guides is not NO_GUIDES)
    for event in measuring(trained, crops, renderer, encoder_pair, budget, poses=poses):
        if isinstance(event, Report):
            event = replace(
                event,
                evidence=event.evidence | _evidence(base, settings),
                limits=(*missing, *event.limits),
            )
        yield event


def reporting(
    base: Base,
    run: Run,
    *,
    seconds: float | None = SECONDS,
    part: float | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Stage | SliceEnded | Report]:
    """One part of a finished run's report, at most about `part` seconds long.

    Ends with `SliceEnded` where time is over, or `run.stop()` was called or `stop()` says so: the
    pictures stay in the run's folder, and the next part goes on from them. Ends with the `Report`
    once it is written into the folder and the adapter. Raises what `evaluating` does, and
    `RunError` where somebody else works on the run.
    """
    end = None if part is None else time.monotonic() + part
    cache = run.folder / "cache"
    cache.mkdir(exist_ok=True)
    image_cache = ImageCache(cache / "report")

    def out_of_time(needed: float) -> bool:
        stopped = run.stop_requested or bool(stop and stop())
        return stopped or (end is not None and time.monotonic() + needed > end)

    with run.locked():
        for event in evaluating(
            base, run, Budget(seconds), image_cache=image_cache, out_of_time=out_of_time
        ):
            if isinstance(event, Report):
                store(run, event)
                image_cache.delete()
            yield event


def store(run: Run, report: Report) -> Adapter:
    """Write the report beside the run, and its strength and figures into the adapter's header."""
    adapter = adapters.read(run.adapter_path)
    recommended = adapter.description.strength
    strength = report.figures.balance.strength if report.figures else recommended
    adapter = adapter.described(strength=strength, report=report.summary())
    adapter.save(run.adapter_path, metadata=diffusers_metadata(adapter))
    write_atomically(
        run.folder / "report.html", report_html.render(report, spectrum=part_in(run.folder))
    )
    report.save(run.folder)
    return adapter


def _encoder_pair(base: Base) -> tuple[EncoderPair | None, tuple[str, ...]]:
    """The base's encoders; or none, and why."""
    try:
        return encoders.encoder_pair(base.spec, base.device), ()
    except PersonalizationError as error:
        return None, (str(error),)


def sampling_of(base: Base) -> Settings:
    """With fewer steps than the base's own; in a few by its LoRA for it where it is slow here."""
    return generate.as_drawn(base, generate.quick(base, Settings(steps=_steps(base.spec))))


def expected_seconds(
    spec: BaseSpec, device: torch.device, *, word: bool, seconds: float = SECONDS
) -> float | None:
    """What a report takes, of about `seconds` where a plan is that cheap; None: not known."""
    each = pace.previewed(spec, device, _steps(spec))
    return each and each * Budget(seconds).afford(each, word=word).pictures(word=word)


def _steps(spec: BaseSpec) -> int:
    return max(1, round(SAMPLING * spec.sampling.steps))


def untrained_guides(base: Base, crops: Sequence[Image.Image], kind: str) -> Guides:
    """The first photo as a reference, where the base has what reads it on this machine.

    It is not fetched for a report: the image encoder of Stable Diffusion's weighs 2.5 GB.
    """
    if not crops or not reference_at_hand(base):
        return NO_GUIDES
    guides, _ = usable(base, without_training(crops[0], kind), crops[0].size)
    return guides


def _drawing(base: Base, adapter: Adapter, settings: Settings, untrained: Guides) -> Drawing:
    def draw(
        strength: float | None, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        guides = untrained if strength is None else NO_GUIDES
        with (
            applied(base, Stack((Slot(adapter, strength),) if strength else ())),
            guided(base, guides, guidance=settings.guidance or 0.0),
        ):
            return generate.draw_each(base, prompts, seeds, settings)

    return draw


def _evidence(base: Base, settings: Settings) -> dict[str, str]:
    """How the pictures were made, and what the encoders are worth."""
    evidence = {
        "base": base.spec.title,
        "fingerprint of the base": base.fingerprint,
        "sampling": f"{settings.steps} steps, guidance {settings.guidance:g}"
        + (", by LCM-LoRA" if settings.fast else ""),
        **{name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    agreement = encoders.encoder_spec(base.spec.encoder).agreement
    if agreement is not None:
        correlation = f"rank correlation {agreement} with true attributes"
        evidence["how far the judge can be trusted"] = correlation
    return evidence
