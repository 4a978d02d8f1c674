"""Which way to combine goes with what, as it was measured.

The figures are those of `python -m tests.benchmarks.combinations` on the pocket, and for several
subjects of `tests.benchmarks.multi_adapter`; docs/BENCHMARKS.md has the tables with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

from personalization.adapters.adapter import Description

# Subject and style as shares of what real drawings have, multiplied: means over 16 pairs.
SUBJECT_AND_STYLE = {
    "sum": 0.40,
    "svd": 0.40,
    "ties": 0.37,
    "dare": 0.39,
    "orthogonal": 0.38,
    "switch": 0.32,
    "composite": 0.32,
}
# Of pictures of two subjects, the share in which both are there, one in each half: 6 pairs.
BOTH_THERE = {"best of the ways": 0.04, "regions": 1.0}
# A subject's likeness as a share of its photos' own, alone, beside one and beside two others.
LIKENESS_BESIDE = (0.84, 0.74, 0.66)


def advice(adapters: Sequence[Description]) -> str:
    """A sentence with its figures for two adapters and more; empty for fewer.

    A learned word has no weights that could be combined, so it does not count.
    """
    kinds = [each.kind for each in adapters if each.method != "textual_inversion"]
    if len(kinds) < 2:
        return ""
    subjects = sum(kind != "style" for kind in kinds)
    if subjects < len(kinds) == 2:
        return _subject_and_style() if subjects else ""
    if len(kinds) == 2:
        return _two_subjects()
    return " ".join([_several(), *([_two_subjects()] if subjects > 1 else [])])


def _subject_and_style() -> str:
    by = SUBJECT_AND_STYLE
    return (
        "For a subject and a style: the sum. No way is surely better than its "
        f"{by['sum']:.2f} of what real drawings have of both; Switch has {by['switch']:.2f}, "
        f"Composite {by['composite']:.2f} (measured on the pocket, 16 pairs)."
    )


def _two_subjects() -> str:
    return (
        "Two subjects in one picture blend, whichever way: both are there in "
        f"{BOTH_THERE['best of the ways']:.0%} of the pictures at best, and in "
        f"{BOTH_THERE['regions']:.0%} with “A place for each adapter” (measured on the pocket, "
        "6 pairs)."
    )


def _several() -> str:
    alone, one, two = LIKENESS_BESIDE
    return (
        "With three and more: the sum, and take out what the prompt does not call. A subject keeps "
        f"{alone:.2f} of its likeness alone, {one:.2f} beside one other, {two:.2f} beside two "
        "(measured on the pocket)."
    )
