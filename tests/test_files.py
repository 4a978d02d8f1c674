"""A file from outside is told for what it is, by its first bytes and its header; sizes in words."""

import json
import os
import pickle
import resource
import signal
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from personalization.errors import AdapterError, WorkspaceError
from personalization.files import (
    PART,
    SCRATCH,
    append_lines,
    clear_parts,
    on_disk,
    read_header,
    scratch,
    size_words,
    write_atomically,
    writing,
)


def head(content: bytes, tail: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + tail


def refusal(folder: Path, content: bytes) -> str:
    path = folder / "my-style.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=r"my-style\.safetensors") as caught:
        read_header(path)
    return str(caught.value)


def test_a_header_has_every_tensors_shape_whatever_its_precision(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        str(dtype): torch.zeros(2, 3).to(dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    }
    path.write_bytes(save(tensors | {"scalar": torch.tensor(1.0)}, {"other": "program"}))
    header = read_header(path)
    assert header.metadata == {"other": "program"}
    assert header.shapes == dict.fromkeys(tensors, (2, 3)) | {"scalar": ()}


def test_a_header_that_lists_more_than_any_adapter_has_is_refused_at_once(tmp_path):
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    deep = {**nothing, "shape": [0] * 9}
    for listed, said in (
        ({f"x{i}": nothing for i in range(50_000)}, "50000 tensors, and at most 16000"),
        ({"unet." * 200_000: nothing}, "1000000 characters in a tensor's name"),
        ({"a": deep}, "9 dimensions"),
        ({"__metadata__": {str(i): "" for i in range(6000)}}, "6000 entries in its head"),
        ({"__metadata__": {"a": "x" * 9_000_000}}, "a head of 9 MB, and at most 8.4 MB"),
    ):
        assert said in refusal(tmp_path, head(json.dumps(listed).encode()))


def test_headers_of_every_length_are_read(tmp_path):
    path, lengths = tmp_path / "a.safetensors", set()
    for size in range(300):
        path.write_bytes(save({"a": torch.zeros(1)}, {"title": "x" * size}))
        lengths.add(struct.unpack("<Q", path.read_bytes()[:8])[0] % 256)
        read_header(path)
    assert 0x80 in lengths  # what a pickle's first byte looks like


HOSTILE = {
    "no json": head(b"{not json at all}"),
    "metadata is a list": head(b'{"__metadata__": [1, 2]}'),
    "offsets are words": head(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["x", "y"]}}'),
    "deep": head(b'{"a":' * 20000 + b"1" + b"}" * 20000),
    "header longer than the file": struct.pack("<Q", 10**9) + b"{}",
    "a list": head(b"[1, 2, 3]"),
    "a precision of nobody": head(
        b'{"a": {"dtype": "F1", "shape": [1], "data_offsets": [0, 4]}}', b"1234"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_safetensors_file_is_refused_by_name(tmp_path, name):
    assert "safetensors file" in refusal(tmp_path, HOSTILE[name])


@pytest.mark.parametrize("content", [-4, 4])
def test_a_file_cut_short_or_padded_is_refused(tmp_path, content):
    whole = save({"a": torch.zeros(8)})
    changed = whole[:content] if content < 0 else whole + bytes(content)
    assert "cut short or padded" in refusal(tmp_path, changed)


PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>" + b"<p>x</p>" * 99
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0a" * 32 + b"\nsize 1511\n"
OTHERS = {
    "LFS pointer": (POINTER, "pointer of Git LFS"),
    "web page": (PAGE, "web page"),
    "web page of a site that begins with a mark": (b"\xef\xbb\xbf  <html>" + PAGE, "web page"),
    "refusal of a site": (b'{"error":"Unauthorized","message":"Sign in."}', "a text in JSON"),
    "one line": (b"Invalid username or password.", "“Invalid username or password.”"),
    "text in another script": ("Доступ запрещён".encode(), "a text, and no adapter"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(600), "PNG"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(600), "JPEG"),
    "WebP": (b"RIFF\x00\x10\x00\x00WEBPVP8 " + bytes(600), "picture"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(600), "GGUF"),
    "PDF": (b"%PDF-1.7\n" + bytes(600), "PDF"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), "gzip archive"),
    "pickle": (pickle.dumps({"state_dict": 1}), "is a pickle"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named_and_nobody_is_sent_to_fetch_it_again(tmp_path, name):
    content, sentence = OTHERS[name]
    told = refusal(tmp_path, content)
    assert sentence in told
    assert "ownload it again" not in told


def test_a_zip_is_a_pickle_where_pytorch_has_saved_it_and_else_an_archive(tmp_path):
    path = tmp_path / "saved"
    torch.save({"a": torch.zeros(2)}, path)
    assert "is a pickle" in refusal(tmp_path, path.read_bytes())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("my-style.safetensors", b"x" * 99)
    assert "zip archive: a pickle in it could run code" in refusal(tmp_path, path.read_bytes())


@pytest.mark.parametrize("content", [b"", bytes(5000)])
def test_a_download_that_has_not_come_far_is_to_be_repeated(tmp_path, content):
    assert "Download it again" in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (800, "800 bytes"),
        (1000, "1 KB"),
        (1843, "1.8 KB"),
        (999_999, "1 MB"),
        (25_600_000, "26 MB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert size_words(size) == words


def test_what_a_failure_cuts_short_leaves_the_old_file_and_no_part(tmp_path: Path):
    path = write_atomically(tmp_path / "a", "old")
    with suppress(ZeroDivisionError), writing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_journal_whose_last_line_was_cut_goes_on_with_whole_ones(tmp_path: Path):
    path = tmp_path / "log"
    append_lines(path, ["one", "two"])
    path.write_bytes(path.read_bytes() + b"th")
    append_lines(path, ["three"])
    assert path.read_text() == "one\ntwo\nthree\n"
    path.write_bytes(b"cut")
    append_lines(path, [])
    assert path.read_bytes() == b""


def test_a_journal_keeps_whole_lines_where_the_disk_takes_no_more(tmp_path: Path):
    """A limit on a file's size is what of a full disk can be had everywhere."""
    path = tmp_path / "log"
    append_lines(path, ["x" * 99] * 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        with pytest.raises(WorkspaceError, match="disk is full"), on_disk():
            append_lines(path, ["y" * 99] * 30)
        with pytest.raises(WorkspaceError, match="disk is full"), on_disk():
            write_atomically(tmp_path / "new", bytes(9000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == ("x" * 99 + "\n") * 30
    assert os.listdir(tmp_path) == ["log"]


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"a{PART}").write_bytes(b"half")
    (tmp_path / f"b{PART}").mkdir()
    (tmp_path / f"b{PART}" / "c").write_bytes(b"half")
    (tmp_path / "whole").touch()
    with writing(tmp_path / "mine") as file, scratch(tmp_path) as folder:
        file.write(b"1")
        (folder / "d").touch()
        assert clear_parts(tmp_path) == 2
        assert (folder / "d").exists()
    assert sorted(os.listdir(tmp_path)) == ["mine", "runs", "whole"]
    assert os.listdir(tmp_path / "runs") == []


def test_among_others_temporary_files_only_ones_own_are_cleared(tmp_path: Path):
    for name in (f"{SCRATCH}x{PART}", f"others{PART}", "deep"):
        (tmp_path / name).mkdir()
    (tmp_path / "deep" / f"{SCRATCH}y{PART}").mkdir()
    assert clear_parts(tmp_path, SCRATCH) == 1
    assert sorted(os.listdir(tmp_path)) == ["deep", f"others{PART}"]
