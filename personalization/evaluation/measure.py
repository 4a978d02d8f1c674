"""The measurement itself, over any way of drawing: pictures in, figures out.

    prompts ─> Renderer ─> pictures ─> encoders ─> metrics ─> Figures

The same prompts at the same seeds are drawn by the untouched base and by the adapter at each
strength of a sweep; so differences are taken in pairs, and two runs compare.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence

import torch
from PIL import Image

from personalization.bases.encoders import EncoderPair
from personalization.errors import PhotoError
from personalization.evaluation import metrics, style, verdict
from personalization.evaluation.figures import Drift, Figures
from personalization.evaluation.metrics import interval
from personalization.evaluation.plan import SEED, TRIED_FIRST, Budget, Plan, seeds_of
from personalization.evaluation.prompts import Prompt, unrelated, with_article
from personalization.evaluation.renderer import OutOfTimeError, Renderer
from personalization.evaluation.report import Report, Shot
from personalization.evaluation.scorer import Scorer, Scores, Sweep, copying_of
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import SliceEnded, Stage

SWEPT_PROMPTS = 3  # shown at every strength
UNMEASURED_PROMPTS = 8  # shown where nothing can be measured


def measuring(
    trained: TrainedAdapter,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    encoder_pair: EncoderPair | None,
    budget: Budget,
    *,
    poses: bool = False,
) -> Iterator[Stage | SliceEnded | Report]:
    """Tell how far it is, then give the report. `photos` are the squares that pictures are
    compared with.

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
            if trained.concept.kind == "style":
                plain = yield from _plain(renderer, prompts)
                encoder_pair = style.telling(encoder_pair, photos, plain)
            scorer = Scorer(encoder_pair, photos, prompts)
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


def _plain(
    renderer: Renderer, prompts: Sequence[Prompt]
) -> Generator[Stage, None, list[Image.Image]]:
    """What the untouched base draws of the prompts; the sweep finds them drawn."""
    texts = [prompt.of_class for prompt in prompts]
    return (yield from renderer.draw("the base", 0.0, texts, seeds_of(len(texts))))


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
    scorer: Scorer,
    plan: Plan,
) -> Generator[Stage, None, Report]:
    attainable = yield from _attainable(trained, photos, renderer, scorer, plan)
    sweep = yield from _sweep(trained, renderer, scorer, plan, attainable)
    drift = yield from _drift(trained, renderer, scorer, plan, sweep.balance)
    untrained = (yield from _untrained(renderer, scorer)) if plan.untrained else None
    chosen = sweep.chosen
    figures = Figures(
        levels=sweep.levels,
        base=scorer.level(0.0, sweep.base, sweep.base),
        real=interval(scorer.among_photos) if len(scorer.among_photos) > 1 else None,
        balance=scorer.level(sweep.balance, chosen, sweep.base),
        gained=interval(scorer.by_prompt(chosen.subject_fidelity - sweep.base.subject_fidelity)),
        reference=scorer.reference,
        drift=drift,
        copying=copying_of(chosen.pictures, photos),
        stability=scorer.stability(sweep),
        by_prompt=scorer.fidelities(chosen),
        encoders=(scorer.encoder_pair.subject.name, scorer.encoder_pair.prompt.name),
        pictures=renderer.done,
        untrained=scorer.level(0.0, untrained, sweep.base) if untrained else None,
        attainable=attainable,
    )
    return Report(
        concept=trained.concept,
        cost=trained.cost,
        losses=trained.losses,
        figures=figures,
        shots=scorer.best_first(sweep),
        sweep=scorer.at_each_strength(sweep, SWEPT_PROMPTS),
        untrained=scorer.shots(untrained, 0.0) if untrained else (),
        limits=verdict.limits(trained.concept, figures, scorer.among_photos.tolist()),
        evidence={
            "encoders": list(dict.fromkeys(figures.encoders)),
            "prompts": [prompt.of_subject for prompt in scorer.prompts],
        },
    )


def _attainable(
    trained: TrainedAdapter,
    photos: Sequence[Image.Image],
    renderer: Renderer,
    scorer: Scorer,
    plan: Plan,
) -> Generator[Stage, None, float]:
    """What prompt fidelity the photos leave to be had: of a class, or of what they show in a style.

    Of a style's photos without captions nothing tells.
    """
    encoder = scorer.encoder_pair.prompt
    if prompts := trained.contents(plan.class_pictures):
        photos = photos[: len(prompts)]
        seeds, texts = seeds_of(len(prompts)), encoder.texts(prompts)
    else:
        prompts, seeds = _of_class(trained, plan)
        if not prompts:
            return 1.0
        (texts,) = encoder.texts(prompts[:1])
    drawn = yield from renderer.draw("the base", 0.0, prompts, seeds)
    return metrics.attainable(encoder.images(photos), encoder.images(drawn), texts)


