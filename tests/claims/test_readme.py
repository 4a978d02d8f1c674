"""What the README says is so: its ten lines of Python, its links, and the lines for Spaces."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from diffusers import StableDiffusionPipeline
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement

from personalization.bases.catalog import CATALOG
from personalization.evaluation.report import Report
from personalization.sampling.picture_record import read_record
from personalization.training.base_selection import PREFERRED
from personalization.training.run import Run
from tests import api_docs
from tests.support.server import ROOT

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
# huggingface.co/docs/hub/spaces-config-reference, as far as a Gradio Space has use for it.
REFERENCE = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file"),
    *("pinned", "license", "short_description", "disable_embedding", "tags", "thumbnail", "models"),
    *("suggested_hardware", "suggested_storage", "startup_duration_timeout", "preload_from_hub"),
    *("hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes", "fullWidth", "header"),
    *("datasets", "custom_headers", "app_port", "base_path"),
}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_lines_for_a_program_run_as_they_stand_there(app):
    (lines,) = blocks("python")
    lines = lines.replace("http://127.0.0.1:7860", app.url)
    # Two steps instead of the recipe's: what is claimed is that the calls fit.
    assert lines.count('"creature", api_name') == 1
    lines = lines.replace('"creature", api_name', '"creature", 2, api_name')
    found: dict = {}
    exec(lines, found)
    assert found["status"]["state"] == "finished"
    assert [adapter["weight"] for adapter in found["records"][0]["adapters"]] == [0.8]
    record = read_record(Path(found["pictures"][0]["image"]))
    assert record
    assert record.to_dict() == found["records"][0]


def test_what_the_documents_link_to_is_there():
    missing = {
        f"{path.name}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if not link.startswith("http") and not (path.parent / link).exists()
    }
    assert missing == set()


def test_the_tests_that_the_documents_name_are_there():
    named = {
        (file, test)
        for path in DOCUMENTS
        for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path.read_text())
    }
    assert len(named) > 20
    missing = {
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"def {test}" not in (ROOT / file).read_text()
    }
    assert missing == set()


def test_the_lines_for_spaces_are_those_of_the_configuration_reference():
    front = yaml.safe_load(README.split("---")[1])
    assert set(front) <= REFERENCE
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert (ROOT / front["app_file"]).exists()
    assert front["sdk_version"] == version("gradio")  # what the tests run on
    pinned = map(Requirement, (ROOT / "requirements.txt").read_text().splitlines()[1:])
    (gradio,) = (pin for pin in pinned if pin.name == "gradio")
    assert front["sdk_version"] in gradio.specifier
    assert len(front["short_description"]) <= 60  # or the Hub refuses it
    assert front["suggested_hardware"] in [flavor.value for flavor in SpaceHardware]
    assert re.fullmatch(r"\d+[mh]", front["startup_duration_timeout"])
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS


def test_a_visitor_may_be_asked_for_what_the_app_does_with_a_sign_in_and_no_more():
    front = yaml.safe_load(README.split("---")[1])
    assert front["hf_oauth"] is True
    # To read a private adapter, to publish one, to train on Jobs; openid and profile come along.
    assert set(front["hf_oauth_scopes"]) == {"read-repos", "contribute-repos", "jobs"}


def test_what_a_space_fetches_before_it_starts_is_what_its_base_is_made_of():
    (line,) = yaml.safe_load(README.split("---")[1])["preload_from_hub"]
    repository, files, revision = line.split(" ")
    base = CATALOG[PREFERRED[1]]  # on ZeroGPU
    assert (repository, revision) == (base.source, base.revision)
    names = files.split(",")
    hints = get_type_hints(StableDiffusionPipeline.__init__)
    parts = set(hints) - {"requires_safety_checker", "image_encoder", "return"}
    assert {name.partition("/")[0] for name in names} == parts | {"model_index.json"}
    models = {"unet", "vae", "text_encoder", "safety_checker"}
    weights = {name.partition("/")[0] for name in names if name.endswith(".safetensors")}
    assert weights == models
    assert {f"{part}/config.json" for part in models} <= set(names)
    assert not [name for name in names if name.endswith(".bin") or "fp16" in name]


def test_the_reference_for_programs_is_what_the_endpoints_say():
    assert api_docs.PATH.read_text() == api_docs.written(), "python -m tests.api_docs"


def test_each_endpoint_says_what_it_does_takes_and_gives():
    from app import demo

    functions = {f"/{fn.api_name}": fn.fn for fn in demo.fns.values() if fn.api_name}
    for name, info in demo.get_api_info()["named_endpoints"].items():
        doc = api_docs.Doc.of(functions[name])
        taken = {each["parameter_name"] for each in info["parameters"]}
        assert doc.summary, name
        assert info["description"], name  # what agents.md and MCP show of it
        assert doc.returns, name
        assert taken - {"token"} == set(doc.arguments) - {"token"}, name


def test_the_posts_figures_are_those_of_the_recorded_run():
    post = " ".join((ROOT / "docs" / "post" / "index.html").read_text().split())
    recorded = ROOT / "assets" / "recorded"
    report = Report.open(recorded)
    assert report
    figures = report.figures
    assert figures
    said = {}
    for level in figures.levels:
        shares = level.subject_share.mean, level.prompt_share.mean
        said[level.strength] = " and ".join(f"{share:.0%}" for share in shares)
    assert f"At {figures.balance.strength:g} it is {said[figures.balance.strength]}" in post
    assert f"at 1.5, {said[1.5]}" in post
    assert f"draws pictures that are {said[0.5].partition(' and ')[0]} as like the photos" in post
    drift = figures.drift.towards
    assert f"dogs went {drift.mean:.0%}".replace("-", "−") in post
    assert f"an interval of {drift.low:.0%} to {drift.high:.0%}".replace("-", "−") in post
    assert f"with {figures.pictures} pictures judged" in post
    word, layers = (
        (ROOT / "assets" / "adapters" / f"{name}.safetensors").stat().st_size / 1e3
        for name in ("neon", "crowned-dog")
    )
    assert f"<b>{word:.1f} kB</b>a word" in post
    assert f"<b>{layers:.0f} kB</b>thin layers" in post
    assert f"{Run.open(recorded).recipe.steps} steps" in post
