"""The app on ZeroGPU's terms, by a stand-in: forks, pickles, refusals, and a kill at overrun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from personalization.adapters.adapter import read
from tests.support.server import ROOT, running

STANDIN = str(ROOT / "tests" / "support" / "zerogpu")


def train(client: Client, steps: int, session: str = ""):
    photos = sorted((ROOT / "assets" / "examples" / "crowned-dog").glob("*.png"))[:3]
    return client.predict(
        [handle_file(str(path)) for path in photos], "<w>", "dog", "creature", steps, 0, session,
        api_name="/train_word",
    )  # fmt: skip


def allocations(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.slow
def test_a_run_longer_than_one_allocation_finishes_over_several(tmp_path):
    log = tmp_path / "allocations.jsonl"
    with running(
        tmp_path / "home",
        PYTHONPATH=STANDIN,
        PERSONALIZATION_SLICE="16",
        ZERO_ALLOWANCE="30",
        ZERO_LOG=str(log),
        PERSONALIZATION_REPORT="4",
    ) as app:
        client = Client(app.url, verbose=False, download_files=str(tmp_path / "files"))
        status, adapter, pictures = train(client, 60)
        said, figures, page = client.predict(status["session"], status["run"], api_name="/report")
        own = [a for a in client.predict(status["session"], api_name="/list_adapters") if a["own"]]
        client.close()
    assert status["state"] == "finished"
    assert read(Path(adapter)).description.recipe["steps done"] == 60
    assert len(pictures) >= 3
    training = [entry for entry in allocations(log) if entry["task"] == "gpu_train"]
    assert len(training) >= 2
    assert {entry["ended"] for entry in training} == {"done"}  # it left in time, each time
    assert all(entry["asked"] <= 16 for entry in training)
    assert said["state"] == "finished"
    assert said["verdict"] == figures["verdict"]
    assert figures["figures"]["pictures"] == said["done"] == said["total"]
    assert figures["verdict"].split(".")[0] in Path(page).read_text()
    assert [a["strength"] for a in own] == [said["strength"]]
    measuring = [entry for entry in allocations(log) if entry["task"] == "gpu_measure"]
    assert measuring
    assert {entry["ended"] for entry in measuring} == {"done"}
    assert all(entry["asked"] <= 16 for entry in measuring)


@pytest.mark.slow
def test_a_spent_quota_is_said_in_words_and_the_run_is_kept(tmp_path):
    with running(tmp_path / "home", PYTHONPATH=STANDIN, ZERO_QUOTA="1") as app:
        client = Client(app.url, verbose=False, download_files=str(tmp_path / "files"))
        with pytest.raises(AppError, match="quota"):
            train(client, 4)
        client.close()
        assert list((app.home / "workspaces").rglob("run.json"))
