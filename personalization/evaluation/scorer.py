"""Pictures in, fidelities out: each beside the photos and the untouched base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from personalization.bases.encoders import EncoderPair
from personalization.evaluation import metrics
from personalization.evaluation.figures import Copying, Level, Stability
from personalization.evaluation.metrics import interval
from personalization.evaluation.plan import seeds_of
from personalization.evaluation.prompts import Prompt
from personalization.evaluation.report import Shot


@dataclass(frozen=True)
class Scores:
    """Pictures of every prompt, round by round, and what the encoders say of each."""

    pictures: Sequence[Image.Image]
    subject_fidelity: Tensor  # (rounds * prompts,)
    prompt_fidelity: Tensor  # (rounds * prompts,)


@dataclass(frozen=True)
class Sweep:
    """The same prompts and seeds by the base, at every strength, and again at the chosen one."""

    base: Scores
    by_strength: dict[float, Scores]  # one round each
    levels: tuple[Level, ...]
    balance: float  # the chosen strength
    chosen: Scores  # every round


class Scorer:
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

    def scores(self, pictures: Sequence[Image.Image]) -> Scores:
        """What the encoders say of pictures of all prompts, round by round."""
        texts = self.texts.repeat(len(pictures) // len(self.texts), 1)
        return Scores(
            pictures,
            metrics.subject_fidelity(self.encoder_pair.subject.images(pictures), self.photos),
            metrics.prompt_fidelity(self.encoder_pair.prompt.images(pictures), texts),
        )

    def by_prompt(self, values: Tensor) -> Tensor:
        """(rounds * prompts,) to (prompts,): pictures of one prompt are not independent."""
        return values.reshape(-1, len(self.texts)).mean(0)

    def level(self, strength: float, scores: Scores, untouched: Scores) -> Level:
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

    def towards(self, was: Tensor, now: Tensor) -> Tensor:
        """(n,): how far the class's features went from the base's own (0) to the subject (1)."""
        preserved = metrics.preservation(was, self.photos)
        room = max(self.reference - float(preserved.mean()), 0.05)
        return (metrics.preservation(now, self.photos) - preserved) / room

    def fidelities(self, scores: Scores) -> dict[str, tuple[float, float]]:
        """Subject and prompt fidelity by prompt."""
        subject = self.by_prompt(scores.subject_fidelity).tolist()
        prompt = self.by_prompt(scores.prompt_fidelity).tolist()
        texts = [each.of_class for each in self.prompts]
        return dict(zip(texts, zip(subject, prompt, strict=True), strict=True))

    def products(self, sweep: Sweep) -> Tensor:
        """(rounds * prompts,): both fidelities of each chosen picture as one number."""
        chosen, base = sweep.chosen, sweep.base.prompt_fidelity.mean()
        return chosen.subject_fidelity / self.reference * (chosen.prompt_fidelity / base)

    def stability(self, sweep: Sweep) -> Stability:
        """How much the product of both fidelities varies, and where it is lowest."""
        by_round = self.products(sweep).reshape(-1, len(self.prompts))
        by_prompt = by_round.mean(0)
        return Stability(
            over_prompts=float(by_prompt.std()),
            over_seeds=float(by_round.std(0).mean()) if len(by_round) > 1 else None,
            worst=self.prompts[int(by_prompt.argmin())].of_subject,
        )

    def best_first(self, sweep: Sweep) -> tuple[Shot, ...]:
        """The pictures at the chosen strength."""
        order = self.products(sweep).argsort(descending=True).tolist()
        return tuple(self._shot(sweep.chosen, i, sweep.balance) for i in order)

    def at_each_strength(self, sweep: Sweep, count: int) -> tuple[Shot, ...]:
        """The pictures of the first `count` prompts, each at every strength."""
        return tuple(
            self._shot(scores, i, strength)
            for i in range(min(len(self.prompts), count))
            for strength, scores in sweep.by_strength.items()
        )

    def shots(self, scores: Scores, strength: float) -> tuple[Shot, ...]:
        """One for each picture, in their order."""
        return tuple(self._shot(scores, i, strength) for i in range(len(scores.pictures)))

    def _shot(self, scores: Scores, i: int, strength: float) -> Shot:
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


def copying_of(outputs: Sequence[Image.Image], photos: Sequence[Image.Image]) -> Copying:
    """The output that is nearest to a photo, by layout and colours."""
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
