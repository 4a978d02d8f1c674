"""A finished run with its photos' other ways taught already, as a visitor has it after a while."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from personalization import bases
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.evaluation import ways
from personalization.evaluation.evaluate import store
from personalization.evaluation.report import Report
from personalization.training.loop import train
from personalization.training.run import Run
from personalization.training.start import start

RECORDED = ASSETS / "recorded"
NAME = "20261126-120000-000000-sks-dog"


def lay_out(workspace: Path, there: Sequence[str], begun: dict[str, int]) -> Run:
    """The recorded run in a workspace: some ways are `there` after a step, others have `begun` and
    have so many steps to go."""
    folder = workspace / "runs" / NAME
    shutil.copytree(RECORDED, folder, ignore=shutil.ignore_patterns("spectrum*", "strengths"))
    run, base = Run.open(folder), bases.load(CATALOG["pocket"])
    report = Report.open(folder)
    assert report
    store(run, report)  # which is not recorded as a page of its own
    for way, recipe in ways.recipes(base.spec, run.concept.kind).items():
        if way not in (*there, *begun):
            continue
        concept = run.concept
        if way == "word":
            concept = replace(concept, placeholder_token="<sks>")
        prior = recipe.prior and replace(recipe.prior, images=1)
        short = recipe.changed(
            steps=begun.get(way, 1), prior=prior, preview_every=0, seed=run.recipe.seed
        )
        each = start(folder / "spectrum" / way, base, concept, short)
        if way in there:
            list(train(base, each))
            store(each, report)
    return run
