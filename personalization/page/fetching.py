"""A file by its address: from the public internet alone, and no larger than an upload may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from gradio.processing_utils import hash_url
from safehttpx import AsyncSecureTransport, async_validate_url

from personalization.data.concept import MAX_PHOTOS
from personalization.errors import PhotoError
from personalization.files import on_disk, size_words, write_atomically
from personalization.workspaces.library import slug

MOST = 64 * 2**20  # bytes
SECONDS = 60.0  # for all of it
REDIRECTS = 5

Way = Callable[[str], Awaitable[httpx.AsyncBaseTransport]]


async def public(host: str) -> httpx.AsyncBaseTransport:
    """The way to a host. Raises `ValueError` for one of this machine or its network."""
    return AsyncSecureTransport(await async_validate_url(host))


def is_address(text: Any) -> bool:
    """Whether that is an address to be fetched."""
    return isinstance(text, str) and text.startswith(("http://", "https://"))


def fetch(address: str, folder: Path, way: Way = public) -> Path:
    """The file at an address, among the uploads. Raises `PhotoError`."""
    path = folder / hash_url(address) / (slug(Path(httpx.URL(address).path).stem)[:40] + ".file")
    if not path.exists():
        try:
            content = asyncio.run(asyncio.wait_for(_content(address, way), SECONDS))
        except (httpx.HTTPError, ValueError, TimeoutError) as error:
            raise PhotoError(
                f"Nothing could be fetched from {address[:80]}: it does not answer, or is no "
                "address of the public internet. Upload the file itself.",
                field="photos",
            ) from error
        with on_disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
    return path


def fetched_in(data: Any, folder: Path) -> Any:
    """An event's data with the files that it names by their addresses fetched. Raises as `fetch`.

    At most as many as a form takes photos.
    """
    left = [MAX_PHOTOS]

    def part_of(part: Any) -> Any:
        match part:
            case {"path": path, "meta": {"_type": "gradio.FileData"}} if is_address(path):
                left[0] -= 1
                if left[0] < 0:
                    raise PhotoError(f"At most {MAX_PHOTOS} files are fetched.", field="photos")
                return {**part, "path": str(fetch(path, folder)), "url": None}
            case dict():
                return {key: part_of(each) for key, each in part.items()}
            case list() | tuple():
                return [part_of(each) for each in part]
        return part

    return part_of(data)


async def _content(address: str, way: Way) -> bytes:
    """Its bytes, counted as they come. Raises `PhotoError` for too many."""
    url = httpx.URL(address)
    for _ in range(REDIRECTS):
        async with (
            httpx.AsyncClient(transport=await way(url.host), trust_env=False) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.has_redirect_location:
                url = url.join(answer.headers["location"])
                continue
            answer.raise_for_status()
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MOST:
                    raise PhotoError(
                        f"What {address[:80]} gives is larger than {size_words(MOST)}, which is "
                        "the most that is fetched.",
                        field="photos",
                    )
            return bytes(content)
    raise ValueError("too many redirects")
