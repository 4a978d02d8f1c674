"""Which base: the owner's, the device's, the visitor's; and why one cannot be had."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from personalization import bases
from personalization.bases import CATALOG, loading, memory
from personalization.errors import BaseError
from personalization.training import base_selection
from personalization.training.base_selection import POCKET, VARIABLE
from tests.support import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = memory.GIB


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "free", "shared", "name"),
    [
        (CPU, 900 * GIB, False, "pocket"),
        (CUDA, 2 * GIB, False, "pocket"),
        (CUDA, 8 * GIB, False, "sd15"),
        (CUDA, 80 * GIB, False, "sdxl"),
        (CUDA, 48 * GIB, True, "sd15"),
    ],
)
def test_the_default_is_what_the_device_has_the_memory_to_teach(
    device: torch.device, free: int, shared: bool, name: str
) -> None:
    assert base_selection.default(device, free, shared=shared).name == name


def test_the_owner_names_an_entry_a_folder_or_nothing_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "sdxl")
    assert base_selection.default(CPU).name == "sdxl"
    folder = tmp_path / "my-model"
    tiny.family_pipeline("sd21").save_pretrained(folder)
    monkeypatch.setenv(VARIABLE, str(folder))
    assert (base_selection.default(CPU).name, base_selection.default(CPU).source) == (
        "my-model",
        str(folder),
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.safetensors"))
    with pytest.raises(BaseError, match=r"There is no file gone\.safetensors"):
        base_selection.default(CPU)


def test_a_visitor_on_a_cpu_may_have_every_base_that_fits_its_memory() -> None:
    assert base_selection.named("pocket") == POCKET
    assert base_selection.named("sdxl") == CATALOG["sdxl"]
    listed = base_selection.options(POCKET, CPU, 60 * GIB)
    assert {option.spec.name for option in listed} == CATALOG.keys()
    assert not any(option.why_not for option in listed)
    few = {o.spec.name: o.why_not for o in base_selection.options(POCKET, CPU, int(2.5 * GIB))}
    assert "2.5 GiB are free here" in few["sdxl"]
    assert few["bk-sdm-tiny"] == ""


def test_what_does_not_fit_is_offered_with_its_reason() -> None:
    listed = base_selection.options(CATALOG["sd15"], CUDA, int(13.5 * GIB))
    assert listed[0].spec.name == "sd15"  # the process's own comes first
    why = {option.spec.name: option.why_not for option in listed}
    assert why["sdxl"] == why["pocket"] == ""
    assert why["flux2-klein"].startswith("its weights take ")
    assert "13.5 GiB are free" in why["flux2-klein"]


@pytest.mark.parametrize(
    "typed",
    ["assets/pocket", "/etc/passwd", "../../etc", "a/b/c", "~/model", "nothing", "x/..", "a b/c"],
)
def test_what_a_visitor_types_is_never_a_path(typed: str) -> None:
    with pytest.raises(BaseError, match="no repository’s name"):
        base_selection.named(typed)


def test_a_visitors_repository_is_read_without_the_machines_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokens: list[str | None] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            tokens.append(self.headers["Authorization"])
            self.send_response(401)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server:
        with pytest.raises(BaseError, match="no repository owner/private, or it is private"):
            base_selection.named("https://huggingface.co/owner/private/tree/main")
        assert set(tokens) == {None}
        with pytest.raises(BaseError):
            loading.recognised("owner/private")
        assert "Bearer hf_owner" in tokens
        server.shutdown()


def test_a_base_that_cannot_be_had_leaves_the_one_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "computes_half", lambda: False)
    used = bases.load("pocket", CPU)
    monkeypatch.setattr(memory, "available", lambda device: 2 * GIB)
    with pytest.raises(BaseError, match=r"XL 1.0 takes 12.9 GiB .* and 2.\d GiB are free"):
        bases.load("sdxl", CPU)
    assert bases.load("pocket", CPU) is used
