"""Publishing by program and by the command line: the same repository, and the same sentences."""

from __future__ import annotations

import inspect

import gradio as gr
import pytest
from huggingface_hub import ModelCard

from personalization.adapters.adapter import read
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.command_line import main
from personalization.evaluation.report import Report
from personalization.page.publishing import with_pictures
from personalization.page.publishing_endpoints import (
    compare_versions,
    list_versions,
    publish_adapter,
    restore_version,
)
from personalization.page.requests import _endpoint
from personalization.page.session import workspaces
from personalization.sharing.publish import Wish, prepare
from tests.support import hub_server

READY = ASSETS / "adapters" / "crowned-dog.safetensors"


def called(function, *given, **named):
    """What a program gets."""
    asked = inspect.signature(function).bind(*given, **named)
    asked.apply_defaults()
    return _endpoint(function)(*asked.args)


def publish(name, *more, **changes):
    """As a program does it."""
    return called(publish_adapter, name, *more, **changes)


@pytest.fixture
def hub(monkeypatch):
    with hub_server.hub({}) as server:
        hub_server.lead_to(monkeypatch, server)
        yield server


def test_an_adapter_is_looked_at_and_published_by_program(hub):
    looked = publish("crowned-dog", look=True)
    assert hub.asked == []
    done = publish("crowned-dog", "mug-lora", token=hub.token)
    assert done["address"] == f"{hub.url}/visitor/mug-lora"
    assert (done["version"], done["changes"]) == ("v1", [])
    held = hub.repositories["visitor/mug-lora"].files
    sizes = {name: len(held[name]) for name in held}
    assert done["files"].keys() == sizes.keys()
    for name in sizes.keys() - {"README.md"}:
        assert done["files"][name] == sizes[name]
    assert held["README.md"].decode() == done["card"]
    assert ModelCard(looked["card"]).data.license == ModelCard(done["card"]).data.license
    assert publish("crowned-dog", "mug-lora", token=hub.token)["version"] == "v2"


def test_the_card_is_looked_at_with_its_pictures_and_without_where_there_are_none():
    adapter, spec = read(READY), CATALOG["pocket"]
    wish = Wish("mug-lora", licence="apache-2.0")
    bare = prepare(adapter, spec, wish)
    assert "data:image" not in with_pictures(bare.card, bare)
    measured = prepare(adapter, spec, wish, Report.open(ASSETS / "recorded"))
    shown = with_pictures(measured.card, measured)
    assert shown.count("(data:image/webp;base64,") == len(measured.published.pictures) + 1
    assert "](images/" not in shown
    assert "<Gallery" not in shown


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"token": ""}, {}, "You are not signed in"),
        ({"token": "hf_old"}, {}, "Your sign-in has ended"),
        ({}, {"may_write": False}, "does not allow this app to publish"),
        ({}, {"stops_halfway": True}, "stopped halfway, so nothing was published"),
        ({}, {"stops_before_tag": True}, "publish once more"),
        ({"repository": "taken"}, {}, "this app did not publish it: choose another name"),
        ({"repository": "someone/mug"}, {}, "no owner before it"),
        ({"licence": "made-up"}, {}, "cannot be published under made-up"),
        ({"name": "nowhere"}, {}, "There is no adapter “nowhere”"),
        ({"base": "sdxl"}, {}, "was made for"),
    ],
)
def test_what_cannot_be_published_is_said_to_a_program(hub, changes, state, said):
    theirs = {"README.md": b"mine", "model.safetensors": b"x"}
    hub.repositories["visitor/taken"] = hub_server.Repository(theirs)
    for name, value in state.items():
        setattr(hub, name, value)
    workspace = workspaces().new()
    own = workspace.library.add(READY, "My dog")
    asked = {"name": own.name, "repository": "mug-lora", "session": workspace.id}
    asked |= {"token": hub.token} | changes
    with pytest.raises(gr.Error, match=said):
        publish(**asked)
    assert hub.repositories["visitor/taken"].files == theirs
    assert workspace.library.get(own.name).sha256 == read(READY).sha256  # nothing is lost


