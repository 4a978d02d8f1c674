"""An adapter's file says what it is, and a damaged one is refused in words."""

import json

import pytest
import torch

from personalization.adapters.adapter import (
    HEADER,
    Adapter,
    Description,
    embedded_description,
    read,
    read_tensors,
)
from personalization.errors import AdapterError
from personalization.files import read_header


@pytest.fixture
def adapter():
    description = Description(
        "lora", "tiny", placeholder_token="sks", class_noun="dog", rank=2, alpha=4.0
    )
    return Adapter(description, {"unet.a.lora_A.weight": torch.arange(6.0).reshape(2, 3)})


def test_a_file_read_back_is_the_adapter(adapter, tmp_path):
    again = read(adapter.save(tmp_path / "a.safetensors", metadata={"other": "program"}))
    assert again.description == adapter.description
    assert again.sha256 == adapter.sha256
    assert read_header(tmp_path / "a.safetensors").metadata["other"] == "program"


def test_the_hash_is_of_the_weights_alone(adapter):
    assert adapter.described(title="another").sha256 == adapter.sha256


def test_values_that_are_no_numbers_are_refused(adapter, tmp_path):
    bad = Adapter(adapter.description, {"a": torch.tensor([1.0, float("nan")])})
    with pytest.raises(AdapterError, match="no numbers"):
        read_tensors(bad.save(tmp_path / "a.safetensors"))


def test_a_description_of_wrong_types_is_no_description(adapter, tmp_path):
    path = adapter.save(tmp_path / "a.safetensors")
    header = read_header(path)
    data = json.loads(header.metadata[HEADER])
    for wrong in ({"title": {}}, {"method": [1]}, {"recipe": "x"}):
        header.metadata[HEADER] = json.dumps(data | wrong)
        assert embedded_description(header) is None
    header.metadata[HEADER] = json.dumps(data | {"recipe": {"x": "y" * 2**20}})
    assert embedded_description(header) is None, "more than the app says of any"


def test_what_a_file_says_of_itself_is_cut_to_what_a_page_can_show(adapter, tmp_path):
    about = {"title": "x" * 5000, "trigger_words": ["y" * 500] * 500}
    path = adapter.described(**about).save(tmp_path / "a.safetensors")
    told = embedded_description(read_header(path))
    assert told
    assert (len(told.title), told.trigger_words) == (200, ["y" * 64] * 12)
