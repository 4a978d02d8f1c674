"""What is published is loaded from the Hub by an untouched pipeline; what is refused is said."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.adapters.adapter_deltas import deltas_of, match_modules
from personalization.adapters.scaling import scaled
from personalization.bases.catalog import ASSETS
from personalization.errors import AdapterError, HubError
from personalization.evaluation import evidence
from personalization.evaluation.evidence import Evidence, Judgement
from personalization.evaluation.report import Report
from personalization.evaluation.spectrum_files import PAGE, PICTURE, TABLE, Kept
from personalization.sharing import model_card, publish, upload
from personalization.sharing.publish import Wish
from tests.support import hub_server, random_adapters, tiny

PIPE = tiny.base()
WISH = Wish("mug-lora", private=False, licence="creativeml-openrail-m")
HERE = {"licence": "creativeml-openrail-m"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "base"
    tiny.pipeline().save_pretrained(path)
    return path


@pytest.fixture
def spec(folder):
    return replace(tiny.spec(), source=str(folder), **HERE)


@pytest.fixture
def adapter() -> Adapter:
    return random_adapters.make().described(
        placeholder_token="sks",
        class_noun="mug",
        title="A mug",
        strength=0.8,
        recipe={"steps": 100, "method": {"learning_rate": 1e-3}},
    )


@pytest.fixture
def hub():
    with hub_server.hub({}) as server:
        yield server


def published(hub, adapter, spec, wish=WISH, report=None) -> str:
    made = publish.prepare(adapter, spec, wish, report)
    return upload.upload(made, hub.token, endpoint=hub.url).address


@pytest.mark.parametrize("method", ["lora", "loha", "lokr"])
def test_baking_a_strength_in_scales_every_change(method) -> None:
    made = random_adapters.make(method)
    weights = {key: weight for weight, (key, _) in match_modules(PIPE.modules, made, "it").items()}
    baked = deltas_of(scaled(made, 0.4))
    for key, change in deltas_of(made).items():
        torch.testing.assert_close(baked[key].delta(weights[key]), 0.4 * change.delta(weights[key]))


def test_the_card_s_own_code_draws_with_what_was_published(hub, adapter, spec, monkeypatch) -> None:
    address = published(hub, adapter, spec)
    assert address.endswith("visitor/mug-lora")
    files = hub.repositories["visitor/mug-lora"].files
    assert {"README.md", "recipe.json", model_card.WEIGHTS} <= set(files)
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "creativeml-openrail-m"
    assert card.data.to_dict()["instance_prompt"] == "a photo of sks mug"
    assert {"lora", "template:sd-lora", "text-to-image"} <= set(card.data.tags)
    code = card.text.split("```python\n")[1].split("```")[0]
    hub_server.lead_to(monkeypatch, hub)
    lines = code.rsplit("image = ", 1)[0]
    names: dict = {}
    exec(lines, names)
    pipe = names["pipe"]
    pipe.set_progress_bar_config(disable=True)

    def drawn(pipe) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        return pipe("a photo of sks mug", generator=generator, num_inference_steps=2,
                    output_type="np").images  # fmt: skip

    with_hub = drawn(pipe)
    other = tiny.pipeline()
    other.set_progress_bar_config(disable=True)
    path = spec.source + "-direct.safetensors"
    formats.export(adapter, path)
    other.load_lora_weights(path)
    other.set_adapters(["default_0"], [0.8])
    assert np.abs(with_hub - drawn(other)).max() < 1e-4
    assert np.abs(with_hub - drawn(tiny.pipeline())).max() > 1e-3


def test_a_second_version_is_a_commit_a_tag_and_says_what_changed(hub, adapter, spec) -> None:
    published(hub, adapter, spec)
    again = adapter.described(recipe={"steps": 200, "method": {"learning_rate": 1e-3}})
    published(hub, again, spec)
    repository = hub.repositories["visitor/mug-lora"]
    assert list(repository.tags) == ["v1", "v2"]
    assert json.loads(repository.held("v1")["recipe.json"])["steps"] == 100
    assert "steps: 100 before, 200 now" in repository.commits[1].description
    card = repository.files["README.md"].decode()
    there = "https://huggingface.co/visitor/mug-lora/tree"
    assert f"This is [v2]({there}/v2). Since [v1]({there}/v1):" in card


def test_photos_are_uploaded_only_when_they_are_given(hub, adapter, spec) -> None:
    published(hub, adapter, spec)
    assert not any(f.startswith("photos") for f in hub.repositories["visitor/mug-lora"].files)
    photos = tuple(photo.image for photo in tiny.photos(2))
    published(hub, adapter, spec, replace(WISH, photos=photos))
    files = hub.repositories["visitor/mug-lora"].files
    assert sum(f.startswith("photos/") for f in files) == 2
    published(
        hub, adapter, spec
    )  # the next version is without them, and leaves what is no file of ours
    files = hub.repositories["visitor/mug-lora"].files
    assert not any(f.startswith("photos") for f in files)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "cannot be a repository"),
        ({"name": ""}, "cannot be a repository"),
        ({"name": "x" * 120}, "cannot be a repository"),
        ({"name": "..--"}, "cannot be a repository"),
        ({"licence": "mit"}, "cannot be published under mit"),
        ({"licence": ""}, "under no licence"),
    ],
)
def test_a_wish_that_cannot_be_is_said_before_anything_is_sent(
    hub, adapter, spec, changes, said
) -> None:
    with pytest.raises(HubError, match=said):
        published(hub, adapter, spec, replace(WISH, **changes))
    assert hub.asked == []


def test_who_is_not_signed_in_is_told_so(hub, adapter, spec) -> None:
    made = publish.prepare(adapter, spec, WISH)
    with pytest.raises(HubError, match="not signed in"):
        upload.upload(made, "", endpoint=hub.url)
    with pytest.raises(HubError, match="sign-in has ended"):
        upload.upload(made, "hf_old", endpoint=hub.url)


def test_without_the_scope_the_remedy_is_said(hub, adapter, spec) -> None:
    hub.may_write = False
    with pytest.raises(HubError, match="agree that it creates repositories"):
        published(hub, adapter, spec)


def test_somebody_s_other_repository_of_that_name_is_left_alone(hub, adapter, spec) -> None:
    theirs = {"README.md": b"mine", "model.safetensors": b"x"}
    hub.repositories["visitor/mug-lora"] = hub_server.Repository(theirs)
    with pytest.raises(HubError, match="this app did not publish it"):
        published(hub, adapter, spec)
    assert hub.repositories["visitor/mug-lora"].files == theirs


def test_a_hub_that_goes_away_halfway_has_published_nothing(hub, adapter, spec) -> None:
    hub.stops_halfway = True
    with pytest.raises(HubError, match="stopped halfway, so nothing was published"):
        published(hub, adapter, spec)
    assert hub.repositories["visitor/mug-lora"].files == {}
    hub.stops_halfway = False
    assert published(hub, adapter, spec)
    assert hub.repositories["visitor/mug-lora"].commits[0].description == ""  # a first version


def test_a_version_without_its_name_is_said_and_gets_it_the_next_time(hub, adapter, spec) -> None:
    hub.stops_before_tag = True
    with pytest.raises(HubError, match=r"published at .*mug-lora, but .* publish once more"):
        published(hub, adapter, spec)
    hub.stops_before_tag = False
    published(hub, adapter, spec)
    repository = hub.repositories["visitor/mug-lora"]
    assert repository.tags == {"v1": repository.commits[-1].oid}


def test_a_version_is_not_seen_by_more_people_than_was_asked_for(hub, adapter, spec) -> None:
    published(hub, adapter, spec)
    with pytest.raises(HubError, match="is public, and this version is to be private"):
        published(hub, adapter, spec, replace(WISH, private=True))
    assert len(hub.repositories["visitor/mug-lora"].commits) == 1


def test_an_adapter_of_another_family_is_refused_before_anything_is_sent(hub, adapter, spec):
    with pytest.raises(AdapterError, match="was made for"):
        published(hub, adapter, replace(spec, family="sdxl"))
    assert hub.asked == []


def test_the_evidence_card_is_in_the_repository_and_its_lines_are_no_markup(
    hub, adapter, spec, tmp_path
) -> None:
    report = Report.open(ASSETS / "recorded")
    assert report is not None
    first, second, *_ = map(Judgement.of, report.shots)
    evidence.keep(tmp_path, first, verdict="chosen", why="round | [as](http://it) *is*")
    evidence.keep(tmp_path, second, verdict="rejected", why="two handles")
    judged = Evidence.open(tmp_path, report, adapter.description)
    made = publish.prepare(adapter, spec, WISH, report, judged)
    assert set(made.content(made.published)) - set(made.files) == {
        "README.md", "evidence.html", "evidence.json",
    }  # fmt: skip
    upload.upload(made, hub.token, endpoint=hub.url)
    files = hub.repositories["visitor/mug-lora"].files
    card = ModelCard(files["README.md"].decode()).text
    assert r"| chosen | round \| \[as\](http://it) \*is\* |" in card
    assert "| rejected | two handles |" in card
    assert "/visitor/mug-lora/blob/v1/evidence.html" in card
    page = files["evidence.html"].decode()
    assert "Chosen: 1 of" in page
    assert ", v1." in page
    assert json.loads(files["evidence.json"])["note"]["version"] == "v1"


def test_the_same_photos_in_every_way_are_published_with_who_loses(hub, adapter, spec) -> None:
    table = json.loads((ASSETS / "recorded" / "spectrum.json").read_text())
    sheet = Image.new("RGB", (64, 48), "red")
    spectrum = Kept(table, b"<!doctype html><p>every way</p>", sheet)
    made = publish.prepare(adapter, spec, WISH, Report.open(ASSETS / "recorded"), None, spectrum)
    upload.upload(made, hub.token, endpoint=hub.url)
    files = hub.repositories["visitor/mug-lora"].files
    assert files[model_card.SPECTRUM] == spectrum.page
    with Image.open(io.BytesIO(files[model_card.SHEET])) as shown:
        assert shown.size == sheet.size
    card = files["README.md"].decode()
    assert "## The same photos in every way" in card
    assert f"]({model_card.SHEET})" in card
    assert f"/visitor/mug-lora/blob/v1/{model_card.SPECTRUM}" in card
    for row in table["rows"]:
        assert f"| {row['name']} |" in card
    lost = ", ".join(table["forgetting"])
    assert f"so the class is lost: {lost}." in card


def test_what_is_half_written_of_it_is_not_published(tmp_path) -> None:
    assert Kept.open(tmp_path) is None
    (tmp_path / TABLE).write_text("{}")
    (tmp_path / PAGE).write_text("")
    (tmp_path / PICTURE).write_bytes(b"\x89PNG")
    assert Kept.open(tmp_path) is None
