"""What was learned, what was lost, and at which strength: an adapter measured beside references.

    photos ─┐
    base ───┼─> features ─> metrics ─> Report
    adapter ┘

The same prompts at the same seeds are drawn by the untouched base and by the adapter at each
strength of a sweep; so differences are taken in pairs, and two runs compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from personalization import adapter as adapters
from personalization import generate, judges, metrics
from personalization.adapter import Adapter, Description
from personalization.bases.base import Base
from personalization.concept import Kind
from personalization.errors import PersonalizationError, PhotoError
from personalization.events import Stage
from personalization.formats import diffusers_metadata
from personalization.judges import Panel
from personalization.metrics import interval
from personalization.photos import Photo, crop
from personalization.report import (
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
from personalization.runs import LossRow, Run
from personalization.stack import Slot, Stack, applied

STRENGTHS = (0.2, 0.5, 0.8, 1.1, 1.5)
SEED = 20_000  # far from the small numbers that people and previews use
SECONDS = 60.0  # that a report may take, about
SWEPT_PROMPTS = 3  # shown at every strength
SAMPLING = 0.7  # of the base's own sampling steps: judged alike, and a third cheaper

# What a picture is asked for, by kind of prompt; {} is the subject. The first of each kind come
# first. Nothing here is a training caption.
_CONTEXTS = (
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} in the forest",
    "a photo of {} on the moon",
    "a photo of {} at sunset",
    "a photo of {} in the city",
    "a photo of {} underwater",
)
_WORN = (
    "a photo of {} wearing glasses",
    "a photo of {} wearing a party hat",
    "a photo of {} wearing a scarf",
)
_STYLES = ("a pencil sketch of {}", "a cartoon of {}")
_POSES: dict[str, tuple[str, ...]] = {
    "object": ("a photo of {} seen from above", "a photo of {} lying on its side"),
    "creature": ("a photo of {} jumping", "a photo of {} asleep"),
    "person": ("a photo of {} sitting on a chair", "a photo of {} seen from the side"),
}
_CONTENTS = (
    "a cat on the beach",
    "a house in the snow",
    "a robot in the city",
    "a flower",
    "a boat at sunset",
    "a dog wearing glasses",
    "a mushroom in the forest",
    "a car",
    "a bear wearing a scarf",
    "a bird on the moon",
)
_UNRELATED = (
    "a photo of a red car in the city",
    "a photo of a white rabbit in the snow",
    "a photo of a blue house on the beach",
    "a photo of a yellow flower in the forest",
    "a photo of a green frog",
    "a photo of a brown bear wearing a scarf",
    "a photo of a pink bird at sunset",
    "a photo of a grey robot on the moon",
    "a photo of an orange cat wearing glasses",
    "a pencil sketch of a dog",
    "a photo of a purple mug in a room",
    "a photo of a red boat at sunset",
    "a photo of a striped fish underwater",
)


@dataclass(frozen=True)
class Prompt:
    """`asked` calls the subject by its word; `plain` says the same of its class."""

    asked: str
    plain: str


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

Drawing = Callable[[float, Sequence[str], Sequence[int]], list[Image.Image]]
"""draw(strength, prompts, seeds): a picture for each prompt; strength 0 is the untouched base."""


@dataclass(frozen=True)
class Subject:
    """What is measured: an adapter with the photos that it was made from, and what it cost."""

    adapter: Adapter
    photos: tuple[Photo, ...]
    cost: Cost
    losses: tuple[LossRow, ...] = ()

    @property
    def description(self) -> Description:
        return self.adapter.description


def of_run(run: Run, base: Base) -> Subject:
    """A finished run. Raises `AdapterError` where its adapter is missing."""
    adapter = adapters.read(run.adapter_path)
    cuda = base.device.type == "cuda"
    cost = Cost(
        seconds=run.state.seconds,
        gpu_seconds=run.state.seconds if base.device.type != "cpu" else 0.0,
        memory=torch.cuda.max_memory_allocated() if cuda else None,
        size=run.adapter_path.stat().st_size,
        steps=run.state.step,
        device=base.device.type,
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
    on_progress: Callable[[Stage], None] | None = None,
) -> Report:
    """The report of a run, or of an adapter with its photos; see `evaluating`."""
    for event in evaluating(base, subject, photos, seconds=seconds):
        if isinstance(event, Report):
            return event
        if on_progress:
            on_progress(event)
    raise AssertionError("evaluating ends with a Report")


def evaluating(
    base: Base,
    subject: Run | Adapter | Subject,
    photos: Sequence[Photo] = (),
    *,
    seconds: float | None = SECONDS,
    base_pictures: dict[tuple[str, int], Image.Image] | None = None,
) -> Iterator[Stage | Report]:
    """Tell how far it is, then give the report.

    `photos` are needed with an adapter alone; a run has its own. `seconds` is about what it may
    take: fewer prompts are drawn where the machine is slow. `base_pictures` remembers what the
    untouched base drew, for the next report on it. Where the judge cannot be loaded, the report has
    pictures and cost, and says why it has no figures. Raises `PhotoError` where there are no photos
    to compare with, and what `stack.applied` raises.
    """
    if isinstance(subject, Run):
        subject = of_run(subject, base)
    elif isinstance(subject, Adapter):
        subject = of_adapter(subject, photos)
    adapter = subject.adapter
    yield Stage("the judge", 0, 1)
    panel: Panel | None = None
    missing = ""
    try:
        panel = judges.panel(base.spec, base.device)
    except PersonalizationError as error:
        missing = str(error)

    sampling = base.spec.sampling
    steps = max(1, round(SAMPLING * sampling.steps))

    def draw(strength: float, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        with applied(base, Stack((Slot(adapter, strength),) if strength else ())):
            return generate.draw_each(base, prompts, seeds, steps=steps)

    crops = [crop(photo, base.spec.size) for photo in subject.photos]
    for event in measuring(
        subject,
        crops,
        draw,
        panel,
        seconds=seconds,
        base_pictures=base_pictures,
        poses=base.spec.judge != "pocket",
    ):
        if isinstance(event, Report):
            evidence = event.evidence | {
                "base": base.spec.title,
                "fingerprint of the base": base.fingerprint,
                "sampling": f"{steps} steps, guidance {sampling.guidance:g}",
                **{name: version(name) for name in ("torch", "diffusers", "transformers")},
            }
            limits = (missing, *event.limits) if missing else event.limits
            event = replace(event, evidence=evidence, limits=limits)
        yield event


def measuring(
    subject: Subject,
    photos: Sequence[Image.Image],
    draw: Drawing,
    panel: Panel | None,
    *,
    plans: Sequence[Plan] = PLANS,
    seconds: float | None = None,
    base_pictures: dict[tuple[str, int], Image.Image] | None = None,
    poses: bool = False,
) -> Iterator[Stage | Report]:
    """The report over any way of drawing. `photos` are cropped as trained on.

    Without a `panel` it draws one strip and measures nothing. Raises `PhotoError` without photos.
    """
    if not photos:
        raise PhotoError(
            "There are no photos to compare with. Add those that it was taught from.",
            field="photos",
        )
    description = subject.description
    word = description.method == "word"
    captions = [photo.caption or "" for photo in subject.photos]
    studio = _Studio(draw, {} if base_pictures is None else base_pictures)
    if panel is None:
        yield from _unmeasured(subject, studio, bank(description, 8, captions, poses=poses))
        return

    plan = yield from _afforded(studio, description, captions, plans, seconds, poses=poses)
    prompts = bank(description, plan.prompts, captions, poses=poses)
    asked, plain = [p.asked for p in prompts], [p.plain for p in prompts]
    n = len(prompts)
    seeds = _seeds(n, plan.seeds)  # every prompt once, then every prompt again
    strengths = (1.0,) if word else plan.strengths
    scale = _Scale(panel, photos, plain)

    untouched = scale.seen((yield from studio.draw("the base", 0.0, plain * plan.seeds, seeds)))
    swept = []
    for strength in strengths:
        shots = yield from studio.draw(f"strength {strength:g}", strength, asked, seeds[:n])
        swept.append(scale.seen(shots))
    levels = [scale.level(s, seen, untouched) for s, seen in zip(strengths, swept, strict=True)]
    best = metrics.balance(
        torch.tensor([level.subject_share.mean for level in levels]),
        torch.tensor([level.prompt_share.mean for level in levels]),
    )
    strength = strengths[best]
    shots = yield from studio.draw("more seeds", strength, asked * plan.seeds, seeds)
    chosen = scale.seen(shots)
    drift = yield from _drift(studio, scale, description, plan, strength)

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
        judges=(panel.subject.name, panel.prompt.name),
        pictures=studio.done,
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

    yield Report(
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
        evidence={"judges": ", ".join(dict.fromkeys(figures.judges)), "prompts": asked},
    )


def store(run: Run, report: Report) -> Adapter:
    """Write the report beside the run, and its strength and figures into the adapter's header."""
    adapter = adapters.read(run.adapter_path)
    strength = report.figures.balance.strength if report.figures else 1.0
    adapter = adapter.described(strength=strength, report=report.summary())
    adapter.save(run.adapter_path, metadata=diffusers_metadata(adapter))
    report.save(run.folder)
    return adapter