def _of_class(trained: TrainedAdapter, plan: Plan) -> tuple[list[str], list[int]]:
    """Prompts and seeds of the class's pictures; of a style there are none."""
    about = trained.description
    if about.kind == "style":
        return [], []
    prompt = f"a photo of {with_article(about.class_noun or 'thing')}"
    return [prompt] * plan.class_pictures, [SEED + 7000 + i for i in range(plan.class_pictures)]


def _sweep(
    trained: TrainedAdapter, renderer: Renderer, scorer: Scorer, plan: Plan, attainable: float
) -> Generator[Stage, None, Sweep]:
    """Draw the prompts by the base and at each strength; at the one chosen, with all seeds."""
    by_word = [prompt.of_subject for prompt in scorer.prompts]
    by_class = [prompt.of_class for prompt in scorer.prompts]
    n, rounds = len(scorer.prompts), plan.seeds
    seeds = seeds_of(n, rounds)
    base = scorer.scores((yield from renderer.draw("the base", 0.0, by_class * rounds, seeds)))
    by_strength = {}
    for strength in (1.0,) if trained.is_word else plan.strengths:
        name = f"strength {strength:g}"
        pictures = yield from renderer.draw(name, strength, by_word, seeds[:n])
        by_strength[strength] = scorer.scores(pictures)
    levels = tuple(scorer.level(s, scores, base) for s, scores in by_strength.items())
    best = metrics.balance(
        torch.tensor([level.subject_share.mean for level in levels]),
        torch.tensor([level.prompt_share.mean for level in levels]),
        attainable,
    )
    of_class = _of_class(trained, plan)
    chosen = yield from _kept(renderer, scorer, of_class, [levels[i].strength for i in best])
    pictures = yield from renderer.draw("more seeds", chosen, by_word * rounds, seeds)
    return Sweep(base, by_strength, levels, chosen, scorer.scores(pictures))


def _kept(
    renderer: Renderer,
    scorer: Scorer,
    of_class: tuple[list[str], list[int]],
    strengths: Sequence[float],
) -> Generator[Stage, None, float]:
    """The first strength at which the class does not drift; of none, the first of all."""
    prompts, seeds = of_class
    if len(strengths) == 1 or not prompts:
        return strengths[0]
    was = scorer.encoder_pair.subject.images(
        (yield from renderer.draw("the base", 0.0, prompts, seeds))
    )
    for strength in strengths:
        after = yield from renderer.draw("without the word", strength, prompts, seeds)
        towards = scorer.towards(was, scorer.encoder_pair.subject.images(after))
        if not verdict.drifts(interval(towards)):
            return strength
    return strengths[0]


def _untrained(renderer: Renderer, scorer: Scorer) -> Generator[Stage, None, Scores]:
    """The class's prompts, drawn by the base that looks at one photo."""
    texts = [prompt.of_class for prompt in scorer.prompts]
    pictures = yield from renderer.draw("without training", None, texts, seeds_of(len(texts)))
    return scorer.scores(pictures)


def _drift(
    trained: TrainedAdapter, renderer: Renderer, scorer: Scorer, plan: Plan, strength: float
) -> Generator[Stage, None, Drift]:
    """What the adapter does to prompts that do not name the concept.

    A style has no class: there, the unrelated prompts are looked at for its traces.
    """
    others = unrelated(trained.description, plan.unrelated)
    class_prompts, class_seeds = _of_class(trained, plan)
    prompts = others + class_prompts
    seeds = [SEED + 5000 + i for i in range(len(others))] + class_seeds
    before = yield from renderer.draw("the base", 0.0, prompts, seeds)
    # A learned word changes no weights: whatever does not say it is drawn as before.
    after = before
    if not trained.is_word:
        after = yield from renderer.draw("without the word", strength, prompts, seeds)
    encoder = scorer.encoder_pair.subject
    was, now = encoder.images(before), encoder.images(after)
    of_class = slice(len(others), None) if class_prompts else slice(len(others))
    preserved = metrics.preservation(was[of_class], scorer.photos)
    return Drift(
        towards=interval(scorer.towards(was[of_class], now[of_class])),
        preservation=interval(metrics.preservation(now[of_class], scorer.photos)),
        base_preservation=interval(preserved),
        diversity=interval(metrics.diversity(now[of_class])),
        base_diversity=interval(metrics.diversity(was[of_class])),
        unrelated=interval(metrics.moved(now[: len(others)], was[: len(others)])),
        none_by_design=trained.is_word,
    )
