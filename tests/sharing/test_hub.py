"""The Hub, spoken to by the real huggingface_hub, over the loopback."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from personalization.adapters import formats
from personalization.errors import HubError
from personalization.sharing.hub import adapters_in, fetch, repository_id
from tests.support import random_adapters
from tests.support.hub_server import Repository, hub


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A LoRA as the app writes it, of a family, large enough that its header is a small part."""
    adapter = random_adapters.make(rank=64).described(
        family="sd1", placeholder_token="sks", class_noun="mug"
    )
    path = tmp_path_factory.mktemp("lora") / "mug.safetensors"
    adapter.save(path)
    return adapter, path.read_bytes()


@pytest.fixture(scope="module")
def server(lora, tmp_path_factory):
    adapter, content = lora
    folder = tmp_path_factory.mktemp("peft")
    formats.export(adapter, folder, "peft")
    peft = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "unet").iterdir())
    }
    word = save({"<mug>": torch.zeros(1, 768)})
    half = b"\xff" * 40 + content[100:200]
    model = {"unet/diffusion_pytorch_model.safetensors": content, "model.safetensors": content}
    with hub(
        {
            "someone/mugs": Repository(
                {"mug.safetensors": content, "words/<mug>.safetensors": word, "README.md": b"hi"}
            ),
            "someone/peft": Repository(peft),
            "someone/model": Repository(model),
            "someone/pickles": Repository({"pytorch_lora_weights.bin": pickle.dumps({})}),
            "someone/broken": Repository({"mug.safetensors": half}),
            "someone/secret": Repository({"mug.safetensors": content}, private=True),
            "someone/gated": Repository({"mug.safetensors": content}, gated=True),
        }
    ) as running:
        yield running


def test_adapters_are_described_from_their_headers_alone(server, lora) -> None:
    _, content = lora
    before = server.sent
    found = adapters_in("someone/mugs", endpoint=server.url)
    assert [each.name for each in found] == ["mug.safetensors", "words/<mug>.safetensors"]
    assert found[0].contents.description.trigger == "sks mug"
    assert found[0].contents.description.family == "sd1"
    assert found[0].contents.text_encoder
    assert found[0].size == len(content)
    assert found[1].contents.vectors == 1
    assert found[0].title == "mug"
    assert server.sent - before < len(content) / 2


def test_what_is_fetched_is_what_lies_there_and_no_cache_keeps_it(server, lora, tmp_path) -> None:
    adapter, _ = lora
    found = adapters_in("someone/mugs", endpoint=server.url)
    path = fetch(found[0], tmp_path, endpoint=server.url)
    assert formats.read(path).sha256 == adapter.sha256
    assert path.is_relative_to(tmp_path)


def test_an_adapter_of_pefts_comes_with_its_configuration(server, lora, tmp_path) -> None:
    adapter, _ = lora
    (found,) = adapters_in("someone/peft", endpoint=server.url)
    assert [Path(name).name for name in found.files] == [
        "adapter_model.safetensors",
        "adapter_config.json",
    ]
    assert found.title == "peft"
    read = formats.read(fetch(found, tmp_path, endpoint=server.url))
    unet = {n: t for n, t in adapter.tensors.items() if n.startswith("unet")}
    assert read.tensors.keys() == unet.keys()
    scale, ours = (d.alpha / d.rank for d in (read.description, adapter.description))
    assert scale == ours


@pytest.mark.parametrize(
    ("name", "token", "said"),
    [
        ("someone/nothing", None, "no repository someone/nothing .* if it is private, sign in"),
        ("someone/nothing", "hf_good", "that your account may see it"),
        ("someone/secret", None, "if it is private, sign in"),
        ("someone/gated", None, "is gated: .* then sign in here"),
        ("someone/gated", "hf_bad", r"is gated: .*someone/gated\.$"),
        ("someone/model", None, "There are no adapters in someone/model"),
        ("someone/pickles", None, "holds pickles, which could run code"),
        ("../../etc/passwd", None, "“../../etc/passwd” is no repository’s name"),
        ("a/b/c", None, "is no repository’s name"),
        ("someone/..", None, "is no repository’s name"),
        ("", None, "is no repository’s name"),
    ],
)
def test_what_goes_wrong_has_a_sentence_of_its_own(server, name, token, said) -> None:
    with pytest.raises(HubError, match=said) as raised:
        adapters_in(name, token, endpoint=server.url)
    assert raised.value.field == "repository"


def test_no_network_is_said(server) -> None:
    with pytest.raises(HubError, match="does not answer, so someone/mugs cannot be read"):
        adapters_in("someone/mugs", endpoint="http://127.0.0.1:9")


def test_a_broken_file_is_named_and_the_others_are_offered(server) -> None:
    (found,) = adapters_in("someone/broken", endpoint=server.url)
    assert found.contents is None
    assert "mug.safetensors cannot be read" in found.error


def test_a_token_opens_what_is_private_and_the_machines_own_is_never_sent(
    server, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    server.asked.clear()
    (found,) = adapters_in("someone/secret", "hf_good", endpoint=server.url)
    fetch(found, tmp_path, "hf_good", endpoint=server.url)
    assert {token for _, _, token in server.asked} == {"hf_good"}
    server.asked.clear()
    adapters_in("someone/mugs", endpoint=server.url)
    assert {token for _, _, token in server.asked} == {""}


@pytest.mark.parametrize(
    "text",
    [
        "someone/mugs",
        " someone/mugs/ ",
        "https://huggingface.co/someone/mugs",
        "https://huggingface.co/someone/mugs/tree/main",
        "hf.co/someone/mugs?x=1",
    ],
)
def test_a_repository_can_be_named_by_its_address(text: str) -> None:
    assert repository_id(text) == "someone/mugs"


def test_the_thirteenth_file_is_found_and_a_list_that_is_cut_says_so(lora) -> None:
    names = [f"mug_{250 * i:09d}.safetensors" for i in range(1, 104)]
    small = save({"<mug>": torch.zeros(1, 768)})
    files = Repository(dict.fromkeys(names, small))
    with hub({"someone/checkpoints": files}) as server:
        found = adapters_in("someone/checkpoints", endpoint=server.url)
        assert [each.name for each in found[:100]] == names[:100]
        assert found[100].error.startswith("3 more files of someone/checkpoints were not looked at")
        [last] = adapters_in("someone/checkpoints", file=names[-1], endpoint=server.url)
        assert last.name == names[-1]
        assert last.contents.vectors == 1
        with pytest.raises(HubError, match=r"no adapter “cup\.safetensors” in someone/checkpoints"):
            adapters_in("someone/checkpoints", file="cup.safetensors", endpoint=server.url)
