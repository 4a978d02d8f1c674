"""A Hub on the loopback: enough of its HTTP for the real huggingface_hub to list, fetch and commit.

Every file is taken as a plain one; the real Hub takes large ones by LFS or Xet.
"""

from __future__ import annotations

import base64
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
    tags: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by name, what it held then
    messages: list[str] = field(default_factory=list)  # of its commits, with their descriptions

    def commit(self, asked: list[str]) -> str:
        """What a revision stands for: a commit for itself."""
        named = self.revisions is None and asked and len(asked[0]) == len(COMMIT)
        return asked[0] if named else COMMIT


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository]
    token: str = "hf_good"
    user: str = "visitor"
    may_write: bool = True  # whether the token has the scope
    stops_halfway: bool = False  # the connection is cut in the middle of a commit
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

    def do_POST(self) -> None:
        """What writes: repositories, commits and tags."""
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        body = self.body()
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        hub.asked.append(("POST", path, token))
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if token != hub.token:
            return self.refuse(401, "")
        if not hub.may_write:
            return self.refuse(403, "")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or hub.user}/{asked['name']}"
            if name in hub.repositories:
                return self.refuse(409, "")
            if not name.startswith(f"{hub.user}/"):
                return self.refuse(403, "")
            hub.repositories[name] = Repository(
                {}, private=asked.get("visibility") == "private", revisions=("main",)
            )
            return self.json({"url": f"{hub.url}/{name}"})
        parts = path.removeprefix("/api/models/").split("/")
        repository, action = hub.repositories["/".join(parts[:2])], parts[2]
        if action == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in files
            ]
            return self.json({"files": modes})
        if action == "tag":
            repository.tags[json.loads(body)["tag"]] = dict(repository.files)
            return self.json({})
        if hub.stops_halfway:
            self.close_connection = True
            return None
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        head = lines[0]["value"]
        repository.messages.append(f"{head['summary']}\n{head['description']}")
        repository.files = {**repository.files, **added}
        name = "/".join(parts[:2])
        return self.json({"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def body(self) -> bytes:
        """All of a request, sent at once or in chunks."""
        if length := self.headers.get("content-length"):
            return self.rfile.read(int(length))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def json(self, content: object) -> None:
        self.give(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        hub.asked.append((self.command, path, token))
        api = path.startswith("/api/models/")
        if path == "/api/whoami-v2":
            return self.json({"name": hub.user}) if token == hub.token else self.refuse(401, "")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name = "/".join(parts[:2])
        found, known = hub.repositories.get(name), token == hub.token
        if found is None or (found.private and not known):
            return self.refuse(404 if token else 401, "RepoNotFound")
        if api and parts[2:3] == ["refs"]:
            tags = [
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": COMMIT}
                for tag in found.tags
            ]
            return self.json({"branches": [], "converts": [], "tags": tags})
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
        if self.command != "HEAD":
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
