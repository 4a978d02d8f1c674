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
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
END = 1 << 20  # bytes


def lead_to(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    """For a test: huggingface_hub speaks to this Hub, wherever it is called from."""
    names = {
        "ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": False,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in names.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


@dataclass(frozen=True)
class Commit:
    """What was sent at once, and what the repository held then."""

    oid: str
    title: str
    description: str
    files: Mapping[str, bytes]
    date: str


@dataclass
class Repository:
    """Files by path; `private` and `gated` ask for the token that opens them."""

    files: Mapping[str, bytes]
    private: bool = False
    gated: bool = False
    revisions: tuple[str, ...] | None = ()  # beside COMMIT; None: any that is asked for
    commits: list[Commit] = field(default_factory=list)  # that were sent, the first one first
    tags: dict[str, str] = field(default_factory=dict)  # commits by name

    def commit(self, asked: list[str]) -> str:
        """What a revision stands for: a commit for itself."""
        if self.commits:
            return self.at(asked[0] if asked else "main").oid
        named = self.revisions is None and asked and len(asked[0]) == len(COMMIT)
        return asked[0] if named else COMMIT

    def at(self, revision: str) -> Commit:
        """The commit of a tag, of its own name, or else the newest."""
        oid = self.tags.get(revision, revision)
        return next((each for each in self.commits if each.oid == oid), self.commits[-1])

    def held(self, revision: str) -> Mapping[str, bytes]:
        """The files of that revision."""
        return self.at(revision).files if self.commits else self.files

    def knows(self, revision: str) -> bool:
        """Whether there is such a revision."""
        if self.commits:
            return revision in {"main", *self.tags, *(each.oid for each in self.commits)}
        return self.revisions is None or revision in (COMMIT, *self.revisions)

    def take(self, head: dict[str, str], added: dict[str, bytes], gone: set[str]) -> Commit:
        """A commit, which is all there or not at all."""
        kept = {name: content for name, content in self.files.items() if name not in gone}
        self.files = {**kept, **added}
        oid = f"{len(self.commits) + 1:040x}"
        date = f"2026-01-{1 + len(self.commits):02d}T12:00:00.000Z"
        self.commits.append(Commit(oid, head["summary"], head["description"], self.files, date))
        return self.commits[-1]


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository]
    token: str = "hf_good"
    user: str = "visitor"
    may_write: bool = True  # whether the token has the scope
    stops_halfway: bool = False  # the connection is cut in the middle of a commit
    stops_before_tag: bool = False  # or after it, before it has its tag
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


def etag_of(content: bytes) -> str:
    """The SHA-256; of what is large that of its ends, for it is asked before every request."""
    ends = content if len(content) < 2 * END else content[:END] + content[-END:]
    return hashlib.sha256(ends).hexdigest()


def as_told(commit: Commit, user: str) -> dict[str, Any]:
    """A commit in the Hub's list of them."""
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.description,
        "date": commit.date,
        "authors": [{"user": user}],
    }


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
            if hub.stops_before_tag:
                self.close_connection = True
                return None
            repository.tags[json.loads(body)["tag"]] = repository.at(parts[3]).oid
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
        gone = {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
        oid = repository.take(lines[0]["value"], added, gone).oid
        name = "/".join(parts[:2])
        return self.json({"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid})

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
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid}
                for tag, oid in found.tags.items()
            ]
            return self.json({"branches": [], "converts": [], "tags": tags})
        if api and parts[2:3] == ["commits"]:
            return self.json([as_told(each, hub.user) for each in reversed(found.commits)])
        held = found.held(parts[3] if len(parts) > 3 else "main")
        if api and parts[2:3] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in held.items()
            ]
            return self.json(tree)
        if api:
            files = [{"rfilename": n, "size": len(c)} for n, c in held.items()]
            body = {"id": name, "modelId": name, "sha": found.commit(parts[3:4]), "siblings": files}
            return self.json(body | {"private": found.private})
        if found.gated and not known:
            return self.refuse(403 if token else 401, "GatedRepo")
        file = "/".join(parts[4:])
        revision = parts[3] if parts[2:3] == ["resolve"] and len(parts) > 3 else ""
        if not revision or not found.knows(revision) or file not in held:
            return self.refuse(404, "EntryNotFound")
        content = held[file]
        etag = etag_of(content)
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
