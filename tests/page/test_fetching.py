"""Files by their addresses: from the public internet alone, and counted as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from personalization.errors import PhotoError
from personalization.page import fetching
from personalization.page.fetching import fetch, fetched_in


class Endless(httpx.AsyncByteStream):
    """A content that says no length and has no end."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.sent += 2**20
            yield bytes(2**20)


def answering(answer: httpx.Response) -> fetching.Way:
    async def way(host: str) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(lambda _: answer)

    return way


def test_what_an_address_gives_is_a_file_and_fetched_once(tmp_path: Path):
    way = answering(httpx.Response(200, content=b"picture"))
    path = fetch("https://example.com/a/My%20Photo.png?x=1", tmp_path, way)
    assert path.read_bytes() == b"picture"
    assert fetch("https://example.com/a/My%20Photo.png?x=1", tmp_path, answering(None)) == path


def test_more_than_a_file_may_have_is_not_read_to_its_end(tmp_path: Path):
    endless = Endless()
    with pytest.raises(PhotoError, match="larger than 67 MB"):
        fetch("https://example.com/a", tmp_path, answering(httpx.Response(200, stream=endless)))
    assert endless.sent <= fetching.MOST + 2 * 2**20
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/a", "http://localhost/a", "http://169.254.169.254/x", "http://[::1]/"],
)
def test_an_address_of_this_machine_or_its_network_is_none(tmp_path: Path, address: str):
    with pytest.raises(PhotoError, match="no address of the public internet"):
        fetch(address, tmp_path)


def test_a_redirect_is_looked_at_as_the_address_itself(tmp_path: Path):
    asked = []

    async def way(host: str) -> httpx.AsyncBaseTransport:
        asked.append(host)
        if host != "example.com":
            raise ValueError(host)
        moved = httpx.Response(302, headers={"location": "http://127.0.0.1/secret"})
        return httpx.MockTransport(lambda _: moved)

    with pytest.raises(PhotoError):
        fetch("https://example.com/a", tmp_path, way)
    assert asked == ["example.com", "127.0.0.1"]


def test_what_an_event_names_by_an_address_is_fetched_the_same_way(tmp_path: Path):
    file = {"path": "http://127.0.0.1:1/a", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(PhotoError):
        fetched_in([1, {"background": file}], tmp_path)
    assert fetched_in([1, {"a": ["http://127.0.0.1:1/a"]}], tmp_path) == [
        1,
        {"a": ["http://127.0.0.1:1/a"]},
    ]
