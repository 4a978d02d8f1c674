"""A Hub on the loopback: enough of its HTTP for the real huggingface_hub to list and fetch."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files by path; `private` and `gated` ask for the token that opens them."""

    files: Mapping[str, bytes]
    private: bool = False
    gated: bool = False
    revisions: tuple[str, ...] | None = ()  # beside COMMIT; None: any that is asked for

    def commit(self, asked: list[str]) -> str:
        """What a revision stands for: a commit for itself."""
        named = self.revisions is None and asked and len(asked[0]) == len(COMMIT)
        return asked[0] if named else COMMIT


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository]
    token: str = "hf_good"
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, token

    @property
    def sent(self) -> int:
        """Bytes of files that were sent."""
        return self._sent

    _sent: int = 0


@contextmanager
def hub(repositories: dict[str, Repository]) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        hub.asked.append((self.command, path, token))
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name = "/".join(parts[:2])
        found, known = hub.repositories.get(name), token == hub.token
        if found is None or (found.private and not known):
            return self.refuse(404 if token else 401, "RepoNotFound")
        if api and parts[2:3] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": COMMIT}
                for n, c in found.files.items()
            ]
            return self.give(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        if api:
            files = [{"rfilename": n, "size": len(c)} for n, c in found.files.items()]
            body = {"id": name, "modelId": name, "sha": found.commit(parts[3:4]), "siblings": files}
            return self.give(json.dumps(body).encode(), {"Content-Type": "application/json"})
        if found.gated and not known:
            return self.refuse(403 if token else 401, "GatedRepo")
        file = "/".join(parts[4:])
        revision = parts[3] if parts[2:3] == ["resolve"] and len(parts) > 3 else ""
        known = found.revisions is None or revision in (COMMIT, *found.revisions)
        if not revision or not known or file not in found.files:
            return self.refuse(404, "EntryNotFound")
        content = found.files[file]
        etag = hashlib.sha256(content).hexdigest()
        return self.give(
            content, {"ETag": f'"{etag}"', "X-Repo-Commit": found.commit([revision])}, file=True
        )

    def give(self, content: bytes, headers: dict[str, str], *, file: bool = False) -> None:
        wanted, status = self.headers.get("range"), 200
        if file and wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(len(content), int(last) + 1) if last else len(content)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            content, status = content[int(first) : end], 206
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
            if file:
                self.server.hub._sent += len(content)  # type: ignore[attr-defined]

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass
