"""What is read of a picture's record is what was written, and never more than it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from personalization.sampling.picture_record import (
    KEY,
    AdapterRecord,
    Picture,
    PictureRecord,
    read_record,
)

RECORD = PictureRecord(
    "ein кот, 中文字, ไทย",
    negative="blur",
    seed=2**32 - 1,
    steps=20,
    guidance=4.5,
    scheduler="Euler a",
    task="inpaint",
    strength=0.7,
    base="pocket",
    fingerprint="b9ca",
    adapters=(
        AdapterRecord("mug", "My mug", "<mug>", "01c9", -0.5, 0.25, {"mid_block": 0.5}),
        AdapterRecord("twin"),
    ),
    combine="ties",
    density=0.3,
    rank=5,
    start="a1b2",
)


def png(folder: Path, text: str) -> Path:
    info, path = PngInfo(), folder / "x.png"
    info.add_text(KEY, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_record_goes_through_a_png_whole(tmp_path: Path) -> None:
    path = Picture(Image.new("RGB", (8, 8)), RECORD).save(tmp_path / "folder" / "x.png")
    assert read_record(path) == RECORD
    with Image.open(path) as image:
        assert json.loads(image.text[KEY]) == RECORD.to_dict()
    assert [each.name for each in path.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("prompt", ["x"], ""),
        ("prompt", "x" * 9999, "x" * 2000),
        ("negative", None, ""),
        ("seed", -5, 0),
        ("seed", 10**400, 2**32 - 1),
        ("seed", 3.7, 3),
        ("seed", True, 0),
        ("steps", "many", None),
        ("steps", 10_000, 200),
        ("guidance", float("inf"), None),
        ("guidance", float("nan"), None),
        ("guidance", 99, 30),
        ("width", 10**9, 4096),
        ("task", "rm", "text"),
        ("combine", {}, "sum"),
        ("density", 7, 1),
        ("density", 0, 0.05),
        ("rank", None, 0),
        ("strength", True, 0.6),
        ("base", 3, ""),
        ("start", "../" * 999, ("../" * 999)[:200]),
        ("adapters", {"name": "mug"}, ()),
        ("adapters", [3, {"name": "mug"}, None], (AdapterRecord("mug"),)),
        ("adapters", [{}] * 4000, (AdapterRecord(),) * 8),
    ],
)
def test_what_is_out_of_bounds_or_of_another_type_is_brought_back(
    tmp_path: Path, key: str, written: object, read: object
) -> None:
    record = read_record(png(tmp_path, json.dumps({key: written, "unknown": 1})))
    assert record is not None
    assert getattr(record, key) == read


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("name", 3, ""),
        ("weight", 99, 2.0),
        ("weight", "1", 1.0),
        ("text_weight", None, None),
        ("text_weight", -7, -2.0),
        ("blocks", [1], {}),
        ("blocks", {"mid_block": 9, "up": "x"}, {"mid_block": 2.0, "up": 1.0}),
        ("blocks", {f"b{i}": 1 for i in range(999)}, {f"b{i}": 1.0 for i in range(64)}),
    ],
)
def test_so_is_what_a_record_says_of_an_adapter(
    tmp_path: Path, key: str, written: object, read: object
) -> None:
    record = read_record(png(tmp_path, json.dumps({"adapters": [{key: written}]})))
    assert record is not None
    assert getattr(record.adapters[0], key) == read


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", "{", '"x"', "[" * 90_000, '{"prompt": "' + "x" * 100_000 + '"}']
)
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    assert read_record(png(tmp_path, text)) is None


def test_files_that_are_no_pngs_have_no_record(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 40):
        path.write_bytes(content)
        assert read_record(path) is None
    Image.new("RGB", (8, 8)).save(path, "JPEG")
    assert read_record(path) is None
    assert read_record(tmp_path / "missing.png") is None
