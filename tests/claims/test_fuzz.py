"""What strangers bring, made up by a machine: read, or refused in a sentence; never anything else.

Adapter files, the records in pictures, and recipes. The search is the same at each run; what it has
found once stays as an example. `python -m tests.benchmarks.hostile` searches further.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from personalization.adapters import formats
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.errors import PersonalizationError
from personalization.recipe import Recipe
from personalization.sampling.picture_record import KEY, PictureRecord, read_record

QUICK = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
READY = (ASSETS / "adapters" / "neon.safetensors").read_bytes()
PLACE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k"
FLAT = "lora_unet_" + PLACE.removeprefix("unet.").replace(".", "_")
PARTS = (
    *("lora_A.weight", "lora_B.weight", "lora_up.weight", "lora_down.weight", "lora_mid.weight"),
    *("alpha", "dora_scale", "diff", "diff_b", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    *("hada_t1", "hada_t2", "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_t2", "on_input"),
)
WORDS = (
    "emb_params",
    "clip_l",
    "clip_g",
    "string_to_param",
    "<a>",
    "",
    "\0",
    "../../x",
    "__metadata__",
)

numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 10**40]))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.one_of(
    st.builds(
        lambda place, part: f"{place}.{part}",
        st.sampled_from([PLACE, FLAT, "x"]),
        st.sampled_from(PARTS),
    ),
    st.sampled_from(WORDS),
    st.text(max_size=30),
)
shapes = st.lists(st.integers(0, 6), max_size=4)


def file_of(tensors: dict[str, list[int]], metadata: dict[str, str]) -> bytes:
    """A safetensors file whose header is sound: zeros of these shapes."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def answered(read: Callable[[], Any]) -> Any:
    """What a parser makes of it, or the sentence that refuses it."""
    try:
        return read()
    except PersonalizationError as error:
        said = str(error)
        assert said.rstrip().endswith((".", "?", "!", "”", ")")), said
        assert "Traceback" not in said
        return said


def opened(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    answered(lambda: formats.describe(path))
    answered(lambda: formats.read(path))


@QUICK
@example(b"")
@example(b"\x80\x04.")
@example(struct.pack("<Q", 2**63))
@example(struct.pack("<Q", 2) + b"{}")
@example(struct.pack("<Q", 4) + b"null")
@example(struct.pack("<Q", 2) + b"[]")
@example(struct.pack("<Q", 12) + b"[" * 12)
@given(st.binary(max_size=300))
def test_any_bytes_as_an_adapter(tmp_path: Path, content: bytes):
    opened(tmp_path / "a.safetensors", content)
    opened(tmp_path / "b.safetensors", struct.pack("<Q", len(content)) + content)


@QUICK
@example({PLACE + ".lora_A.weight": [0, 4], PLACE + ".lora_B.weight": [4, 0]}, {})
@example({FLAT + ".lora_down.weight": [1], FLAT + ".lora_up.weight": []}, {})
@example({FLAT + ".alpha": [2, 2]}, {"personalization": "{"})
@given(
    st.dictionaries(names, shapes, max_size=6),
    st.dictionaries(
        st.one_of(
            st.sampled_from(
                [
                    "personalization",
                    "ss_network_module",
                    "format",
                    "ss_base_model_version",
                    "modelspec.architecture",
                ]
            ),
            st.text(max_size=10),
        ),
        st.one_of(
            st.text(max_size=40), json_values.map(lambda value: json.dumps(value, allow_nan=True))
        ),
        max_size=3,
    ),
)
def test_any_tensors_as_an_adapter(tmp_path: Path, tensors: dict, metadata: dict):
    tensors.pop("__metadata__", None)
    opened(tmp_path / "a.safetensors", file_of(tensors, metadata))


@QUICK
@given(st.integers(0, len(READY) - 1), st.binary(min_size=1, max_size=40), st.booleans())
def test_a_damaged_file_of_the_apps_own(tmp_path: Path, at: int, other: bytes, cut: bool):
    content = READY[:at] + other + (b"" if cut else READY[at + len(other) :])
    opened(tmp_path / "a.safetensors", content)


@QUICK
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=12))
def test_a_damaged_header_of_the_apps_own(tmp_path: Path, at: int, other: bytes):
    opened(tmp_path / "a.safetensors", READY[:at] + other + READY[at + len(other) :])


def changed(whole: dict[str, Any], path: list[int], value: Any) -> Any:
    """The JSON with one of its parts replaced, by the numbers of keys on the way."""
    if not path or not isinstance(whole, dict) or not whole:
        return value
    key = sorted(whole)[path[0] % len(whole)]
    return {**whole, key: changed(whole[key], path[1:], value)}


def record_in(path: Path, text: str) -> Any:
    info, buffer = PngInfo(), BytesIO()
    info.add_text(KEY, text)
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    path.write_bytes(buffer.getvalue())
    return answered(lambda: read_record(path))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """A record as the app has written it."""
    found = read_record(ASSETS / "adapters" / "neon" / "0.png")
    assert found
    return found.to_dict()


@QUICK
@example([], None)
@example([0], "1e999")
@given(st.lists(st.integers(0, 30), max_size=3), json_values)
def test_any_record_in_a_picture(tmp_path: Path, record: dict, path: list[int], value: Any):
    text = json.dumps(changed(record, path, value), allow_nan=True)
    found = record_in(tmp_path / "a.png", text)
    assert found is None or isinstance(found, (PictureRecord, str))
    if isinstance(found, PictureRecord):
        json.dumps(found.to_dict())
    record_in(tmp_path / "a.png", text[: len(text) // 2])


@QUICK
@given(st.text(max_size=200))
def test_any_text_as_a_record(tmp_path: Path, text: str):
    record_in(tmp_path / "a.png", text.replace("\0", ""))


RECIPES = [json.loads(each.to_json()) for each in CATALOG["pocket"].recipes.values()]


@QUICK
@example(0, [], {})
@example(0, [1], 10**400)
@given(st.integers(0, len(RECIPES) - 1), st.lists(st.integers(0, 30), max_size=3), json_values)
def test_any_recipe(which: int, path: list[int], value: Any):
    text = json.dumps(changed(RECIPES[which], path, value), allow_nan=True)
    answered(lambda: Recipe.from_json(text))


@QUICK
@example("[" * 5000)
@example("9" * 5000)
@example('{"steps": NaN}')
@given(st.text(max_size=200))
def test_any_text_as_a_recipe(text: str):
    answered(lambda: Recipe.from_json(text))