def comparing(
    base: Base, subjects: Mapping[str, Run | Subject], *, seconds: float | None = SECONDS
) -> Iterator[Stage | Comparison]:
    """The same photos taught in several ways, by name; the base's pictures are drawn once.

    `seconds` is for each.
    """
    base_pictures: dict[tuple[str, int], Image.Image] = {}
    reports = {}
    for name, subject in subjects.items():
        for event in evaluating(base, subject, seconds=seconds, base_pictures=base_pictures):
            if isinstance(event, Report):
                reports[name] = event
            else:
                yield replace(event, name=f"{name}: {event.name}")
    yield Comparison(reports)


def bank(
    description: Description, count: int, captions: Sequence[str] = (), *, poses: bool = False
) -> list[Prompt]:
    """The first `count` prompts for a concept, taking turns between the kinds of prompt.

    What one of the training `captions` already says is left out. `poses` are asked of bases that
    know any.
    """
    noun = description.noun or "thing"
    if description.kind == "style":
        style = f", {description.trigger} style" if description.trigger else ""
        found = [Prompt(f"{content}{style}", content) for content in _CONTENTS]
    else:
        kind: Kind | str = description.kind or "object"
        groups = [_CONTEXTS, _STYLES, _POSES.get(kind, ()) if poses else ()]
        if kind != "object" or not poses:  # no real mug wears glasses
            groups.insert(1, _WORN)
        name = description.trigger or _with_article(noun)
        found = [
            Prompt(template.format(name), template.format(_with_article(noun)))
            for template in _in_turns(groups)
            if not any(template.rpartition("{} ")[2] in caption for caption in captions)
        ]
    return found[:count]


