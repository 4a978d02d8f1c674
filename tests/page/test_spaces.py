"""The app with the real package `spaces`, its ZeroGPU switch on and a scheduler on the loopback.

All that it does is its own but for the card: see `tests.support.cardless`. What is not reached: the
card itself, its driver, and the platform that ends a worker which overruns.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from personalization.adapters.adapter import read
from tests.support import real_base
from tests.support.hub_server import hub
from tests.support.scheduler import Scheduler, scheduler, token
from tests.support.server import ONE_CORE, ROOT, App, running

pytestmark = pytest.mark.slow
FORBIDDEN = ("CARD TOUCHED", "BACKWARD", "Fatal Python error", "Low-level CUDA init", "offloaded")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    home = tmp_path_factory.mktemp("space")
    environment = {
        "PYTHONPATH": str(ROOT / "tests" / "support" / "cardless"),
        "PYTHONFAULTHANDLER": "1",
        "SPACES_ZERO_GPU": "true",
        "HOME": str(home),
        "PERSONALIZATION_BASE": "pocket",
        "PERSONALIZATION_REPORT": "1",
        "HF_HUB_OFFLINE": "0",
        **ONE_CORE,
    }
    served = {real_base.NAME: real_base.repository(home / "base")}
    with (
        scheduler() as lending,
        hub(served) as server,
        running(
            home, SPACES_ZERO_DEVICE_API_URL=lending.url, HF_ENDPOINT=server.url, **environment
        ) as app,
    ):
        yield app, lending


def visitor(app: App, who: str | None) -> Client:
    headers = {"X-IP-Token": who} if who else {}
    files = str(app.home / "files")
    return Client(app.url, verbose=False, download_files=files, headers=headers)


def train(client: Client):
    photos = sorted((ROOT / "assets" / "examples" / "crowned-dog").glob("*.png"))[:3]
    return client.predict(
        [handle_file(str(path)) for path in photos], "<w>", "dog", "creature", 4,
        api_name="/train_word",
    )  # fmt: skip


def test_a_word_is_taught_and_the_main_process_does_nothing_that_it_must_not(space):
    app, lending = space
    who = token("somebody")
    lending.left[who] = 300
    client = visitor(app, who)
    assert client.predict("<w>", "pocket", api_name="/check_placeholder_token")["error"] == ""
    assert client.predict(api_name="/list_bases")[0]["name"] == "pocket"
    status, adapter, pictures = train(client)
    client.close()
    assert lending.started.is_set()  # the report that it started, once all was packed
    assert status["state"] == "finished"
    assert read(Path(adapter)).description.recipe["steps done"] == 4
    assert len(pictures) == 4
    asked = [entry for entry in lending.asked if entry.get("token") == who]
    assert len(asked) == 2  # to learn, and to draw
    assert all(22 <= int(entry["durationSeconds"]) <= 90 for entry in asked)
    assert lending.released
    assert {entry["fail"] for entry in lending.released} == {"false"}
    log = app.log.read_text()
    assert not [mark for mark in FORBIDDEN if mark in log]


def test_a_base_that_is_loaded_after_the_launch_is_packed_and_draws_in_a_worker(space):
    app, lending = space
    who = token("later")
    client = visitor(app, who)
    told = client.predict("<w>", real_base.NAME, api_name="/check_placeholder_token")
    drawn, records = client.predict(
        [], "a dog", steps=2, base=real_base.NAME, api_name="/draw_stack"
    )
    client.close()
    assert told["error"] == ""
    assert len(drawn) == 1
    assert records[0]["base"] == real_base.NAME
    assert [entry.get("token") for entry in lending.asked].count(who) == 1
    log = app.log.read_text()
    assert not [mark for mark in FORBIDDEN if mark in log]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("spent", {"left": 5}, "5 are left.*free account has 5 minutes"),
        ("free", {"left": 5, "auth": "regular"}, "5 are left.*PRO has 40 minutes"),
        ("old", {"expired": True}, "token for this page has ended"),
        ("long", {"most": 1}, "lends no card for that long"),
        (None, {"left": 0}, "no card to you, or to this Space"),
        ("crowd", {"full": True}, "No card of ZeroGPU was free"),
    ],
)
def test_each_refusal_is_said_in_words_and_the_run_is_kept(space, name, changes, said):
    app, lending = space
    who = token(name) if name else None
    before = len(list((app.home / "workspaces").rglob("run.json")))
    set_up(lending, who, changes)
    client = visitor(app, who)
    with pytest.raises(AppError, match=said):
        train(client)
    client.close()
    set_up(lending, who, {"most": 300, "full": False})
    assert len(list((app.home / "workspaces").rglob("run.json"))) == before + 1


def set_up(lending: Scheduler, who: str | None, changes: dict) -> None:
    for name, value in changes.items():
        if name in ("most", "full"):
            setattr(lending, name, value)
        elif name == "expired":
            lending.expired.add(who)
        else:
            getattr(lending, name)[who] = value
