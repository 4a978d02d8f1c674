"""Jobs on the loopback's Hub, and dataset repositories: what a job is told to do, it does here.

A job is a process of this machine: its command without `uv` and what that installs, its secrets as
its environment, the Hub as its endpoint. A name is a repository's whatever its type.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.hub_server import Hub, Repository, _Handler

HARDWARE = [
    {
        "name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB",
        "accelerator": None, "unitCostMicroUSD": 167, "unitCostUSD": 0.000167,
        "unitLabel": "minute",
    },
    {
        "name": "t4-small", "prettyName": "Nvidia T4 - small", "cpu": "4 vCPU", "ram": "15 GB",
        "accelerator": {"type": "gpu", "model": "T4", "quantity": "1", "vram": "16 GB",
                        "manufacturer": "Nvidia"},
        "unitCostMicroUSD": 6667, "unitCostUSD": 0.006667, "unitLabel": "minute",
    },
]  # fmt: skip


@dataclass
class Job:
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen | None = None


@dataclass
class JobsHub(Hub):
    jobs: dict[str, Job] = field(default_factory=dict)
    may_run: bool = True  # whether the token has the scope
    fails: bool = False  # a job ends before its first line
    deleted: list[str] = field(default_factory=list)

    def run(self, job: Job) -> None:
        """Do what it says, in an empty folder."""
        job.stage = "RUNNING"
        if self.fails:
            job.stage = "ERROR"
            return
        command = job.spec["command"]
        start = command.index("python")
        environment = {
            **os.environ,
            **job.spec.get("secrets", {}),
            "HF_ENDPOINT": self.url,
            "PYTHONPATH": "",
        }
        environment.pop("HF_HUB_OFFLINE", None)
        with tempfile.TemporaryDirectory() as folder:
            environment["HF_HOME"] = str(Path(folder, "home"))
            job.process = subprocess.Popen(
                [sys.executable, *command[start + 1 :]],
                cwd=folder, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert job.process.stdout
            for line in job.process.stdout:
                job.lines.append(line.rstrip("\n"))
            ended = job.process.wait()
        if job.stage == "RUNNING":
            job.stage = "ERROR" if ended else "COMPLETED"


@contextmanager
def jobs_hub(repositories: Mapping[str, Repository] | None = None) -> Iterator[JobsHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _JobsHandler)
    address = f"http://127.0.0.1:{server.server_port}"
    server.hub = JobsHub(address, dict(repositories or {}))  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        for job in server.hub.jobs.values():  # type: ignore[attr-defined]
            if job.process:
                job.process.kill()
        server.shutdown()
        server.server_close()


class _JobsHandler(_Handler):
    @property
    def hub(self) -> JobsHub:
        return self.server.hub  # type: ignore[attr-defined]

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        path = unquote(urlsplit(self.path).path)
        if path == "/api/jobs/hardware":
            return self.json(HARDWARE)
        if path.startswith("/api/jobs/"):
            return self.of_job(path)
        self.as_model()
        return super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802 - http.server's name
        self.as_model()
        super().do_HEAD()

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/jobs/"):
            return self.of_job(path)
        self.as_model()
        return super().do_POST()

    def do_DELETE(self) -> None:  # noqa: N802 - http.server's name
        asked = json.loads(self.body())
        name = f"{asked['organization']}/{asked['name']}"
        if name not in self.hub.repositories:
            return self.refuse(404, "RepoNotFound")
        del self.hub.repositories[name]
        self.hub.deleted.append(name)
        return self.json({})

    def as_model(self) -> None:
        self.path = self.path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")

    def of_job(self, path: str) -> None:
        """Start one, tell of it, end it."""
        hub = self.hub
        if (self.headers.get("authorization") or "").removeprefix("Bearer ") != hub.token:
            return self.refuse(401, "")
        name, *action = path.removeprefix(f"/api/jobs/{hub.user}").strip("/").split("/")
        if not name:
            spec = json.loads(self.body())
            if not hub.may_run:
                return self.refuse(403, "")
            name = f"job{len(hub.jobs)}"
            hub.jobs[name] = Job(spec)
            threading.Thread(target=hub.run, args=[hub.jobs[name]], daemon=True).start()
        job = hub.jobs[name]
        if action == ["cancel"]:
            job.stage = "CANCELED"
            if job.process:
                job.process.kill()
        if action == ["logs"]:
            events = "".join(
                f"data: {json.dumps({'data': line, 'timestamp': '2026-11-26T00:00:00Z'})}\n\n"
                for line in job.lines
            )
            return self.give(events.encode(), {"Content-Type": "text/event-stream"})
        owner = {"id": "1", "name": hub.user, "type": "user"}
        said = {"id": name, "owner": owner, "status": {"stage": job.stage, "message": None}}
        return self.json(said | {"createdAt": "2026-11-26T00:00:00.000Z"})
