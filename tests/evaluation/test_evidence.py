"""What a person says of a run's pictures is kept with the run, and told without markup."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from personalization.adapters.adapter import Description
from personalization.bases.catalog import ASSETS
from personalization.errors import ReportError
from personalization.evaluation import evidence, evidence_html
from personalization.evaluation.evidence import Evidence, Judgement
from personalization.evaluation.report import Cost, Report, Shot
from personalization.evaluation.verdict import TrainedConcept

ABOUT = Description("lora", "sd15", "pocket", title="A mug", rank=4, alpha=4, created="2026")
RECORDED = ASSETS / "recorded"


@pytest.fixture
def report() -> Report:
    found = Report.open(RECORDED)
    assert found is not None
    return found


def keys(report: Report) -> list[Judgement]:
    return [Judgement.of(shot) for shot in report.shots]


def test_what_is_said_is_kept_with_the_run_and_found_again(tmp_path, report):
    first, second, *_ = keys(report)
    evidence.keep(tmp_path, first, verdict="chosen")
    evidence.keep(tmp_path, first, verdict="chosen", why="its handle\n is there")
    evidence.keep(tmp_path, second, verdict="rejected", why="two handles")
    found = Evidence.open(tmp_path, report, ABOUT)
    assert [(shot.prompt, said.why) for shot, said in found.judged("chosen")] == [
        (first.prompt, "its handle is there")
    ]
    assert len(found.judged("rejected")) == 1
    assert len(found.judged("")) == len(report.shots) - 2
    evidence.keep(tmp_path, first, verdict="", why="")
    assert not Evidence.open(tmp_path, report, ABOUT).judged("chosen")


def test_two_that_are_said_at_once_are_both_kept(tmp_path, report):
    with ThreadPoolExecutor(8) as pool:
        said = [pool.submit(evidence.keep, tmp_path, each, why="so") for each in keys(report)]
        [each.result() for each in said]
    kept = Evidence.open(tmp_path, report, ABOUT).judgements
    assert {each.why for each in kept} == {"so"}


def test_another_report_does_not_lose_what_was_said_of_this_one(tmp_path, report):
    first = keys(report)[0]
    evidence.keep(tmp_path, first, verdict="chosen")
    none = Report(report.concept, report.cost, None, ())
    assert Evidence.open(tmp_path, none, ABOUT).judgements == ()
    assert Evidence.open(tmp_path, report, ABOUT).judgements[0].verdict == "chosen"


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"judgements": [{"verdict": "x"}]}', "\0"])
def test_a_damaged_file_is_said_and_not_written_over(tmp_path, report, damaged):
    (tmp_path / evidence.FILE).write_text(damaged)
    for ask in (
        lambda: Evidence.open(tmp_path, report, ABOUT),
        lambda: evidence.keep(tmp_path, keys(report)[0], verdict="chosen"),
    ):
        with pytest.raises(ReportError, match="cannot be read"):
            ask()
    assert (tmp_path / evidence.FILE).read_text() == damaged


def test_a_line_is_a_line(tmp_path, report):
    with pytest.raises(ReportError, match="201 characters; at most 200"):
        evidence.keep(tmp_path, keys(report)[0], why="x" * 201)
    for verdict in ("maybe", None, ["chosen"]):
        with pytest.raises(ReportError, match="chosen or rejected"):
            evidence.keep(tmp_path, keys(report)[0], verdict=verdict)


def test_the_card_has_seed_model_version_failures_and_note_and_no_markup_of_anybodys(tmp_path):
    shot = Shot(Image.new("RGB", (8, 8)), "a <b>mug</b>", 7, 0.8)
    report = Report(
        TrainedConcept("sks mug", "mug", "object", "lora"), Cost(seconds=12), None, (shot,)
    )
    evidence.keep(tmp_path, Judgement.of(shot), verdict="rejected", why="<script>1</script>")
    card = evidence_html.render(Evidence.open(tmp_path, report, ABOUT))
    assert "<script>" not in card
    for said in ("seed 7", "A mug on pocket", "not published", "Rejected: 1 of 1", "rank 4"):
        assert said in card


def test_the_json_says_the_same(tmp_path, report):
    evidence.keep(tmp_path, keys(report)[0], verdict="chosen", why="round")
    told = json.loads(json.dumps(Evidence.open(tmp_path, report, ABOUT).as_dict()))
    assert told["judgements"][0]["why"] == "round"
    assert told["failures"] == report.failures
    assert told["note"]["model"] == "A mug on pocket"
