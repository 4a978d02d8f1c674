"""What a report draws: how many pictures of what, at which strengths and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from personalization.sampling.sweep import STRENGTHS

SEED = 20_000  # far from the small numbers that people and previews use
SECONDS = 60.0  # that a report may take, about


@dataclass(frozen=True)
class Plan:
    """How many pictures a report may cost."""

    prompts: int = 8
    seeds: int = 2  # of each prompt, at the chosen strength
    class_pictures: int = 8
    unrelated: int = 10
    strengths: tuple[float, ...] = STRENGTHS
    untrained: bool = False  # whether a photo's reference is drawn from as well, without training

    def pictures(self, *, word: bool) -> int:
        """In all; a learned word has one strength and nothing to lose."""
        lost = self.class_pictures + self.unrelated
        drawn = self.prompts * self.seeds + lost  # by the base
        strengths = (1 if word else len(self.strengths)) + self.untrained
        return drawn + self.prompts * (strengths + self.seeds - 1) + (0 if word else lost)


# From the best to the cheapest; the prompts of each begin with those of the next.
PLANS = (
    Plan(),
    Plan(seeds=1, class_pictures=6, unrelated=6),
    Plan(seeds=1, class_pictures=6, unrelated=6, strengths=(0.5, 0.8, 1.1)),
    # Eight prompts still: of four the intervals are three times as wide, and say nothing.
    Plan(seeds=1, class_pictures=3, unrelated=3, strengths=(0.5, 0.8)),
)
TRIED_FIRST = 0.8  # a strength of every plan: its pictures are timed


@dataclass(frozen=True)
class Budget:
    """What a report may cost: the first of `plans` that fits into about so many seconds.

    Without `seconds` that is the first; where none fits, the last. `untrained`: whether the base
    reads a reference picture, so that what training buys can be told.
    """

    seconds: float | None = SECONDS
    plans: tuple[Plan, ...] = PLANS
    untrained: bool = False

    def afford(self, seconds_each: float, *, word: bool) -> Plan:
        """The plan, where a picture takes `seconds_each`."""
        plans = [replace(plan, untrained=self.untrained) for plan in self.plans]
        for plan in plans:
            if self.seconds is None or seconds_each * plan.pictures(word=word) <= self.seconds:
                return plan
        return plans[-1]


def seeds_of(prompts: int, rounds: int = 1) -> list[int]:
    """A seed for each picture: every prompt once, then every prompt again."""
    return [SEED + 1000 * number + i for number in range(rounds) for i in range(prompts)]
