"""Claims about the whole way, small: from a run's folder to its report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from personalization.adapters.adapter import Adapter, Description, read
from personalization.errors import AdapterError
from personalization.evaluation import evaluate, report_html
from personalization.evaluation.plan import PLANS, Budget
from personalization.evaluation.report import Report
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import SliceEnded, Stage
from personalization.recipe import LowRank, Recipe
from personalization.training.run import LossRow, Run, State
from tests.support import tiny
from tests.support.silence import Silence


def test_without_a_judge_there_are_pictures_and_the_reason(tmp_path):
    base = tiny.base()
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=str(tmp_path / "nowhere"), sampling=sampling)
    run = finished_run(tmp_path)
    report = evaluate.evaluate(base, run)
    assert report.figures is None
    assert len(report.shots) == 8
    assert "nothing can be measured" in report.verdict
    assert "nowhere" in report_html.render(report)
    json.dumps(report.as_dict())


def finished_run(folder) -> Run:
    """A run whose adapter is a LoRA of random weights."""
    concept = tiny.concept()
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4)
    run = Run.create(folder / "run", concept, recipe, "tiny")
    run.log([LossRow(i, 1 / i, None, 0.1) for i in range(1, 5)])
    base = tiny.base()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for path, layer in base.denoiser.named_modules():
        if path.endswith("to_q"):
            out, into = layer.weight.shape
            tensors[f"unet.{path}.lora_A.weight"] = torch.randn(2, into, generator=generator)
            tensors[f"unet.{path}.lora_B.weight"] = torch.randn(out, 2, generator=generator)
    described = Description(
        "lora", "tiny", placeholder_token="sks", class_noun="dog", kind="creature", rank=2, alpha=2
    )
    Adapter(described, tensors).save(run.adapter_path)
    run.set_state(State("finished", 4, 1.5))
    return run


def test_a_run_is_measured_end_to_end_and_the_adapter_remembers_its_strength(tmp_path, clip):
    base = tiny.base()
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=clip, sampling=sampling)
    run = finished_run(tmp_path)
    stages: list[Stage] = []
    before = read(run.adapter_path)
    parts, silence = 0, Silence()
    report: Report | None = None
    while report is None:
        parts += 1
        part = evaluate.reporting(base, run, seconds=0.0, part=0.0)
        for event in silence.heard(base, part):
            if isinstance(event, Stage):
                stages.append(event)
            elif isinstance(event, Report):
                report = event
    assert parts > 2
    assert silence.all >= 5
    assert silence.most == 1  # of pictures in one step each, a batch
    assert stages[-1].done == stages[-1].total == report.figures.pictures
    after = read(run.adapter_path)
    assert after.sha256 == before.sha256
    assert after.description.strength == report.figures.balance.strength
    assert after.description.report["verdict"] == report.verdict
    assert (run.folder / "report.html").read_text() == report_html.render(report)
    assert Report.open(run.folder) == report
    assert not (run.folder / "cache" / "report").exists()
    assert not base.lock.locked()


def test_a_report_can_be_skipped_and_made_later(tmp_path, clip):
    base = tiny.base()
    base.spec = replace(base.spec, encoder=clip, sampling=replace(base.spec.sampling, steps=1))
    run = finished_run(tmp_path)
    before = run.adapter_path.read_bytes()
    run.stop()
    *_, event = evaluate.reporting(base, run, seconds=0.0)
    assert isinstance(event, SliceEnded)
    assert run.adapter_path.read_bytes() == before
    run.clear_stop()
    *_, event = evaluate.reporting(base, run, seconds=0.0)
    assert isinstance(event, Report)


def test_a_full_fine_tune_is_measured_and_the_base_is_its_own_again(tmp_path, clip):
    base, trained = tiny.base(), tiny.base(seed=1)
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=clip, sampling=sampling)
    before = {n: p.detach().clone() for n, p in base.denoiser.named_parameters()}
    tensors = {f"unet.{n}": p.detach().half() for n, p in trained.denoiser.named_parameters()}
    full = Adapter(
        Description("full", "tiny", placeholder_token="sks", class_noun="dog", kind="creature"),
        tensors,
    )
    report = evaluate.evaluate(base, TrainedAdapter.of_adapter(full, tiny.photos(3)), Budget(0.0))
    assert [level.strength for level in report.figures.levels] == list(PLANS[-1].strengths)
    assert report.figures.drift.unrelated.mean > 0
    assert all(torch.equal(before[n], p) for n, p in base.denoiser.named_parameters())
    other = Adapter(full.description, tensors | {"unet.nowhere.weight": torch.zeros(1)})
    with pytest.raises(AdapterError, match="does not fit"):
        evaluate.evaluate(base, TrainedAdapter.of_adapter(other, tiny.photos(3)))
    assert all(torch.equal(before[n], p) for n, p in base.denoiser.named_parameters())
