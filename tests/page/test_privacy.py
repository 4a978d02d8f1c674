"""What a visitor's token and id leave behind: nothing on the disk, nothing in the log."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import huggingface_hub
import pytest
from gradio.utils import get_upload_folder

from personalization.bases.catalog import ASSETS
from personalization.page.session import workspaces
from tests.support.events import Events, the_page
from tests.support.hub_server import Repository, hub

ADAPTER = (ASSETS / "adapters" / "neon.safetensors").read_bytes()


@pytest.fixture(scope="module")
def page():
    with the_page() as events:
        yield events


def asked(page: Events, repository: str, token: str, session: str) -> dict:
    """`add_from_hub`, as a program calls it."""
    event = next(n for n, each in page.demo.fns.items() if each.api_name == "add_from_hub")
    said = {"repository": repository, "file": "", "session": session, "base": "", "token": token}
    values = {part: said[part.label] for part in page.demo.fns[event].inputs}
    return page.send(event, values)


@pytest.mark.parametrize("right", [True, False])
def test_a_token_is_neither_kept_nor_logged(page: Events, monkeypatch, tmp_path: Path, right: bool):
    workspace, log = workspaces().new(), io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    levels = {name: logging.getLogger(name).level for name in ("", "httpx", "huggingface_hub")}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.DEBUG)
        with hub(
            {"someone/secret": Repository({"a.safetensors": ADAPTER}, private=True)}
        ) as server:
            template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
            monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            token = server.token if right else "hf_of_nobody"
            answer = asked(page, "someone/secret", token, workspace.id)
            assert any(token in each for _, _, each in server.asked), "it was used for the call"
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert ("name" in str(answer.get("data"))) is right, answer
    assert token not in str(answer)
    assert token not in log.getvalue()
    for folder in (workspaces().root, Path(get_upload_folder()), tmp_path):
        for path in folder.rglob("*"):
            assert not path.is_file() or token.encode() not in path.read_bytes(), path
    workspace.delete()
