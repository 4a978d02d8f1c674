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

    prompts: int = 10
    seeds: int = 2  # of each prompt, at the chosen strength
    class_pictures: int = 10
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
    Plan(prompts=8, seeds=1, class_pictures=8, unrelated=8),
    Plan(prompts=6, seeds=1, class_pictures=6, unrelated=6, strengths=(0.5, 0.8, 1.1)),
    Plan(prompts=4, seeds=1, class_pictures=4, unrelated=4, strengths=(0.5, 0.8, 1.1)),
)

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
    subject: Run | Subject,
    *,
    seconds: float | None = None,
    on_progress: Callable[[Stage], None] | None = None,
) -> Report:
    """The report of a run or an adapter; see `evaluating`."""
    for event in evaluating(base, subject, seconds=seconds):
        if isinstance(event, Report):
            return event
        if on_progress:
            on_progress(event)
    raise AssertionError("evaluating ends with a Report")


def evaluating(
    base: Base,
    subject: Run | Subject,
    *,
    seconds: float | None = None,
    base_pictures: dict[tuple[str, int], Image.Image] | None = None,
) -> Iterator[Stage | Report]:
    """Tell how far it is, then give the report.

    `seconds` is about what it may take: fewer prompts are drawn where the machine is slow.
    `base_pictures` remembers what the untouched base drew, for the next report on it. Where the
    judge cannot be loaded, the report has pictures and cost, and says why it has no figures.
    Raises `PhotoError` where there are no photos to compare with, and what `stack.applied` raises.
    """
    subject = of_run(subject, base) if isinstance(subject, Run) else subject
    yield Stage("the judge", 0, 1)
    panel: Panel | None = None
    missing = ""
    try:
        panel = judges.panel(base.spec, base.device)
    except PersonalizationError as error:
        missing = str(error)

    def draw(strength: float, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        # An empty stack as well: nobody else's adapter is on while the base draws.
        stack = Stack((Slot(subject.adapter, strength),) if strength else ())
        with applied(base, stack):
            return generate.draw_each(base, prompts, seeds)

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
            sampling = base.spec.sampling
            evidence = event.evidence | {
                "base": base.spec.title,
                "fingerprint of the base": base.fingerprint,
                "sampling": f"{sampling.steps} steps, guidance {sampling.guidance:g}",
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

    started = time.monotonic()
    first = bank(description, plans[-1].prompts, captions, poses=poses)
    yield from studio.draw("the base", 0.0, [p.plain for p in first], _seeds(len(first)))
    each = (time.monotonic() - started) / len(first)
    plan = next(
        (p for p in plans if seconds is None or each * p.pictures(word=word) <= seconds),
        plans[-1],
    )
    studio.total = plan.pictures(word=word)
    prompts = bank(description, plan.prompts, captions, poses=poses)
    n = len(prompts)
    strengths = (1.0,) if word else plan.strengths
    asked, plain = [p.asked for p in prompts], [p.plain for p in prompts]
    # All seeds of the first round, then all of the second: the base's are drawn once.
    base_shots = yield from studio.draw("the base", 0.0, plain * plan.seeds, _seeds(n, plan.seeds))
    swept = []
    for strength in strengths:
        swept.append((yield from studio.draw(f"strength {strength:g}", strength, asked, _seeds(n))))

    photo_features = panel.subject.images(photos)
    texts = panel.prompt.texts(plain)
    real = metrics.among_themselves(photo_features)
    # One photo has no other to be like: then identity stands in for the reference.
    reference = float(real.mean()) if len(real) else 1.0

    def seen(shots: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Subject and prompt fidelity of pictures of all prompts, round by round."""
        rounds = len(shots) // n
        by_prompt = metrics.prompt_fidelity(panel.prompt.images(shots), texts.repeat(rounds, 1))
        return metrics.subject_fidelity(panel.subject.images(shots), photo_features), by_prompt

    base_subject, base_prompt = seen(base_shots)

    def level(strength: float, subject_values: Tensor, prompt_values: Tensor) -> Level:
        rounds = len(subject_values) // n
        values = _by_prompt(subject_values, n)
        return Level(
            strength,
            interval(values),
            interval(_by_prompt(prompt_values, n)),
            interval(values / reference),
            interval(_by_prompt(prompt_values, n), over=_by_prompt(base_prompt[: rounds * n], n)),
        )

    scores = [seen(shots) for shots in swept]
    levels = [level(s, *values) for s, values in zip(strengths, scores, strict=True)]
    best = metrics.balance(
        torch.tensor([one.subject_share.mean for one in levels]),
        torch.tensor([one.prompt_share.mean for one in levels]),
    )
    strength = strengths[best]
    more = _seeds(n, plan.seeds)[n:]
    shots = swept[best] + (
        yield from studio.draw("more seeds", strength, asked * (plan.seeds - 1), more)
    )
    values = seen(shots)
    chosen = level(strength, *values)
    untouched = level(0.0, base_subject, base_prompt)

    drift = yield from _drift(
        studio, panel, description, plan, strength, photo_features, reference, word=word
    )
    nearest, likeness, threshold = metrics.copying(
        metrics.thumbs(shots), metrics.thumbs(list(photos))
    )
    closest = int(likeness.argmax())
    product = (values[0] / reference) * (values[1] / base_prompt.mean())
    figures = Figures(
        levels=tuple(levels),
        base=untouched,
        real=interval(real) if len(real) > 1 else None,
        balance=chosen,
        gained=metrics.difference(_by_prompt(values[0], n), _by_prompt(base_subject, n)),
        reference=reference,
        drift=drift,
        copying=Copying(
            photo=int(nearest[closest]) + 1,
            likeness=float(likeness[closest]),
            threshold=threshold,
            copies=int((likeness >= threshold).sum()),
            outputs=len(shots),
        ),
        stability=Stability(
            over_prompts=float(_by_prompt(product, n).std()),
            over_seeds=float(product.reshape(-1, n).std(0).mean()) if plan.seeds > 1 else None,
            worst=asked[int(_by_prompt(product, n).argmin())],
        ),
        by_prompt={
            prompt: (float(s), float(p))
            for prompt, s, p in zip(
                plain, _by_prompt(values[0], n), _by_prompt(values[1], n), strict=True
            )
        },
        judges=(panel.subject.name, panel.prompt.name),
        pictures=studio.done,
    )
    seeds = _seeds(n, plan.seeds)
    yield Report(
        learned=_learned(description),
        cost=subject.cost,
        losses=subject.losses,
        figures=figures,
        shots=tuple(
            Shot(
                shots[i], asked[i % n], seeds[i], strength, float(values[0][i]), float(values[1][i])
            )
            for i in product.argsort(descending=True).tolist()
        ),
        sweep=tuple(
            Shot(
                swept[s][i], asked[i], seeds[i], at, float(scores[s][0][i]), float(scores[s][1][i])
            )
            for i in range(min(n, 3))
            for s, at in enumerate(strengths)
        ),
        limits=_limits(figures, photo_features, description),
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
    base: Base, subjects: Mapping[str, Run | Subject], *, seconds: float | None = None
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
    """Draws in batches, says how far it is, and remembers the base's pictures."""

    def __init__(self, draw: Drawing, base_pictures: dict[tuple[str, int], Image.Image]):
        self._draw = draw
        self._base_pictures = base_pictures
        self.done = 0
        self.total = 0

    def draw(
        self, name: str, strength: float, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Generator[Stage, None, list[Image.Image]]:
        """Yields progress, returns the pictures: ``pictures = yield from studio.draw(...)``."""
        wanted = list(zip(prompts, seeds, strict=True))
        pictures = {key: self._base_pictures[key] for key in wanted if key in self._base_pictures}
        if strength:
            pictures = {}
        missing = [key for key in wanted if key not in pictures]
        for start in range(0, len(missing), generate.PER_BATCH):
            part = missing[start : start + generate.PER_BATCH]
            drawn = self._draw(strength, [prompt for prompt, _ in part], [seed for _, seed in part])
            pictures |= dict(zip(part, drawn, strict=True))
            self.done += len(part)
            yield Stage(name, self.done, max(self.done, self.total))
        if not strength:
            self._base_pictures |= pictures
        return [pictures[key] for key in wanted]


def _drift(
    studio: _Studio,
    panel: Panel,
    description: Description,
    plan: Plan,
    strength: float,
    photos: Tensor,
    reference: float,
    *,
    word: bool,
) -> Generator[Stage, None, Drift]:
    """What the adapter does to prompts that do not name the concept.

    A style has no class: there, the unrelated prompts are looked at for its traces.
    """
    others = unrelated(description, plan.unrelated)
    style = description.kind == "style"
    of_class = [] if style else [f"a photo of {_with_article(description.noun or 'thing')}"]
    of_class = of_class * plan.class_pictures
    prompts = others + of_class
    seeds = [SEED + 5000 + i for i in range(len(others))]
    seeds += [SEED + 7000 + i for i in range(len(of_class))]
    before = yield from studio.draw("the base", 0.0, prompts, seeds)
    # A learned word changes no weights: whatever does not say it is drawn as before.
    after = before
    if not word:
        after = yield from studio.draw("without the word", strength, prompts, seeds)
    was, now = panel.subject.images(before), panel.subject.images(after)
    at = slice(0, len(others)) if style else slice(len(others), None)
    class_was, class_now = was[at], now[at]
    preserved = metrics.preservation(class_was, photos)
    towards = metrics.preservation(class_now, photos) - preserved
    room = max(reference - float(preserved.mean()), 0.05)
    return Drift(
        towards=interval(towards / room),
        preservation=interval(preserved + towards),
        base_preservation=interval(preserved),
        diversity=interval(metrics.diversity(class_now)),
        base_diversity=interval(metrics.diversity(class_was)),
        unrelated=interval(metrics.moved(now[: len(others)], was[: len(others)])),
        none_by_design=word,
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


def _by_prompt(values: Tensor, n: int) -> Tensor:
    """(rounds * n,) to (n,): the mean over the seeds of each prompt."""
    return values.reshape(-1, n).mean(0)


def _seeds(n: int, rounds: int = 1) -> list[int]:
    return [SEED + 1000 * round_ + i for round_ in range(rounds) for i in range(n)]


def _in_turns(groups: Sequence[Sequence[str]]) -> list[str]:
    longest = max(len(group) for group in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
