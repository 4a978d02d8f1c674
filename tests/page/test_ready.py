"""On a real base the stack is not empty at a first visit: what others made is a click away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from personalization.bases import CATALOG
from personalization.bases.ready import READY, ready_for
from personalization.page import html
from personalization.page.exchange import take_known
from personalization.page.session import Visit, workspaces
from tests.support import random_adapters
from tests.support.hub_server import Repository, hub


def test_every_family_of_them_is_in_the_catalog_and_every_one_has_a_licence() -> None:
    assert {"sd1", "sdxl"} <= READY.keys() <= {spec.family for spec in CATALOG.values()}
    for ready in READY.values():
        assert len(ready) >= 2
        for each in ready:
            assert each.file.endswith(".safetensors")
            assert each.checkpoint.licence
            assert each.checkpoint.revision is None or len(each.checkpoint.revision) == 40
    assert ready_for(CATALOG["pocket"]) == ()
    assert html.ready_adapters(()) == ""


def test_a_click_fetches_the_known_revision_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (ready,) = [each for each in READY["sdxl"] if each.checkpoint.source == "nerijs/pixel-art-xl"]
    adapter = random_adapters.make(rank=4).described(family="sdxl", placeholder_token="pixel art")
    adapter.save(tmp_path / ready.file)
    served: dict[str, Any] = {
        ready.checkpoint.source: Repository(
            {ready.file: (tmp_path / ready.file).read_bytes()}, revisions=None
        )
    }
    visit = Visit.open(workspaces().new().id, "sdxl")
    with hub(served) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        entry = take_known(visit, ready)
        asked = len(server.asked)
        assert any(str(ready.checkpoint.revision) in path for _, path, _ in server.asked)
        assert take_known(visit, ready).name == entry.name  # and not fetched again
        assert len(server.asked) == asked
    assert entry.description is not None
    assert entry.description.source == ready.key
