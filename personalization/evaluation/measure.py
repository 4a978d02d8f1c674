"""The measurement itself, over any way of drawing: pictures in, figures out.

    prompts ─> Renderer ─> pictures ─> encoders ─> metrics ─> Figures

The same prompts at the same seeds are drawn by the untouched base and by the adapter at each
strength of a sweep; so differences are taken in pairs, and two runs compare.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from personalization.adapters.adapter import Adapter, Description
from personalization.bases.base import Base
from personalization.data.photos import Photo
from personalization.errors import PhotoError
from personalization.evaluation import metrics, verdict
from personalization.evaluation.encoders import EncoderPair
from personalization.evaluation.figures import Copying, Drift, Figures, Level, Stability
from personalization.evaluation.metrics import interval
from personalization.evaluation.plan import SEED, TRIED_FIRST, Budget, Plan, seeds_of
from personalization.evaluation.prompts import Prompt, eval_prompts, unrelated, with_article
from personalization.evaluation.renderer import OutOfTimeError, Renderer
from personalization.evaluation.report import Cost, Report, Shot
from personalization.evaluation.verdict import TrainedConcept
from personalization.events import SliceEnded, Stage
from personalization.training.run import LossRow, Run

SWEPT_PROMPTS = 3  # shown at every strength
UNMEASURED_PROMPTS = 8  # shown where nothing can be measured


@dataclass(frozen=True)
class TrainedAdapter:
    """What is measured: an adapter with the photos that it was made from, and what it cost."""

    adapter: Adapter
    photos: Sequence[Photo]
    cost: Cost
    losses: tuple[LossRow, ...] = ()

    @classmethod
    def of_run(cls, run: Run, adapter: Adapter, base: Base) -> TrainedAdapter:
        """A finished run with what it trained."""
        cost = Cost(
            seconds=run.state.seconds,
            gpu_seconds=run.state.seconds if base.device.type != "cpu" else 0.0,
            memory=run.state.memory,
            size=run.adapter_path.stat().st_size,
            steps=run.state.step,
            device=base.device.type,
            whole=2 * sum(p.numel() for m in base.modules.values() for p in m.parameters()),
        )
        return cls(adapter, run.concept.photos, cost, tuple(run.losses()))

    @classmethod
    def of_adapter(cls, adapter: Adapter, photos: Sequence[Photo]) -> TrainedAdapter:
        """An adapter whose run is not here: what it cost is not known but for its size."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in adapter.tensors.values())
        return cls(adapter, tuple(photos), Cost(size=size))

    @property
    def description(self) -> Description:
        """What the adapter's file says of itself."""
        return self.adapter.description

    @property
    def is_word(self) -> bool:
        """Whether it is a learned word: with one strength, and no weights changed."""
        return self.description.method == "textual_inversion"

    @property
    def concept(self) -> TrainedConcept:
        """What was taught, as the report says it."""
        about = self.description
        prior = about.recipe.get("prior")
        return TrainedConcept(
            trigger=about.trigger,
            class_noun=about.class_noun,
            kind=about.kind or "object",
            method=about.method,
            rank=about.rank,
            prior=str(prior.get("kind", "")) if isinstance(prior, dict) else "",
        )

    def prompts(self, count: int, *, poses: bool) -> list[Prompt]:
        """The first `count` prompts that it is asked for."""
        captions = [photo.caption or "" for photo in self.photos]
        return eval_prompts(self.description, count, captions, poses=poses)


