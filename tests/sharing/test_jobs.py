"""A run on Hugging Face Jobs, by the real huggingface_hub and a Hub on the loopback."""

from __future__ import annotations

import time

import pytest

from personalization.errors import HubError
from personalization.sharing import jobs
from personalization.sharing.jobs import Order, Sent
from personalization.training.run import Run
from tests.support.hub_jobs import JobsHub, jobs_hub


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with jobs_hub() as hub:
        yield hub


def begun(tmp_path) -> Run:
    """A run of the pocket's that has not begun."""
    from PIL import Image

    from personalization.bases.catalog import CATALOG
    from personalization.data.concept import Concept
    from personalization.data.photo_file import Photo

    photos = tuple(Photo(c, Image.new("RGB", (64, 64), c)) for c in ("red", "blue", "green"))
    concept = Concept("object", "<mug>", "mug", photos)
    recipe = CATALOG["pocket"].recipes["word"].changed(steps=2, preview_every=0)
    return Run.create(tmp_path / "run", concept, recipe, "pocket")


def ordered(hub: JobsHub, minutes: int = 30) -> Order:
    cheapest = jobs.hardware(hub.token, endpoint=hub.url)[0]
    return Order(cheapest, minutes)


def ended(sent: Sent, hub: JobsHub) -> jobs.Progress:
    until = time.monotonic() + 200
    while (now := jobs.look(sent, hub.token, endpoint=hub.url)).stage in ("waiting", "running"):
        assert time.monotonic() < until
        time.sleep(0.2)
    return now


def test_hardware_comes_with_its_price_and_an_order_with_its_upper_bound(hub):
    order = ordered(hub)
    assert order.hardware.title == "Nvidia T4 - small"
    assert order.hardware.dollars_an_hour == pytest.approx(0.40, abs=0.01)
    assert order.most == pytest.approx(0.20, abs=0.01)
    with pytest.raises(HubError, match="1 to 360 minutes"):
        Order(order.hardware, 0).check()


def test_a_job_that_fails_or_is_cancelled_leaves_no_photos_there(hub, tmp_path):
    hub.fails = True
    run = begun(tmp_path)
    sent = jobs.send(run, ordered(hub), hub.token, endpoint=hub.url)
    assert ended(sent, hub).stage == "failed"
    assert any("photo" in name for name in hub.repositories[sent.repository].files)
    jobs.discard(sent, run, hub.token, endpoint=hub.url)
    assert not hub.repositories
    again = jobs.send(run, ordered(hub), hub.token, endpoint=hub.url)
    jobs.cancel(again, run, hub.token, endpoint=hub.url)
    assert not hub.repositories
    assert run.photo_hashes


def test_what_the_hub_refuses_is_said_and_nothing_is_left_there(hub, tmp_path):
    run, order = begun(tmp_path), ordered(hub)
    hub.may_run = False
    with pytest.raises(HubError, match="does not allow this app to run jobs"):
        jobs.send(run, order, hub.token, endpoint=hub.url)
    assert not hub.repositories
    with pytest.raises(HubError, match="sign in again"):
        jobs.send(run, order, "hf_ended", endpoint=hub.url)
    with pytest.raises(HubError, match="not signed in"):
        jobs.send(run, order, "", endpoint=hub.url)
    assert Sent.of(run) is None
