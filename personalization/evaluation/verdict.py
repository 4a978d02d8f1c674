"""What the figures of a report mean, in sentences that a person understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personalization.evaluation.figures import Estimate, Figures

# Shares from which the verdict changes its words.
KNOWS, ROUGHLY = 0.7, 0.35  # of the way from the untouched base to the real photos
DRIFTS = 0.3  # of the way from the class as it was to the subject
RECOGNISED = 0.05  # prompt fidelity of the base's own pictures


@dataclass(frozen=True)
class TrainedConcept:
    """What was taught, and how."""

    trigger: str
    class_noun: str
    kind: str  # object, creature, person, style
    method: str
    rank: int = 0
    prior: str = ""  # images, adapter_off, or none: what kept the class

    @property
    def words(self) -> tuple[str, str]:
        """What it is called in a sentence, and the pronoun for it."""
        if self.kind == "style":
            return "the style", "it"
        if self.kind == "person":
            return "the person", "them"
        return (f"your {self.class_noun}" if self.class_noun else "your subject"), "it"

    @property
    def others(self) -> str:
        """What else there is of its kind."""
        return self.class_noun if self.class_noun and self.kind != "style" else "picture"


def of(concept: TrainedConcept, figures: Figures, limits: Sequence[str]) -> str:
    """One to three sentences: what it knows, what it follows, what most needs saying besides."""
    besides = _besides(concept, figures)
    if limits and not (besides and figures.one_thing):
        besides = limits[0]
    sentences = (_knows(concept, figures), _follows(figures), besides)
    return " ".join(sentence for sentence in sentences if sentence)


def drifts(towards: Estimate) -> bool:
    """Whether the class surely goes towards the subject, and far."""
    return towards.mean >= DRIFTS and towards.low > 0


def unmeasured(limits: Sequence[str]) -> str:
    """The verdict where no encoder could look at the pictures."""
    reasons = " ".join(limits)
    return f"Nothing was measured: look at the pictures and judge for yourself. {reasons}".strip()


def failures(concept: TrainedConcept, figures: Figures) -> list[str]:
    """Where it is known to fail."""
    sentences = [f"It does worst at “{figures.stability.worst}”."]
    if figures.holds_until is not None:
        sentences.append(f"Above strength {figures.holds_until:g} it ignores the scene.")
    if figures.copying.copies:
        sentences.append(_copies(figures))
    if figures.drift.towards.low > 0:
        sentences.append(_drifts(concept, figures))
    return sentences


def limits(
    concept: TrainedConcept, figures: Figures, similarities: Sequence[float]
) -> tuple[str, ...]:
    """What a report cannot say, and why.

    `similarities` are each photo's to the others; none of a single photo.
    """
    sentences = []
    if not figures.one_thing:
        look = "; if it is a look that they share, teach it as a style"
        sentences.append(
            "Photos that are hardly alike can be of different things: teach those one by one"
            f"{'' if concept.kind == 'style' else look}."
        )
    if not similarities:
        sentences.append(
            "There is one photo only, so nothing says how alike two photos of it would be: "
            "subject fidelity is measured against that very picture, and its background counts."
        )
    elif len(similarities) == 2:
        sentences.append(
            "There are two photos only: how alike they are is one number, without an interval."
        )
    elif figures.one_thing and min(similarities) <= figures.base.subject_fidelity.mean:
        odd = similarities.index(min(similarities)) + 1
        sentences.append(
            f"Photo {odd} is unlike the others: if it shows something else, leave it out."
        )
    if figures.base.prompt_fidelity.mean < RECOGNISED:
        sentences.append(
            "The judge does not recognise these prompts even in the base's own pictures: "
            "read prompt fidelity with caution."
        )
    return tuple(sentences)


def _knows(concept: TrainedConcept, figures: Figures) -> str:
    name, pronoun = concept.words
    if not figures.one_thing:
        return (
            f"Whether it knows {name} cannot be said: the photos are no more like each other than "
            f"any {concept.others} is like them."
        )
    if not figures.gained.low > 0 and figures.could_reach(ROUGHLY):
        return _unsure(name, figures)
    if not figures.gained.low > 0:
        return (
            f"It has not learned {name}: with the word it draws no more of {pronoun} than the "
            "untouched base does. Train longer, or check that the photos show one thing."
        )
    progress = figures.subject_progress
    if progress >= KNOWS:
        return f"It knows {name}."
    if progress >= ROUGHLY:
        return f"It knows {name} roughly, {progress:.0%} of the way to the photos."
    return f"It has only begun to know {name}, {progress:.0%} of the way: train longer."


def _unsure(name: str, figures: Figures) -> str:
    """Few pictures leave room for both; to say that it has learned nothing would be a guess too."""
    return (
        f"Whether it knows {name} is not sure from pictures of {len(figures.by_prompt)} prompts: "
        f"{max(0.0, figures.subject_progress):.0%} of the way to the photos on average, and they "
        "differ much. Look at them and judge for yourself."
    )


def _follows(figures: Figures) -> str:
    share = figures.balance.prompt_share
    if share.high < figures.follows:
        return f"It follows the scene less well than the base does ({share.mean:.0%})."
    if figures.holds_until is not None:
        return f"Above {figures.holds_until:g} it ignores the scene."
    return ""


def _besides(concept: TrainedConcept, figures: Figures) -> str:
    """What most needs saying of what went wrong, or right."""
    if figures.copying.copies:
        return _copies(figures)
    if drifts(figures.drift.towards):
        more = "Give prior preservation more weight, or train for fewer steps."
        remedy = more if concept.prior else "Switch prior preservation on."
        return f"{_drifts(concept, figures)} {remedy}"
    if figures.drift.none_by_design:
        return "Nothing else has changed: a word changes no weights."
    if figures.gained.low > 0 and not figures.drift.towards.low > 0:
        return f"Without the word, every {concept.others} stays as it was."
    return ""


def _copies(figures: Figures) -> str:
    return (
        f"It redraws photo {figures.copying.photo} closely: add photos with other backgrounds, "
        "or train for fewer steps."
    )


def _drifts(concept: TrainedConcept, figures: Figures) -> str:
    share = figures.drift.towards.mean
    return (
        f"Without the word, every {concept.others} now drifts towards it ({share:.0%} of the way)."
    )


def bought(figures: Figures) -> str:
    """Training beside one photo as a reference, on the same prompts; empty where not measured."""
    if figures.untrained is None:
        return ""
    rows = [("One photo as a reference", figures.untrained), ("Training", figures.balance)]
    said = [
        f"{name}: {level.subject_share.mean:.0%} of the photos’ likeness, "
        f"{level.prompt_share.mean:.0%} of the base’s obedience."
        for name, level in rows
    ]
    return " ".join(said)
