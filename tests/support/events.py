"""The page's events as a browser sends them: the app in this process, behind its door."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.testclient import TestClient

from personalization.bases.catalog import ASSETS
from personalization.page.door import behind_the_door
from personalization.page.session import workspaces


class Events:
    """Sends what stands in components to the functions that are wired to them."""

    def __init__(self, client: TestClient, demo: Any) -> None:
        self.client, self.demo = client, demo

    def of(self, function: Callable[..., Any]) -> int:
        """The number of an event, by its function."""
        return next(n for n, each in self.demo.fns.items() if each.fn == function)

    def send(self, event: int, values: Mapping[Any, Any]) -> dict[str, Any]:
        """What comes back for these values, the others as the page has them at first."""
        parts = self.demo.fns[event].inputs
        data = [values.get(part, getattr(part, "value", None)) for part in parts]
        return self.post({"data": data, "fn_index": event})

    def post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What comes back for that body."""
        body = {"session_hash": "test", **body}
        return self.client.post("/gradio_api/run/predict", json=body).json()

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file as an event refers to it."""
        files = {"files": (name, content)}
        (path,) = self.client.post("/gradio_api/upload", files=files).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def is_served(self, path: str) -> bool:
        """Whether a file can be fetched."""
        return self.client.get(f"/gradio_api/file={path}").status_code == 200


@contextmanager
def the_page() -> Iterator[Events]:
    """The app's page, served in this process."""
    import app

    served = gr.mount_gradio_app(
        FastAPI(lifespan=behind_the_door),
        app.demo,
        "",
        allowed_paths=[str(ASSETS)],
        blocked_paths=[str(workspaces().root.resolve())],
        max_file_size="64mb",
        show_error=True,
        enable_monitoring=False,
    )
    with TestClient(served, "http://127.0.0.1:7860") as client:
        yield Events(client, app.demo)