def measuring(
    trained: TrainedAdapter,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    encoder_pair: EncoderPair | None,
    budget: Budget,
    *,
    poses: bool = False,
) -> Iterator[Stage | SliceEnded | Report]:
    """Tell how far it is, then give the report. `photos` are cropped as trained on.

    `poses` are asked of bases that know any. Without an `encoder_pair` it draws one strip and
    measures nothing. Where the time is over it ends with `SliceEnded`. Raises `PhotoError` without
    photos.
    """
    if not photos:
        raise PhotoError(
            "There are no photos to compare with. Add those that it was taught from.",
            field="photos",
        )
    try:
        if encoder_pair is None:
            prompts = trained.prompts(UNMEASURED_PROMPTS, poses=poses)
            yield (yield from _unmeasured(trained, renderer, prompts))
        else:
            plan = yield from _choose_plan(trained, renderer, budget, poses=poses)
            prompts = trained.prompts(plan.prompts, poses=poses)
            scorer = _Scorer(encoder_pair, photos, prompts)
            yield (yield from _measured(trained, photos, renderer, scorer, plan))
    except OutOfTimeError:
        yield SliceEnded(renderer.done, max(renderer.done, renderer.total))


def _choose_plan(
    trained: TrainedAdapter, renderer: Renderer, budget: Budget, *, poses: bool
) -> Generator[Stage, None, Plan]:
    """The plan that was agreed on before, or the largest one that the budget affords.

    The base warms up, then the adapter is timed. Pictures that were remembered are drawn in no
    time: where all were, the pace is not known, and the cheapest plan is the safe one.
    """
    plan = renderer.image_cache.plan
    if plan is None:
        prompts = trained.prompts(budget.plans[-1].prompts, poses=poses)
        seeds = seeds_of(len(prompts))
        yield from renderer.draw("the base", 0.0, [p.of_class for p in prompts], seeds)
        started, before = time.monotonic(), renderer.drawn
        strength = 1.0 if trained.is_word else TRIED_FIRST
        yield from renderer.draw("first try", strength, [p.of_subject for p in prompts], seeds)
        drawn = renderer.drawn - before
        each = (time.monotonic() - started) / drawn if drawn else float("inf")
        plan = budget.afford(each, word=trained.is_word)
        renderer.image_cache.agree(plan)
    renderer.total = plan.pictures(word=trained.is_word)
    return plan


def _unmeasured(
    trained: TrainedAdapter, renderer: Renderer, prompts: Sequence[Prompt]
) -> Generator[Stage, None, Report]:
    renderer.total = len(prompts)
    seeds = seeds_of(len(prompts))
    texts = [prompt.of_subject for prompt in prompts]
    pictures = yield from renderer.draw("pictures", 1.0, texts, seeds)
    return Report(
        concept=trained.concept,
        cost=trained.cost,
        losses=trained.losses,
        figures=None,
        shots=tuple(
            Shot(picture, prompt, seed, 1.0)
            for picture, prompt, seed in zip(pictures, texts, seeds, strict=True)
        ),
        evidence={"prompts": texts},
    )


def _measured(
    trained: TrainedAdapter,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    scorer: _Scorer,
    plan: Plan,
) -> Generator[Stage, None, Report]:
    strengths = (1.0,) if trained.is_word else plan.strengths
    sweep = yield from _sweep(renderer, scorer, strengths, plan.seeds)
    drift = yield from _drift(trained, renderer, scorer, plan, sweep.balance)
    chosen = sweep.chosen
    figures = Figures(
        levels=sweep.levels,
        base=scorer.level(0.0, sweep.base, sweep.base),
        real=interval(scorer.among_photos) if len(scorer.among_photos) > 1 else None,
        balance=scorer.level(sweep.balance, chosen, sweep.base),
        gained=interval(scorer.by_prompt(chosen.subject_fidelity - sweep.base.subject_fidelity)),
        reference=scorer.reference,
        drift=drift,
        copying=_copying(chosen.pictures, photos),
        stability=scorer.stability(sweep),
        by_prompt=scorer.fidelities(chosen),
        encoders=(scorer.encoder_pair.subject.name, scorer.encoder_pair.prompt.name),
        pictures=renderer.done,
    )
    best_first = scorer.products(sweep).argsort(descending=True).tolist()
    return Report(
        concept=trained.concept,
        cost=trained.cost,
        losses=trained.losses,
        figures=figures,
        shots=tuple(scorer.shot(chosen, i, sweep.balance) for i in best_first),
        sweep=tuple(
            scorer.shot(scores, i, strength)
            for i in range(min(len(scorer.prompts), SWEPT_PROMPTS))
            for strength, scores in sweep.by_strength.items()
        ),
        limits=verdict.limits(trained.concept, figures, scorer.among_photos.tolist()),
        evidence={
            "encoders": list(dict.fromkeys(figures.encoders)),
            "prompts": [prompt.of_subject for prompt in scorer.prompts],
        },
    )


