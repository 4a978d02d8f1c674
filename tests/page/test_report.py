"""The report on the page: what is shown of it, from the run's folder alone."""

from __future__ import annotations

import pytest
import torch

from personalization.adapters.adapter import Adapter, Description
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.evaluation import report_html
from personalization.evaluation.evaluate import store
from personalization.evaluation.report import Report
from personalization.events import Stage
from personalization.page import html, progress
from personalization.page.progress import Pace
from personalization.page.report import comparable, compared, is_measured, last_result, way
from personalization.page.session import Visit
from personalization.recipe import LowRank, Prior, Recipe
from personalization.training.run import Run, State
from personalization.workspaces.workspace import Workspace, Workspaces
from tests.support import tiny
from tests.support.known import Model, report_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspaces(tmp_path / "root").new()


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(Model())


def finished(
    workspace: Workspace, photos: tuple[Photo, ...], report: Report | None = None, seed: int = 0
) -> Run:
    """A run that has ended, its adapter in the library as well."""
    concept = Concept("object", "sks", "mug", photos)
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4, seed=seed, prior=Prior())
    run = Run.create(workspace.new_run_folder(concept.name), concept, recipe, "pocket")
    described = Description(
        "lora", "pocket", placeholder_token="sks", class_noun="mug", kind="object", rank=2, alpha=2,
        created=f"2026-11-21T00:00:0{seed}Z",
    )  # fmt: skip
    path = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = {
        f"{path}.lora_A.weight": torch.ones(2, 32),
        f"{path}.lora_B.weight": torch.ones(32, 2),
    }
    Adapter(described, weights).save(run.adapter_path)
    workspace.library.add(run.adapter_path, "mug")
    run.set_state(State("finished", 4, 1.5))
    if report:
        store(run, report)
    return run


def test_runs_on_the_same_photos_are_offered_for_comparison_and_no_others(workspace, report):
    photos = tiny.photos(3)
    run = finished(workspace, photos, report)
    same = finished(workspace, tuple(reversed(photos)), report, seed=1)
    finished(workspace, photos[:2], report, seed=2)  # other photos
    finished(workspace, photos, seed=3)  # not measured
    assert [other.folder for other in comparable(workspace.runs(), run)] == [same.folder]
    found = compared(workspace, [run.folder.name, same.folder.name])
    assert list(found.reports) == [way(run), f"{way(run)} (2)"]
    assert way(run) == "LoRA, rank 2, class images, 4 steps"
    assert "no difference" in report_html.render_comparison(found, whole=False)


def test_what_was_measured_is_the_stacks_own_weight(workspace, report):
    import app

    run = finished(workspace, tiny.photos(2))
    entry = workspace.library.copies(run.adapter_path)[0]
    adapter_list = app.stack_tab.adapter_list

    def strength() -> float:
        return adapter_list.with_row(Visit(workspace, ""), [], entry.name)[adapter_list.weights[0]][
            "value"
        ]

    assert strength() == 1.0
    store(run, report)
    workspace.library.renew(run.adapter_path)
    assert report.figures.balance.strength != 1.0
    assert strength() == report.figures.balance.strength


def test_a_run_that_was_not_measured_says_so_and_offers_it(workspace, report):
    import app

    panel = app.subject_tab.run_panel.result.report
    run = finished(workspace, tiny.photos(2))
    shown = panel.show(Visit(workspace, ""), run)
    assert shown[panel.measure]["visible"]
    assert not shown[panel.card]["visible"]
    assert "is trained" in shown[panel.verdict]
    store(run, report)
    shown = panel.show(Visit(workspace, ""), run)
    assert not shown[panel.measure]["visible"]
    assert report.verdict in shown[panel.verdict]
    assert report.verdict not in shown[panel.card]["value"]  # said once
    assert "<details>" in shown[panel.card]["value"]


def test_a_damaged_report_is_told_from_a_missing_one_and_measured_again(workspace, report):
    import app

    panel = app.subject_tab.run_panel.result.report
    run = finished(workspace, tiny.photos(2), report)
    (run.folder / "report.json").write_text("{")
    shown = panel.show(Visit(workspace, ""), run)
    assert "cannot be read; measure again" in shown[panel.status]["value"]
    assert shown[panel.status]["visible"]
    assert shown[panel.measure]["visible"]
    assert not shown[panel.card]["visible"]
    assert not is_measured(run)


def test_the_last_result_lies_on_the_spectrum_with_what_it_changed(workspace):
    assert last_result(Visit(workspace, "")) is None
    finished(workspace, tiny.photos(2))
    run = finished(workspace, tiny.photos(2), seed=1)
    mark, whole = last_result(Visit(workspace, ""))
    assert mark.name == "your sks mug"
    assert mark.size == run.adapter_path.stat().st_size < whole
    assert "over the weights" in html.header("Pocket", "CPU", mark, whole)


def test_the_time_that_is_left_is_of_pictures_drawn_now_and_not_of_kept_ones():
    pace = Pace()
    assert pace.take(Stage("the base", 40, 96), 100) is None  # kept ones, and the first batch
    assert pace.take(Stage("the base", 48, 96), 104) == pytest.approx(24)
    assert pace.take(Stage("strength 0.8", 56, 96), 108) == pytest.approx(20)
    said = progress.measuring(Stage("strength 0.8", 56, 96), 20)
    assert "At strength 0.8: 56 of 96 pictures" in said
    assert "about 20 s left" in said
