"""Publishing by program and by the command line: the same repository, and the same sentences."""

from __future__ import annotations

import inspect

import gradio as gr
import pytest
from huggingface_hub import ModelCard

from personalization.bases.catalog import ASSETS
from personalization.command_line import main
from personalization.page.publishing_endpoints import publish_adapter
from personalization.page.requests import _endpoint
from tests.support import hub_server

READY = ASSETS / "adapters" / "crowned-dog.safetensors"


def publish(name, *more, **changes):
    """As a program does it."""
    asked = inspect.signature(publish_adapter).bind(name, *more, **changes)
    asked.apply_defaults()
    return _endpoint(publish_adapter)(*asked.args)


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
    asked = {"name": "crowned-dog", "repository": "mug-lora", "token": hub.token} | changes
    with pytest.raises(gr.Error, match=said):
        publish(**asked)
    assert hub.repositories["visitor/taken"].files == theirs
    assert READY.exists()


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