@dataclass(frozen=True)
class _Scores:
    """Pictures of every prompt, round by round, and what the encoders say of each."""

    pictures: Sequence[Image.Image]
    subject_fidelity: Tensor  # (rounds * prompts,)
    prompt_fidelity: Tensor  # (rounds * prompts,)


@dataclass(frozen=True)
class _Sweep:
    """The same prompts and seeds by the base, at every strength, and again at the chosen one."""

    base: _Scores
    by_strength: dict[float, _Scores]  # one round each
    levels: tuple[Level, ...]
    balance: float  # the chosen strength
    chosen: _Scores  # every round


class _Scorer:
    """Scores pictures of the prompts against the photos and the untouched base."""

    def __init__(
        self,
        encoder_pair: EncoderPair,
        photos: Sequence[Image.Image],
        prompts: Sequence[Prompt],
    ):
        self.encoder_pair = encoder_pair
        self.prompts = prompts
        self.photos = encoder_pair.subject.images(photos)
        self.texts = encoder_pair.prompt.texts([prompt.of_class for prompt in prompts])
        self.among_photos = metrics.among_themselves(self.photos)
        # One photo has no other to be like: then identity stands in for the reference.
        self.reference = float(self.among_photos.mean()) if len(self.among_photos) else 1.0

    def scores(self, pictures: Sequence[Image.Image]) -> _Scores:
        """What the encoders say of pictures of all prompts, round by round."""
        texts = self.texts.repeat(len(pictures) // len(self.texts), 1)
        return _Scores(
            pictures,
            metrics.subject_fidelity(self.encoder_pair.subject.images(pictures), self.photos),
            metrics.prompt_fidelity(self.encoder_pair.prompt.images(pictures), texts),
        )

    def by_prompt(self, values: Tensor) -> Tensor:
        """(rounds * prompts,) to (prompts,): pictures of one prompt are not independent."""
        return values.reshape(-1, len(self.texts)).mean(0)

    def level(self, strength: float, scores: _Scores, untouched: _Scores) -> Level:
        """Both fidelities at one strength, beside the base's of the same prompts and seeds."""
        subject = self.by_prompt(scores.subject_fidelity)
        prompt = self.by_prompt(scores.prompt_fidelity)
        base = self.by_prompt(untouched.prompt_fidelity[: len(scores.prompt_fidelity)])
        return Level(
            strength,
            interval(subject),
            interval(prompt),
            interval(subject / self.reference),
            interval(prompt, over=base),
        )

    def fidelities(self, scores: _Scores) -> dict[str, tuple[float, float]]:
        """Subject and prompt fidelity by prompt."""
        subject = self.by_prompt(scores.subject_fidelity).tolist()
        prompt = self.by_prompt(scores.prompt_fidelity).tolist()
        texts = [each.of_class for each in self.prompts]
        return dict(zip(texts, zip(subject, prompt, strict=True), strict=True))

    def products(self, sweep: _Sweep) -> Tensor:
        """(rounds * prompts,): both fidelities of each chosen picture as one number."""
        chosen, base = sweep.chosen, sweep.base.prompt_fidelity.mean()
        return chosen.subject_fidelity / self.reference * (chosen.prompt_fidelity / base)

    def stability(self, sweep: _Sweep) -> Stability:
        """How much the product of both fidelities varies, and where it is lowest."""
        by_round = self.products(sweep).reshape(-1, len(self.prompts))
        by_prompt = by_round.mean(0)
        return Stability(
            over_prompts=float(by_prompt.std()),
            over_seeds=float(by_round.std(0).mean()) if len(by_round) > 1 else None,
            worst=self.prompts[int(by_prompt.argmin())].of_subject,
        )

    def shot(self, scores: _Scores, i: int, strength: float) -> Shot:
        """Picture i with what was asked for and what is said of it."""
        n = len(self.prompts)
        return Shot(
            scores.pictures[i],
            self.prompts[i % n].of_subject,
            seeds_of(n, 1 + i // n)[i],
            strength,
            float(scores.subject_fidelity[i]),
            float(scores.prompt_fidelity[i]),
        )


def _sweep(
    renderer: Renderer, scorer: _Scorer, strengths: Sequence[float], rounds: int
) -> Generator[Stage, None, _Sweep]:
    """Draw the prompts by the base and at each strength; at the best, with all seeds."""
    by_word = [prompt.of_subject for prompt in scorer.prompts]
    by_class = [prompt.of_class for prompt in scorer.prompts]
    n = len(scorer.prompts)
    seeds = seeds_of(n, rounds)
    base = scorer.scores((yield from renderer.draw("the base", 0.0, by_class * rounds, seeds)))
    by_strength = {}
    for strength in strengths:
        name = f"strength {strength:g}"
        pictures = yield from renderer.draw(name, strength, by_word, seeds[:n])
        by_strength[strength] = scorer.scores(pictures)
    levels = tuple(scorer.level(s, scores, base) for s, scores in by_strength.items())
    best = metrics.balance(
        torch.tensor([level.subject_share.mean for level in levels]),
        torch.tensor([level.prompt_share.mean for level in levels]),
    )
    pictures = yield from renderer.draw("more seeds", strengths[best], by_word * rounds, seeds)
    return _Sweep(base, by_strength, levels, strengths[best], scorer.scores(pictures))


def _drift(
    trained: TrainedAdapter, renderer: Renderer, scorer: _Scorer, plan: Plan, strength: float
) -> Generator[Stage, None, Drift]:
    """What the adapter does to prompts that do not name the concept.

    A style has no class: there, the unrelated prompts are looked at for its traces.
    """
    about = trained.description
    others = unrelated(about, plan.unrelated)
    class_prompts: list[str] = []
    if about.kind != "style":
        class_prompt = f"a photo of {with_article(about.class_noun or 'thing')}"
        class_prompts = [class_prompt] * plan.class_pictures
    prompts = others + class_prompts
    seeds = [SEED + 5000 + i for i in range(len(others))]
    seeds += [SEED + 7000 + i for i in range(len(class_prompts))]
    before = yield from renderer.draw("the base", 0.0, prompts, seeds)
    # A learned word changes no weights: whatever does not say it is drawn as before.
    after = before
    if not trained.is_word:
        after = yield from renderer.draw("without the word", strength, prompts, seeds)
    encoder = scorer.encoder_pair.subject
    was, now = encoder.images(before), encoder.images(after)
    of_class = slice(len(others), None) if class_prompts else slice(len(others))
    preserved = metrics.preservation(was[of_class], scorer.photos)
    towards = metrics.preservation(now[of_class], scorer.photos) - preserved
    room = max(scorer.reference - float(preserved.mean()), 0.05)
    return Drift(
        towards=interval(towards / room),
        preservation=interval(preserved + towards),
        base_preservation=interval(preserved),
        diversity=interval(metrics.diversity(now[of_class])),
        base_diversity=interval(metrics.diversity(was[of_class])),
        unrelated=interval(metrics.moved(now[: len(others)], was[: len(others)])),
        none_by_design=trained.is_word,
    )


def _copying(outputs: Sequence[Image.Image], photos: Sequence[Image.Image]) -> Copying:
    nearest, similarity, threshold = metrics.copying(
        metrics.thumbs(outputs), metrics.thumbs(photos)
    )
    closest = int(similarity.argmax())
    return Copying(
        photo=int(nearest[closest]) + 1,
        similarity=float(similarity[closest]),
        threshold=threshold,
        copies=int((similarity >= threshold).sum()),
        outputs=len(outputs),
    )
