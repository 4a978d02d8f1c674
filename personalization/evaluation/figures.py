"""The figures of a report: what was measured of an adapter, each beside its reference."""

from __future__ import annotations

from dataclasses import dataclass, field

FOLLOWS = 0.9  # of the prompt fidelity that can be had: less is a prompt that is lost
# Subject fidelity of the photos above that of the base's pictures, below which there is nothing to
# measure in: people notice a gap of 0.1 (DINO; Ruiz et al. 2022).
ROOM = 0.15


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval of 95 %."""

    mean: float
    low: float
    high: float

    def differs(self, value: float = 0.0) -> bool:
        """Whether `value` lies outside the interval: inside, call it no difference."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Level:
    """Fidelity at one strength; the shares are of the references (real photos, untouched base)."""

    strength: float
    subject_fidelity: Estimate
    prompt_fidelity: Estimate
    subject_share: Estimate
    prompt_share: Estimate


@dataclass(frozen=True)
class Drift:
    """What happened to prompts that do not name the concept."""

    towards: Estimate  # share of the way from the class as it was to the subject
    preservation: Estimate  # PRES of DreamBooth, lower is better
    base_preservation: Estimate
    diversity: Estimate  # DIV of DreamBooth, higher is better
    base_diversity: Estimate
    unrelated: Estimate  # distance from the base's own pictures at the same seeds
    none_by_design: bool = False  # no weight was changed


@dataclass(frozen=True)
class Copying:
    """The output that is nearest to a training photo, and how many count as copies."""

    photo: int  # from 1
    similarity: float
    threshold: float
    copies: int
    outputs: int


@dataclass(frozen=True)
class Stability:
    """How much the product of both fidelities varies."""

    over_prompts: float
    over_seeds: float | None
    worst: str  # prompt


@dataclass(frozen=True)
class Figures:
    """Everything measured."""

    levels: tuple[Level, ...]
    base: Level
    real: Estimate | None  # the photos among themselves; None of one photo
    balance: Level  # at the recommended strength, over all seeds
    gained: Estimate  # subject fidelity above the base's, in pairs
    reference: float  # what a subject share of 1 is
    drift: Drift
    copying: Copying
    stability: Stability
    by_prompt: dict[str, tuple[float, float]] = field(hash=False)  # subject, prompt fidelity
    encoders: tuple[str, str]  # of the subject, of the prompt
    pictures: int
    untrained: Level | None = None  # a photo as the base's reference, without training
    attainable: float = 1.0  # of the base's prompt fidelity, by the photos: `metrics.attainable`

    def product(self, level: Level) -> float:
        """Of both shares, each at most what can be had: what the strengths are ranked by."""
        return min(1.0, level.subject_share.mean) * min(self.attainable, level.prompt_share.mean)

    @property
    def follows(self) -> float:
        """The share of the base's prompt fidelity below which the prompt is lost."""
        return FOLLOWS * self.attainable

    @property
    def one_thing(self) -> bool:
        """Whether the photos are clearly more like each other than the base's pictures are like
        them: if not, nothing can be said about the subject. Of one photo it is not known."""
        return self.real is None or self.reference - self.base.subject_fidelity.mean >= ROOM

    @property
    def subject_progress(self) -> float:
        """How far the adapter went from the untouched base (0) to the real photos (1)."""
        base = self.base.subject_fidelity.mean
        return (self.balance.subject_fidelity.mean - base) / max(self.reference - base, 1e-6)

    def could_reach(self, progress: float) -> bool:
        """Whether the interval of what was gained leaves room for so much `subject_progress`."""
        room = max(self.reference - self.base.subject_fidelity.mean, 1e-6)
        return self.gained.high >= progress * room

    @property
    def holds_until(self) -> float | None:
        """The largest strength swept before the prompt is surely lost; None where it never is."""
        lost = [
            level.strength
            for level in self.levels
            if level.strength > self.balance.strength and level.prompt_share.high < self.follows
        ]
        if not lost:
            return None
        return max(level.strength for level in self.levels if level.strength < min(lost))