def unrelated(description: Description, count: int) -> list[str]:
    """Prompts that have nothing to do with the concept."""
    noun = description.noun.split()[-1:] or ["\0"]
    return [prompt for prompt in _UNRELATED if noun[0] not in prompt.split()][:count]


class _Studio:
    """Draws in batches, each picture once, says how far it is, and remembers the base's."""

    def __init__(self, draw: Drawing, base_pictures: dict[tuple[str, int], Image.Image]):
        self._draw = draw
        self._base_pictures = base_pictures
        self._pictures = {(0.0, *key): picture for key, picture in base_pictures.items()}
        self.done = 0
        self.total = 0

    def draw(
        self, name: str, strength: float, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Generator[Stage, None, list[Image.Image]]:
        """Yields progress, returns the pictures: ``pictures = yield from studio.draw(...)``."""
        keys = [(strength, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._pictures]
        for start in range(0, len(missing), generate.PER_BATCH):
            part = missing[start : start + generate.PER_BATCH]
            drawn = self._draw(strength, [key[1] for key in part], [key[2] for key in part])
            self._pictures |= dict(zip(part, drawn, strict=True))
            self.done += len(part)
            yield Stage(name, self.done, max(self.done, self.total))
        if not strength:
            self._base_pictures |= {key[1:]: self._pictures[key] for key in keys}
        return [self._pictures[key] for key in keys]


@dataclass(frozen=True)
class _Seen:
    """Pictures of every prompt of the bank, round by round, and what the judges say of each."""

    pictures: Sequence[Image.Image]
    subject: Tensor
    prompt: Tensor


class _Scale:
    """Measures pictures of the bank's prompts against the photos and the untouched base."""

    def __init__(self, panel: Panel, photos: Sequence[Image.Image], plain: Sequence[str]):
        self.panel = panel
        self.photos = panel.subject.images(photos)
        self.texts = panel.prompt.texts(plain)
        self.real = metrics.among_themselves(self.photos)
        # One photo has no other to be like: then identity stands in for the reference.
        self.reference = float(self.real.mean()) if len(self.real) else 1.0

    def seen(self, pictures: Sequence[Image.Image]) -> _Seen:
        texts = self.texts.repeat(len(pictures) // len(self.texts), 1)
        return _Seen(
            pictures,
            metrics.subject_fidelity(self.panel.subject.images(pictures), self.photos),
            metrics.prompt_fidelity(self.panel.prompt.images(pictures), texts),
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
    studio: _Studio,
    description: Description,
    captions: Sequence[str],
    plans: Sequence[Plan],
    seconds: float | None,
    *,
    poses: bool,
) -> Generator[Stage, None, Plan]:
    """The largest plan that fits into `seconds`.

    The base warms up, then the adapter is timed: its pictures are never remembered ones.
    """
    word = description.method == "word"
    first = bank(description, plans[-1].prompts, captions, poses=poses)
    seeds = _seeds(len(first))
    yield from studio.draw("the base", 0.0, [p.plain for p in first], seeds)
    started = time.monotonic()
    strength = 1.0 if word else TRIED_FIRST
    yield from studio.draw("first try", strength, [p.asked for p in first], seeds)
    each = (time.monotonic() - started) / len(first)
    plan = next(
        (p for p in plans if seconds is None or each * p.pictures(word=word) <= seconds),
        plans[-1],
    )
    studio.total = plan.pictures(word=word)
    return plan


def _drift(
    studio: _Studio, scale: _Scale, description: Description, plan: Plan, strength: float
) -> Generator[Stage, None, Drift]:
    """What the adapter does to prompts that do not name the concept.

    A style has no class: there, the unrelated prompts are looked at for its traces.
    """
    word = description.method == "word"
    others = unrelated(description, plan.unrelated)
    of_class: list[str] = []
    if description.kind != "style":
        of_class = [f"a photo of {_with_article(description.noun or 'thing')}"]
        of_class *= plan.class_pictures
    prompts = others + of_class
    seeds = [SEED + 5000 + i for i in range(len(others))]
    seeds += [SEED + 7000 + i for i in range(len(of_class))]
    before = yield from studio.draw("the base", 0.0, prompts, seeds)
    # A learned word changes no weights: whatever does not say it is drawn as before.
    after = before
    if not word:
        after = yield from studio.draw("without the word", strength, prompts, seeds)
    judge = scale.panel.subject
    was, now = judge.images(before), judge.images(after)
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
    subject: Subject, studio: _Studio, prompts: Sequence[Prompt]
) -> Iterator[Stage | Report]:
    studio.total = len(prompts)
    seeds = _seeds(len(prompts))
    asked = [prompt.asked for prompt in prompts]
    pictures = yield from studio.draw("pictures", 1.0, asked, seeds)
    yield Report(
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
    if len(photos) > 1 and figures.reference <= figures.base.subject.high:
        thing = f"any {description.noun}" if description.noun and not style else "any picture"
        limits.append(
            f"The photos are no more like each other than {thing} is like them. "
            "If they show different things, teach them one by one"
            + ("." if style else "; if they share a look, teach it as a style.")
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
    return Learned(
        trigger=description.trigger,
        noun=description.noun,
        kind=description.kind or "object",
        method=description.method,
        rank=description.rank,
    )


def _seeds(n: int, rounds: int = 1) -> list[int]:
    return [SEED + 1000 * round_ + i for round_ in range(rounds) for i in range(n)]


def _in_turns(groups: Sequence[Sequence[str]]) -> list[str]:
    longest = max(len(group) for group in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
