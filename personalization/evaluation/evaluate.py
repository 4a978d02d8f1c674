"""What was learned, what was lost, and at which strength: an adapter measured beside references.

    photos ─┐
    base ───┼─> features ─> metrics ─> Report
    adapter ┘

The same prompts at the same seeds are drawn by the untouched base and by the adapter at each
strength of a sweep; so differences are taken in pairs, and two runs compare. Every picture is kept
until the report is written, so that it can be made in parts as a run is (`reporting`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from personalization.adapters import adapter as adapters
from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.formats import diffusers_metadata
from personalization.bases.base import Base
from personalization.data.photos import Photo, crop
from personalization.errors import PersonalizationError, PhotoError
from personalization.evaluation import encoders, metrics
from personalization.evaluation.encoders import EncoderPair
from personalization.evaluation.metrics import interval
from personalization.evaluation.prompts import Prompt, eval_prompts, unrelated, with_article
from personalization.evaluation.renderer import ImageCache, Paused, Renderer
from personalization.evaluation.report import (
    Comparison,
    Copying,
    Cost,
    Drift,
    Figures,
    Learned,
    Level,
    Report,
    Shot,
    Stability,
)
from personalization.events import SliceEnded, Stage
from personalization.sampling import generate
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training.run import LossRow, Run

STRENGTHS = (0.2, 0.5, 0.8, 1.1, 1.5)
SEED = 20_000  # far from the small numbers that people and previews use
SECONDS = 60.0  # that a report may take, about
SWEPT_PROMPTS = 3  # shown at every strength
SAMPLING = 0.7  # of the base's own sampling steps: judged alike, and a third cheaper


@dataclass(frozen=True)
class Plan:
    """How many pictures a report may cost."""

    prompts: int = 8
    seeds: int = 2  # of each prompt, at the chosen strength
    class_pictures: int = 8
    unrelated: int = 10
    strengths: tuple[float, ...] = STRENGTHS

    def pictures(self, *, word: bool) -> int:
        """In all; a learned word has one strength and nothing to lose."""
        lost = self.class_pictures + self.unrelated
        drawn = self.prompts * self.seeds + lost  # by the base
        strengths = 1 if word else len(self.strengths)
        return drawn + self.prompts * (strengths + self.seeds - 1) + (0 if word else lost)


# From the best to the cheapest; the prompts of each begin with those of the next.
PLANS = (
    Plan(),
    Plan(seeds=1, class_pictures=6, unrelated=6),
    Plan(seeds=1, class_pictures=6, unrelated=6, strengths=(0.5, 0.8, 1.1)),
    Plan(prompts=4, seeds=1, class_pictures=4, unrelated=4, strengths=(0.5, 0.8, 1.1)),
)
TRIED_FIRST = 0.8  # a strength of every plan: its pictures are timed


@dataclass(frozen=True)
class Subject:
    """What is measured: an adapter with the photos that it was made from, and what it cost."""

    adapter: Adapter
    photos: Sequence[Photo]
    cost: Cost
    losses: tuple[LossRow, ...] = ()

    @property
    def description(self) -> Description:
        return self.adapter.description


def of_run(run: Run, base: Base) -> Subject:
    """A finished run. Raises `AdapterError` where its adapter is missing."""
    adapter = adapters.read(run.adapter_path)
    cost = Cost(
        seconds=run.state.seconds,
        gpu_seconds=run.state.seconds if base.device.type != "cpu" else 0.0,
        memory=run.state.memory,
        size=run.adapter_path.stat().st_size,
        steps=run.state.step,
        device=base.device.type,
        whole=2 * sum(p.numel() for m in base.modules.values() for p in m.parameters()),
    )
    return Subject(adapter, run.concept.photos, cost, tuple(run.losses()))


def of_adapter(adapter: Adapter, photos: Sequence[Photo]) -> Subject:
    """An adapter whose run is not here: what it cost is not known but for its size."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in adapter.tensors.values())
    return Subject(adapter, tuple(photos), Cost(size=size))


def evaluate(
    base: Base,
    subject: Run | Adapter | Subject,
    photos: Sequence[Photo] = (),
    *,
    seconds: float | None = SECONDS,
    plans: Sequence[Plan] = PLANS,
    on_progress: Callable[[Stage], None] | None = None,
) -> Report:
    """The report of a run, or of an adapter with its photos; see `evaluating`."""
    for event in evaluating(base, subject, photos, seconds=seconds, plans=plans):
        if isinstance(event, Report):
            return event
        if on_progress and isinstance(event, Stage):
            on_progress(event)
    raise AssertionError("evaluating ends with a Report")


