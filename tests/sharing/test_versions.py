"""What was published is found again, version by version; going back to one loses nothing."""

from __future__ import annotations

import pytest
import torch

from personalization.errors import HubError
from personalization.sharing import going_back, publish, upload, versions
from personalization.sharing.publish import Wish
from personalization.workspaces.publications import Publications
from personalization.workspaces.workspace import Workspaces
from tests.support import hub_server, random_adapters, tiny

WISH = Wish("mug", private=True, licence="apache-2.0")


@pytest.fixture
def hub(monkeypatch):
    with hub_server.hub({}) as server:
        hub_server.lead_to(monkeypatch, server)
        yield server


@pytest.fixture
def workspace(tmp_path):
    return Workspaces(tmp_path).new()


def taught(seed: int, **changes):
    made = random_adapters.make(seed=seed)
    about = {"title": "Mug", "placeholder_token": "sks", "class_noun": "mug", "strength": 0.8}
    return made.described(**about | changes)


def published(hub, workspace, name: str) -> upload.Uploaded:
    made = publish.prepare(workspace.library.get(name), tiny.spec(), WISH)
    done = upload.upload(made, hub.token)
    workspace.publications.remember(name, done.repository, workspace.library.entry(name).path)
    return done


@pytest.fixture
def two(hub, workspace):
    """Two versions of an adapter, of which the library has the second."""
    workspace.library.add(taught(1, recipe={"steps": 100}), "Mug")
    published(hub, workspace, "mug")
    workspace.library.replace("mug", taught(2, recipe={"steps": 200}))
    published(hub, workspace, "mug")
    return versions.history("visitor/mug", hub.token)


def test_versions_are_listed_with_their_dates_and_what_changed(two):
    assert [version.tag for version in two] == ["v2", "v1"]
    assert two[0].changes == ("steps: 100 before, 200 now",)
    assert two[1].changes == ()
    assert two[0].date > two[1].date
    assert two[1].address.endswith("/visitor/mug/tree/v1")


def test_each_version_tells_its_own_recipe(hub, two):
    told = [versions.held_by(version, hub.token).recipe["steps"] for version in two]
    assert told == [200, 100]


def test_going_back_gives_the_weights_as_they_were_trained(hub, workspace, two):
    gone = going_back.go_back(workspace, "mug", versions.of_tag(two, "v1"), hub.token)
    assert (gone.entry.name, gone.kept) == ("mug", None)
    back = workspace.library.get("mug")
    assert back.sha256 == taught(1).sha256
    assert (back.description.title, back.description.strength) == ("Mug", 0.8)
    again = going_back.go_back(workspace, "mug", versions.of_tag(two, "v2"), hub.token)
    assert again.kept is None
    assert workspace.library.get("mug").sha256 == taught(2).sha256
    assert [each.name for each in workspace.library.list() if each.own] == ["mug"]


def test_what_no_version_holds_is_kept_beside(hub, workspace, two):
    workspace.library.replace("mug", taught(3))
    gone = going_back.go_back(workspace, "mug", two[0], hub.token)
    assert gone.kept is not None
    assert workspace.library.get(gone.kept.name).sha256 == taught(3).sha256
    assert workspace.library.get("mug").sha256 == taught(2).sha256


def test_an_adapter_that_comes_with_the_app_stays_as_it_is(hub, workspace, two):
    ready = next(entry for entry in workspace.library.list() if not entry.own)
    before = ready.path.read_bytes()
    gone = going_back.go_back(workspace, ready.name, two[0], hub.token)
    assert gone.entry.own
    assert gone.entry.name != ready.name
    assert ready.path.read_bytes() == before


def test_a_learned_word_comes_back_with_its_adapter(hub, workspace):
    rows = torch.ones(1, 32)
    whole = taught(1)
    whole = type(whole)(whole.description, {**whole.tensors, "lora_word.text_encoder": rows})
    made = publish.prepare(whole, tiny.spec(), WISH)
    upload.upload(made, hub.token)
    (version,) = versions.history("visitor/mug", hub.token)
    assert going_back.adapter_of(workspace, version, hub.token).sha256 == whole.sha256


def test_what_is_private_is_not_told_to_others(tmp_path, two):
    for ask in (
        lambda: versions.history("visitor/mug", ""),
        lambda: versions.held_by(two[0], ""),
        lambda: versions.fetch(two[0], tmp_path, ""),
    ):
        with pytest.raises(HubError, match="that you may see"):
            ask()


def test_what_is_asked_in_vain_is_said(hub, workspace, two):
    with pytest.raises(HubError, match=r"no version “v9”\. There are v2, v1"):
        versions.of_tag(two, "v9")
    hub.repositories["someone/else"] = hub_server.Repository({"model.safetensors": b""})
    with pytest.raises(HubError, match="has no versions"):
        versions.history("someone/else")
    with pytest.raises(HubError, match="is not on the Hub yet"):
        going_back.repository_of(workspace, workspace.library.add(taught(4), "Other").name)
    assert going_back.repository_of(workspace, "mug") == "visitor/mug"


def test_a_damaged_list_of_publications_is_as_none(tmp_path):
    publications = Publications(tmp_path / "published.json")
    for content in ("", "[]", "null", '{"mug": 1}'):
        publications.path.write_text(content)
        assert publications.of("mug") is None
    publications.remember("mug", "visitor/mug", publications.path)
    assert publications.of("mug") is not None