def test_the_command_line_publishes_as_who_is_signed_in_there(hub, monkeypatch, capsys):
    asked = ["publish", "--adapter", str(READY), "--name", "mug-lora"]
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(asked) == 1
    assert "not signed in" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert main([*asked, "--look"]) == 0
    assert ModelCard(capsys.readouterr().out).data.library_name == "diffusers"
    assert hub.asked == []
    assert main(asked) == 0
    assert capsys.readouterr().out == f"{hub.url}/visitor/mug-lora\n"
    assert hub.repositories["visitor/mug-lora"].private
    assert main([*asked, "--public"]) == 1
    assert "is private, and this version is to be public" in capsys.readouterr().err


@pytest.fixture
def mine(hub) -> tuple[str, str]:
    """An adapter in a session's library, of which the Hub has another version too."""
    workspace = workspaces().new()
    ready = read(READY)
    recipe = ready.description.recipe
    name = workspace.library.add(ready.described(strength=0.6), "My dog").name
    publish(name, "my-dog", workspace.id, hub.token)
    later = ready.described(recipe=recipe | {"batch_size": 3}, strength=0.9)
    workspace.library.replace(name, later)
    publish(name, "my-dog", workspace.id, hub.token)
    return name, workspace.id


def test_a_program_lists_the_versions_with_what_changed_and_goes_back_to_one(hub, mine):
    newest, first = called(list_versions, *mine, token=hub.token)
    assert (newest["version"], first["version"]) == ("v2", "v1")
    assert newest["changes"] == ["batch: 2 before, 3 now"]
    assert newest["recipe"]["batch_size"] == 3
    assert first["address"] == f"{hub.url}/visitor/my-dog/tree/v1"
    assert called(restore_version, *mine, "v1", token=hub.token) == {"name": mine[0], "kept": ""}
    back = workspaces().open(mine[1]).library.get(mine[0])
    assert (back.sha256, back.description.strength) == (read(READY).sha256, 0.6)


@pytest.mark.slow
def test_a_program_draws_versions_by_the_same_prompts_and_seeds(hub, mine):
    prompts = ["a photo of sks dog", "sks dog on the beach"]
    pictures, records = called(
        compare_versions, *mine, ["v2", "v1"], prompts[0],
        seed=5, token=hub.token, count=1, more_prompts=prompts[1:],
    )  # fmt: skip
    assert len(pictures) == 4
    assert [record["version"] for record in records] == ["v2", "v2", "v1", "v1"]
    assert [record["prompt"] for record in records] == prompts * 2
    assert {record["seed"] for record in records} == {5}
    weights = [record["adapters"][0]["weight"] for record in records]
    assert weights == [0.9, 0.9, 0.6, 0.6]  # each as it recommends itself


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda mine, token: called(list_versions, *mine), "that you may see"),
        (lambda mine, token: called(list_versions, "crowned-dog", mine[1]), "is not on the Hub"),
        (lambda mine, token: called(list_versions, "nowhere", mine[1]), "There is no adapter"),
        (
            lambda mine, token: called(restore_version, *mine, "v9", token=token),
            "no version “v9”",
        ),
        (
            lambda mine, token: called(compare_versions, *mine, ["v1"], " ", token=token),
            "1 to 4 prompts",
        ),
        (
            lambda mine, token: called(
                compare_versions, *mine, ["v1"], "a dog", token=token, count=9
            ),
            "1 to 4 pictures",
        ),
        (
            lambda mine, token: called(
                compare_versions, *mine, ["v1"], "a dog", token=token, more_prompts=["a"] * 4
            ),
            "more_prompts has 4 items: at most 3",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_to_a_program(hub, mine, ask, said):
    with pytest.raises(gr.Error, match=said):
        ask(mine, hub.token)
    assert workspaces().open(mine[1]).library.get(mine[0]).description.strength == 0.9
