"""A base that cannot be had costs a sentence: the one in use stays, and runs are kept."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from personalization import bases
from personalization.bases import CATALOG, loading
from personalization.errors import BaseError
from personalization.recipe import LowRank, Recipe
from personalization.training.run import Run
from tests.support import tiny
from tests.support.hub_server import Hub, Repository, hub

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("repository")
    tiny.pipeline().save_pretrained(folder)
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def served(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Hub]:
    """Repositories: one whole, one without a part, one gated."""
    partly = {name: content for name, content in files.items() if name != WEIGHTS}
    repositories = {
        "a/whole": Repository(files, revisions=("main",)),
        "a/partly": Repository(partly, revisions=("main",)),
        "a/gated": Repository(files, gated=True, revisions=("main",)),
    }
    with hub(repositories) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def spec(source: str) -> Any:
    return replace(
        CATALOG["sd15"], name=source, source=source, revision=None, architecture="pocket"
    )


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a/partly", r"a/partly cannot be loaded .*diffusion_pytorch_model.*: is it all there\?"),
        ("a/gated", "a/gated is gated: its owner wants its terms accepted first"),
    ],
)
def test_the_base_in_use_stays_and_the_run_is_kept(tmp_path: Path, source: str, said: str) -> None:
    used = bases.load("pocket", "cpu")
    recipe = Recipe(LowRank(rank=2), steps=2)
    Run.create(tmp_path / "run", tiny.concept(), recipe, "pocket")
    with pytest.raises(BaseError, match=f"{said}.* The base in use stays"):
        bases.load(spec(source), "cpu")
    assert bases.load("pocket", "cpu") is used
    assert Run(tmp_path / "run", Run.open(tmp_path / "run").record).state.status == "new"


@pytest.mark.usefixtures("served")
def test_a_disk_without_room_for_the_weights_is_said_and_loading_again_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the client writes a file; a disk cannot be filled in a test."""
    real = huggingface_hub.file_download.http_get

    def full(url: str, *given: Any, **named: Any) -> None:
        if url.endswith(WEIGHTS):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(url, *given, **named)

    used = bases.load("pocket", "cpu")
    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    with pytest.raises(BaseError, match=r"no room for a/whole: .* The base in use stays"):
        bases.load(spec("a/whole"), "cpu")
    assert bases.load("pocket", "cpu") is used
    monkeypatch.setattr(huggingface_hub.file_download, "http_get", real)
    assert bases.load(spec("a/whole"), "cpu").spec.source == "a/whole"


def test_weights_distilled_to_few_steps_are_told_from_their_base(tmp_path: Path) -> None:
    index = '{"_class_name": "Flux2KleinPipeline", "is_distilled": %s}'
    for said, name in (("true", "flux2-klein-4-steps"), ("false", "flux2-klein")):
        (tmp_path / said).mkdir()
        (tmp_path / said / "model_index.json").write_text(index % said)
        assert loading.recognised(str(tmp_path / said)).sampling == CATALOG[name].sampling
