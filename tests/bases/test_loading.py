"""A base that cannot be had costs a sentence: the one in use stays, and loading again goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from personalization.bases import CATALOG, loading
from tests.support import tiny
from tests.support.hub_server import Repository, hub
from tests.support.server import ROOT

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
# A process of its own: the Hub's client reads its endpoint when it is imported. A disk cannot be
# filled in a test: it is full where the client writes the weights.
VISIT = f"""
import errno, json
from dataclasses import replace
import huggingface_hub.file_download
from personalization import bases
from personalization.bases import CATALOG
from personalization.errors import BaseError

real = huggingface_hub.file_download.http_get

def full(url, *given, **named):
    if url.endswith({WEIGHTS!r}):
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(url, *given, **named)

def ask(source):
    try:
        spec = replace(
            CATALOG["sd15"], name=source, source=source, revision=None, architecture="pocket"
        )
        return bases.load(spec, "cpu").fingerprint
    except BaseError as error:
        return str(error)

used = bases.load("pocket", "cpu")
said = {{source: ask(source) for source in ("a/partly", "a/gated")}}
huggingface_hub.file_download.http_get = full
said["full"] = ask("a/whole")
huggingface_hub.file_download.http_get = real
said["again"] = ask("a/whole")
said["stays"] = bases.load("pocket", "cpu") is used
print(json.dumps(said))
"""


@pytest.mark.slow
def test_what_is_missing_gated_or_has_no_room_is_said_and_the_base_in_use_stays(
    tmp_path: Path,
) -> None:
    pipe = tiny.pipeline()
    pipe.save_pretrained(tmp_path / "repository")
    found = [path for path in (tmp_path / "repository").rglob("*") if path.is_file()]
    files = {
        path.relative_to(tmp_path / "repository").as_posix(): path.read_bytes() for path in found
    }
    partly = {name: content for name, content in files.items() if name != WEIGHTS}
    repositories = {
        "a/whole": Repository(files, revisions=None),
        "a/partly": Repository(partly, revisions=None),
        "a/gated": Repository(files, gated=True, revisions=None),
    }
    with hub(repositories) as server:
        answer = subprocess.run(
            [sys.executable, "-c", VISIT],
            cwd=ROOT,
            env=os.environ
            | {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert answer.returncode == 0, answer.stderr[-2000:]
    said = json.loads(answer.stdout.splitlines()[-1])
    assert said["a/partly"].startswith("a/partly cannot be loaded ")
    assert said["a/partly"].endswith("is it all there? The base in use stays.")
    assert said["a/gated"].startswith("a/gated is gated: its owner wants its terms accepted first")
    assert said["a/gated"].endswith("The base in use stays.")
    assert said["full"].startswith("The disk has no room for a/whole: make some, or name a larger")
    assert said["again"] == tiny.base().fingerprint
    assert said["stays"]


def test_weights_distilled_to_few_steps_are_told_from_their_base(tmp_path: Path) -> None:
    index = '{"_class_name": "Flux2KleinPipeline", "is_distilled": %s}'
    for said, name in (("true", "flux2-klein-4-steps"), ("false", "flux2-klein")):
        (tmp_path / said).mkdir()
        (tmp_path / said / "model_index.json").write_text(index % said)
        assert loading.recognised(str(tmp_path / said)).sampling == CATALOG[name].sampling
