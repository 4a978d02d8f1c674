"""ZeroGPU's scheduler on the loopback: what the real package `spaces` asks before it forks.

It answers as `spaces/zero/api.py` (0.51.3) reads: `/startup-report`, `/schedule`, `/allow`,
`/release`. Each visitor, known by the token in their request, has seconds a day; what is asked for
already holds the package's factor. There is no card behind it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def token(visitor: str, **more: Any) -> str:
    """A token as Hugging Face puts it into a request's `X-IP-Token`; nobody checks the seal."""
    payload = base64.urlsafe_b64encode(json.dumps({"user": visitor} | more).encode()).decode()
    return f"head.{payload.rstrip('=')}.seal"


@dataclass
class Scheduler:
    """What visitors have left, and what was asked for."""

    url: str = ""
    left: dict[str | None, int] = field(default_factory=dict)  # seconds, by token
    auth: dict[str | None, str] = field(default_factory=dict)  # "regular" or "pro", by token
    most: int = 300  # seconds of one request
    expired: set[str | None] = field(default_factory=set)
    full: bool = False  # no card is free, now or after a minute
    waits: int = 0  # pings in the queue before a card is free
    asked: list[dict[str, str]] = field(default_factory=list)
    released: list[dict[str, str]] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scheduler(**choices: Any) -> Iterator[Scheduler]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made = Scheduler(f"http://127.0.0.1:{server.server_port}", **choices)
    server.scheduler = made  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def scheduler(self) -> Scheduler:
        return self.server.scheduler  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        {
            "/startup-report": self.startup,
            "/schedule": self.schedule,
            "/allow": lambda _: self.give(200),
            "/release": self.release,
        }[asked.path](query)

    def startup(self, _query: dict[str, str]) -> None:
        self.scheduler.started.set()
        self.give(200)

    def release(self, query: dict[str, str]) -> None:
        self.scheduler.released.append(query)
        self.give(200)

    def schedule(self, query: dict[str, str]) -> None:
        """Grant it, or say what is left: 429 with the reason in a header, as the real one."""
        here, who = self.scheduler, query.get("token")
        here.asked.append(query)
        seconds, left = int(query["durationSeconds"]), here.left.get(who, 120)
        headers = {"X-Authenticated": here.auth[who]} if who in here.auth else {}
        if who in here.expired:
            return self.give(401, {}, headers)
        if here.full:
            return self.stream([b"event: failed\n\n"], headers)
        if seconds > here.most:
            return self.give(429, {"left": left, "wait": -1}, headers)
        if seconds > left:
            return self.give(429, {"left": left, "wait": 12 * 3600}, headers)
        here.left[who] = left - seconds
        granted = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "MIG-0", "allowToken": "allowed"}
        if here.waits:
            end = f"event: succeeded\ndata: {json.dumps(granted)}\n\n".encode()
            return self.stream([b"event: ping\n\n"] * here.waits + [end], headers)
        return self.give(200, granted, headers)

    def give(self, status: int, content: object = None, headers: dict[str, str] | None = None):
        body = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events: list[bytes], headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in {"Content-Type": "text/event-stream", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        for event in events:
            self.wfile.write(event)
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass
