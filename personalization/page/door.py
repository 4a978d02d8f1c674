"""Who may come in: what other sites' pages may do here, and how much a request may hold.

And what goes out packed: the page with its configuration, a megabyte that Gradio sends as it is.

A browser sends along with what a page asks where that page is from (`Origin`), and no script can
change that. A page of another site gets what any stranger gets: its requests come without the
visitor's cookies, so without their sign-in, and the answers are not for its visitor's eyes alone.
Of an app on somebody's own machine it gets nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .messages import log_unforeseen

SAFE = ("GET", "HEAD")
PACKED = ("/", "/config", "/gradio_api/info")
MAX_BODY = 64 * 2**20  # bytes of a request
MAX_UPLOAD = 2**30  # bytes of one with files, each of which Gradio counts
ELSEWHERE = "This app answers its own page and programs, and no page of another site."
NO_NAME = "There is nothing of that name."
TOO_LARGE = "This is more than the app takes at once. Send less."


@asynccontextmanager
async def behind_the_door(app: Starlette) -> AsyncIterator[None]:
    """A lifespan that puts the door before all other middleware, which has been built by then."""
    if app.middleware_stack is not None:
        app.middleware_stack = Door(app.middleware_stack)
    yield


class Door:
    """Before everything that Gradio serves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.packing = app, GZipMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, let in as a stranger, or say no."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, safe = Headers(scope=scope), scope["method"] in SAFE
        foreign = "origin" in headers and not is_own(headers["origin"], headers)
        private = is_private(headers.get("host", ""))
        if "\0" in scope["path"]:  # a name that no file can have, and file systems raise at
            await PlainTextResponse(NO_NAME, 404)(scope, receive, send)
            return
        if foreign and private and not safe:
            await JSONResponse({"detail": ELSEWHERE}, 403)(scope, receive, send)
            return
        if foreign and "access-control-request-method" in headers:
            await _allowed(headers)(scope, receive, send)
            return
        # Programs have no cookies, and browsers say on every POST whose page it is.
        said = headers.get("origin") or headers.get("referer", "")
        if foreign or not (safe or is_own(said, headers)):
            scope = {**scope, "headers": [h for h in scope["headers"] if h[0] != b"cookie"]}
        app = self.packing if scope["path"] in PACKED else self.app
        try:
            await app(
                scope,
                _counted(receive, MAX_UPLOAD if "/upload" in scope["path"] else MAX_BODY),
                _to_strangers(send, private=private) if foreign else send,
            )
        except Exception as error:  # the answer is 500 by now; the server would log its words
            log_unforeseen(error)


def is_own(address: str, headers: Headers) -> bool:
    """Whether a page's address is of this app, by what the request says that it was sent to."""
    there = urlsplit(address).netloc.lower()
    here = (headers.get("host"), headers.get("x-forwarded-host"), os.environ.get("SPACE_HOST"))
    return bool(there) and there in [name.lower() for name in here if name]


def is_private(host: str) -> bool:
    """Whether the app answers under a name of this machine, or of its own network."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return not ip_address(name).is_global
    except ValueError:
        return name == "localhost" or name.endswith((".localhost", ".local"))


def _allowed(headers: Headers) -> PlainTextResponse:
    """The answer to a browser that asks whether another site's page may: without the visitor."""
    asked = headers.get("access-control-request-headers", "")
    allow = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, POST"}
    return PlainTextResponse("OK", headers={**allow, "Access-Control-Allow-Headers": asked})


def _to_strangers(send: Send, *, private: bool) -> Send:
    """Answers to a page of another site, which may read them where the app is public."""

    async def to_strangers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in ("access-control-allow-credentials", "access-control-allow-origin"):
                del headers[name]
            del headers["set-cookie"]
            if not private:
                headers["access-control-allow-origin"] = "*"
        await send(message)

    return to_strangers


def _counted(receive: Receive, most: int) -> Receive:
    """What comes in, up to that many bytes."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, TOO_LARGE)
        return message

    return counted