def evaluating(
    base: Base,
    subject: Run | Adapter | Subject,
    photos: Sequence[Photo] = (),
    *,
    seconds: float | None = SECONDS,
    plans: Sequence[Plan] = PLANS,
    image_cache: ImageCache | None = None,
    out_of_time: Callable[[float], bool] = lambda seconds: False,
) -> Iterator[Stage | SliceEnded | Report]:
    """Tell how far it is, then give the report.

    `photos` are needed with an adapter alone; a run has its own. `seconds` is about what it may
    take: fewer prompts are drawn where the machine is slow. `image_cache` remembers what was drawn
    and how much was planned, for whoever goes on or compares. `out_of_time(seconds)` says
    whether so many seconds are too many now: then it ends with `SliceEnded`, its steps being
    pictures. Where the encoder cannot be loaded, the report has pictures and cost, and says why it
    has no figures. Raises `PhotoError` where there are no photos to compare with, and what
    `stack.applied` raises.
    """
    if isinstance(subject, Run):
        subject = of_run(subject, base)
    elif isinstance(subject, Adapter):
        subject = of_adapter(subject, photos)
    adapter = subject.adapter
    yield Stage("the judge", 0, 1)
    encoder_pair: EncoderPair | None = None
    missing = ""
    try:
        encoder_pair = encoders.encoder_pair(base.spec, base.device)
    except PersonalizationError as error:
        missing = str(error)

    sampling = base.spec.sampling
    steps = max(1, round(SAMPLING * sampling.steps))

    def draw(strength: float, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        with applied(base, Stack((Slot(adapter, strength),) if strength else ())):
            return generate.draw_each(base, prompts, seeds, steps=steps)

    how = f"{base.fingerprint}/{base.spec.size}/{steps}/{sampling.guidance:g}"
    renderer = Renderer(
        draw, image_cache, base=how, trained=f"{how}/{adapter.sha256}", out_of_time=out_of_time
    )
    crops = [crop(photo, base.spec.size) for photo in subject.photos]
    poses = base.spec.encoder != "pocket"
    for event in measuring(
        subject, crops, renderer, encoder_pair, plans=plans, seconds=seconds, poses=poses
    ):
        if isinstance(event, Report):
            evidence = event.evidence | {
                "base": base.spec.title,
                "fingerprint of the base": base.fingerprint,
                "sampling": f"{steps} steps, guidance {sampling.guidance:g}",
                **{name: version(name) for name in ("torch", "diffusers", "transformers")},
            }
            if base.spec.encoder == "pocket":
                agreement = f"rank correlation {encoders.POCKET_AGREEMENT} with true attributes"
                evidence["how far the judge can be trusted"] = agreement
            limits = (missing, *event.limits) if missing else event.limits
            event = replace(event, evidence=evidence, limits=limits)
        yield event


def measuring(
    subject: Subject,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    encoder_pair: EncoderPair | None,
    *,
    plans: Sequence[Plan] = PLANS,
    seconds: float | None = None,
    poses: bool = False,
) -> Iterator[Stage | SliceEnded | Report]:
    """The report over any way of drawing. `photos` are cropped as trained on.

    Without an `encoder_pair` it draws one strip and measures nothing. Where the time is over it
    ends with `SliceEnded`. Raises `PhotoError` without photos.
    """
    if not photos:
        raise PhotoError(
            "There are no photos to compare with. Add those that it was taught from.",
            field="photos",
        )
    description = subject.description
    captions = [photo.caption or "" for photo in subject.photos]
    try:
        if encoder_pair is None:
            prompts = eval_prompts(description, 8, captions, poses=poses)
            yield (yield from _unmeasured(subject, renderer, prompts))
        else:
            plan = yield from _afforded(
                renderer, description, captions, plans, seconds, poses=poses
            )
            prompts = eval_prompts(description, plan.prompts, captions, poses=poses)
            yield (yield from _measured(subject, photos, renderer, encoder_pair, plan, prompts))
    except Paused:
        yield SliceEnded(renderer.done, max(renderer.done, renderer.total))


def _measured(
    subject: Subject,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    encoder_pair: EncoderPair,
    plan: Plan,
    prompts: Sequence[Prompt],
) -> Generator[Stage, None, Report]:
    description = subject.description
    word = description.method == "textual_inversion"
    asked, plain = [p.asked for p in prompts], [p.plain for p in prompts]
    n = len(prompts)
    seeds = _seeds(n, plan.seeds)  # every prompt once, then every prompt again
    strengths = (1.0,) if word else plan.strengths
    scale = _Scale(encoder_pair, photos, plain)

    untouched = scale.seen((yield from renderer.draw("the base", 0.0, plain * plan.seeds, seeds)))
    swept = []
    for strength in strengths:
        shots = yield from renderer.draw(f"strength {strength:g}", strength, asked, seeds[:n])
        swept.append(scale.seen(shots))
    levels = [scale.level(s, seen, untouched) for s, seen in zip(strengths, swept, strict=True)]
    best = metrics.balance(
        torch.tensor([level.subject_share.mean for level in levels]),
        torch.tensor([level.prompt_share.mean for level in levels]),
    )
    strength = strengths[best]
    shots = yield from renderer.draw("more seeds", strength, asked * plan.seeds, seeds)
    chosen = scale.seen(shots)
    drift = yield from _drift(renderer, scale, description, plan, strength)

    product = chosen.subject / scale.reference * (chosen.prompt / untouched.prompt.mean())
    by_prompt = product.reshape(-1, n)
    figures = Figures(
        levels=tuple(levels),
        base=scale.level(0.0, untouched, untouched),
        real=interval(scale.real) if len(scale.real) > 1 else None,
        balance=scale.level(strength, chosen, untouched),
        gained=interval(scale.by_prompt(chosen.subject - untouched.subject)),
        reference=scale.reference,
        drift=drift,
        copying=_copying(shots, photos),
        stability=Stability(
            over_prompts=float(by_prompt.mean(0).std()),
            over_seeds=float(by_prompt.std(0).mean()) if plan.seeds > 1 else None,
            worst=asked[int(by_prompt.mean(0).argmin())],
        ),
        by_prompt={
            prompt: (float(s), float(p))
            for prompt, s, p in zip(
                plain,
                scale.by_prompt(chosen.subject),
                scale.by_prompt(chosen.prompt),
                strict=True,
            )
        },
        encoders=(encoder_pair.subject.name, encoder_pair.prompt.name),
        pictures=renderer.done,
    )

    def shot(seen: _Seen, i: int, at: float) -> Shot:
        return Shot(
            seen.pictures[i],
            asked[i % n],
            seeds[i],
            at,
            float(seen.subject[i]),
            float(seen.prompt[i]),
        )

    return Report(
        learned=_learned(description),
        cost=subject.cost,
        losses=subject.losses,
        figures=figures,
        shots=tuple(shot(chosen, i, strength) for i in product.argsort(descending=True).tolist()),
        sweep=tuple(
            shot(seen, i, at)
            for i in range(min(n, SWEPT_PROMPTS))
            for at, seen in zip(strengths, swept, strict=True)
        ),
        limits=_limits(figures, scale.photos, description),
        evidence={"judges": list(dict.fromkeys(figures.encoders)), "prompts": asked},
    )


def reporting(
    base: Base, run: Run, *, seconds: float | None = SECONDS, part: float | None = None
) -> Iterator[Stage | SliceEnded | Report]:
    """One part of a finished run's report, at most about `part` seconds long.

    Ends with `SliceEnded` where time is over or `run.stop()` was called: the pictures stay in the
    run's folder, and the next part goes on from them. Ends with the `Report` once it is written
    into the folder and the adapter. Raises what `evaluating` does, and `RunError` where somebody
    else works on the run.
    """
    end = None if part is None else time.monotonic() + part
    image_cache = ImageCache(run.folder / "cache" / "report")

    def out_of_time(needed: float) -> bool:
        return run.stop_requested or (end is not None and time.monotonic() + needed > end)

    with run.locked():
        for event in evaluating(
            base, run, seconds=seconds, image_cache=image_cache, out_of_time=out_of_time
        ):
            if isinstance(event, Report):
                store(run, event)
                image_cache.delete()
            yield event


def store(run: Run, report: Report) -> Adapter:
    """Write the report beside the run, and its strength and figures into the adapter's header."""
    adapter = adapters.read(run.adapter_path)
    known = adapter.description.strength
    strength = report.figures.balance.strength if report.figures else known
    adapter = adapter.described(strength=strength, report=report.summary())
    adapter.save(run.adapter_path, metadata=diffusers_metadata(adapter))
    report.save(run.folder)
    return adapter


def comparing(
    base: Base, subjects: Mapping[str, Run | Subject], *, seconds: float | None = SECONDS
) -> Iterator[Stage | Comparison]:
    """The same photos taught in several ways, by name, on one plan; the base is drawn once.

    `seconds` is for each.
    """
    image_cache = ImageCache()
    reports = {}
    for name, subject in subjects.items():
        for event in evaluating(base, subject, seconds=seconds, image_cache=image_cache):
            if isinstance(event, Report):
                reports[name] = event
            elif isinstance(event, Stage):
                yield replace(event, name=f"{name}: {event.name}")
    yield Comparison(reports)


@dataclass(frozen=True)
class _Seen:
    """Pictures of every prompt of the bank, round by round, and what the judges say of each."""

    pictures: Sequence[Image.Image]
    subject: Tensor
    prompt: Tensor


class _Scale:
    """Measures pictures of the bank's prompts against the photos and the untouched base."""

    def __init__(
        self, encoder_pair: EncoderPair, photos: Sequence[Image.Image], plain: Sequence[str]
    ):
        self.encoder_pair = encoder_pair
        self.photos = encoder_pair.subject.images(photos)
        self.texts = encoder_pair.prompt.texts(plain)
        self.real = metrics.among_themselves(self.photos)
        # One photo has no other to be like: then identity stands in for the reference.
        self.reference = float(self.real.mean()) if len(self.real) else 1.0

    def seen(self, pictures: Sequence[Image.Image]) -> _Seen:
        texts = self.texts.repeat(len(pictures) // len(self.texts), 1)
        return _Seen(
            pictures,
            metrics.subject_fidelity(self.encoder_pair.subject.images(pictures), self.photos),
            metrics.prompt_fidelity(self.encoder_pair.prompt.images(pictures), texts),
        )

    def by_prompt(self, values: Tensor) -> Tensor:
        """(rounds * prompts,) to (prompts,): pictures of one prompt are not independent."""
        return values.reshape(-1, len(self.texts)).mean(0)

    def level(self, strength: float, seen: _Seen, untouched: _Seen) -> Level:
        subject, prompt = self.by_prompt(seen.subject), self.by_prompt(seen.prompt)
        base = self.by_prompt(untouched.prompt[: len(seen.prompt)])
        return Level(
            strength,
            interval(subject),
            interval(prompt),
            interval(subject / self.reference),
            interval(prompt, over=base),
        )


def _afforded(
    renderer: Renderer,
    description: Description,
    captions: Sequence[str],
    plans: Sequence[Plan],
    seconds: float | None,
    *,
    poses: bool,
) -> Generator[Stage, None, Plan]:
    """The plan that was agreed on before, or the largest one that fits into `seconds`.

    The base warms up, then the adapter is timed: its pictures are never remembered ones.
    """
    word = description.method == "textual_inversion"
    if agreed := renderer.image_cache.plan:
        plan = Plan(**agreed | {"strengths": tuple(agreed["strengths"])})
        renderer.total = plan.pictures(word=word)
        return plan
    first = eval_prompts(description, plans[-1].prompts, captions, poses=poses)
    seeds = _seeds(len(first))
    yield from renderer.draw("the base", 0.0, [p.plain for p in first], seeds)
    started = time.monotonic()
    strength = 1.0 if word else TRIED_FIRST
    yield from renderer.draw("first try", strength, [p.asked for p in first], seeds)
    each = (time.monotonic() - started) / len(first)
    plan = next(
        (p for p in plans if seconds is None or each * p.pictures(word=word) <= seconds),
        plans[-1],
    )
    renderer.image_cache.agree(asdict(plan))
    renderer.total = plan.pictures(word=word)
    return plan


def _drift(
    renderer: Renderer, scale: _Scale, description: Description, plan: Plan, strength: float
) -> Generator[Stage, None, Drift]:
    """What the adapter does to prompts that do not name the concept.

    A style has no class: there, the unrelated prompts are looked at for its traces.
    """
    word = description.method == "textual_inversion"
    others = unrelated(description, plan.unrelated)
    of_class: list[str] = []
    if description.kind != "style":
        of_class = [f"a photo of {with_article(description.class_noun or 'thing')}"]
        of_class *= plan.class_pictures
    prompts = others + of_class
    seeds = [SEED + 5000 + i for i in range(len(others))]
    seeds += [SEED + 7000 + i for i in range(len(of_class))]
    before = yield from renderer.draw("the base", 0.0, prompts, seeds)
    # A learned word changes no weights: whatever does not say it is drawn as before.
    after = before
    if not word:
        after = yield from renderer.draw("without the word", strength, prompts, seeds)
    encoder = scale.encoder_pair.subject
    was, now = encoder.images(before), encoder.images(after)
    at = slice(len(others), None) if of_class else slice(len(others))
    preserved = metrics.preservation(was[at], scale.photos)
    towards = metrics.preservation(now[at], scale.photos) - preserved
    room = max(scale.reference - float(preserved.mean()), 0.05)
    return Drift(
        towards=interval(towards / room),
        preservation=interval(preserved + towards),
        base_preservation=interval(preserved),
        diversity=interval(metrics.diversity(now[at])),
        base_diversity=interval(metrics.diversity(was[at])),
        unrelated=interval(metrics.moved(now[: len(others)], was[: len(others)])),
        none_by_design=word,
    )


def _copying(outputs: Sequence[Image.Image], photos: Sequence[Image.Image]) -> Copying:
    nearest, likeness, threshold = metrics.copying(metrics.thumbs(outputs), metrics.thumbs(photos))
    closest = int(likeness.argmax())
    return Copying(
        photo=int(nearest[closest]) + 1,
        likeness=float(likeness[closest]),
        threshold=threshold,
        copies=int((likeness >= threshold).sum()),
        outputs=len(outputs),
    )


def _unmeasured(
    subject: Subject, renderer: Renderer, prompts: Sequence[Prompt]
) -> Generator[Stage, None, Report]:
    renderer.total = len(prompts)
    seeds = _seeds(len(prompts))
    asked = [prompt.asked for prompt in prompts]
    pictures = yield from renderer.draw("pictures", 1.0, asked, seeds)
    return Report(
        learned=_learned(subject.description),
        cost=subject.cost,
        losses=subject.losses,
        figures=None,
        shots=tuple(
            Shot(picture, prompt, seed, 1.0)
            for picture, prompt, seed in zip(pictures, asked, seeds, strict=True)
        ),
        evidence={"prompts": asked},
    )


def _limits(figures: Figures, photos: Tensor, description: Description) -> tuple[str, ...]:
    """What this report cannot say, and why."""
    limits = []
    if len(photos) == 1:
        limits.append(
            "There is one photo only, so nothing says how alike two photos of it would be: "
            "subject fidelity is measured against that very picture, and its background counts."
        )
    elif len(photos) == 2:
        limits.append(
            "There are two photos only: how alike they are is one number, without an interval."
        )
    style = description.kind == "style"
    if not figures.one_thing:
        limits.insert(
            0,
            "Photos that are hardly alike can be of different things: teach those one by one"
            + ("." if style else "; if it is a look that they share, teach it as a style."),
        )
    elif len(photos) > 2:
        own = metrics.among_themselves(photos)
        odd = int(own.argmin())
        if float(own[odd]) <= figures.base.subject.mean:
            limits.append(
                f"Photo {odd + 1} is unlike the others: if it shows something else, leave it out."
            )
    if figures.base.prompt.mean < 0.05:
        limits.append(
            "The judge does not recognise these prompts even in the base's own pictures: "
            "read prompt fidelity with caution."
        )
    return tuple(limits)


def _learned(description: Description) -> Learned:
    prior = description.recipe.get("prior")
    return Learned(
        trigger=description.trigger,
        class_noun=description.class_noun,
        kind=description.kind or "object",
        method=description.method,
        rank=description.rank,
        prior=str(prior.get("kind", "")) if isinstance(prior, dict) else "",
    )


def _seeds(n: int, rounds: int = 1) -> list[int]:
    return [SEED + 1000 * round_ + i for round_ in range(rounds) for i in range(n)]
