"""An adapter's file says what it is, and a damaged one is refused in words."""

import json
import struct

import pytest
import torch

from personalization.adapters.adapter import (
    HEADER,
    Adapter,
    Description,
    embedded_description,
    read,
    read_header,
    read_tensors,
)
from personalization.errors import AdapterError


@pytest.fixture
def adapter():
    description = Description(
        "lora", "tiny", placeholder_token="sks", class_noun="dog", rank=2, alpha=4.0
    )
    return Adapter(description, {"unet.a.lora_A.weight": torch.arange(6.0).reshape(2, 3)})


def head(content: bytes, tail: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + tail


def test_a_file_read_back_is_the_adapter(adapter, tmp_path):
    again = read(adapter.save(tmp_path / "a.safetensors", metadata={"other": "program"}))
    assert again.description == adapter.description
    assert again.sha256 == adapter.sha256
    assert read_header(tmp_path / "a.safetensors").metadata["other"] == "program"


def test_the_hash_is_of_the_weights_alone(adapter):
    assert adapter.described(title="another").sha256 == adapter.sha256


def test_headers_of_every_length_are_read(adapter, tmp_path):
    lengths = set()
    for size in range(300):
        path = adapter.described(title="x" * size).save(tmp_path / "a.safetensors")
        lengths.add(struct.unpack("<Q", path.read_bytes()[:8])[0] % 256)
        read_header(path)
    assert 0x80 in lengths  # what a pickle's first byte looks like


HOSTILE = {
    "empty": b"",
    "pickle": b"\x80\x04\x95" + b"x" * 40,
    "zip of pickles": b"PK\x03\x04" + b"x" * 40,
    "no json": head(b"{not json at all}"),
    "metadata is a list": head(b'{"__metadata__": [1, 2]}'),
    "offsets are words": head(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["x", "y"]}}'),
    "deep": head(b'{"a":' * 20000 + b"1" + b"}" * 20000),
    "header longer than the file": struct.pack("<Q", 10**9) + b"{}",
    "a list": head(b"[1, 2, 3]"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_safetensors_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(AdapterError, match=r"bad\.safetensors"):
        read_header(path)


def test_a_file_cut_short_is_refused(adapter, tmp_path):
    path = adapter.save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterError, match="cut short"):
        read_header(path)


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
