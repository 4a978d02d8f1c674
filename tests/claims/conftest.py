"""What the tests that start the app or open a browser share.

An app's start and a browser's cost more than most of what is then done with them. So there is one
app as it is at home and one as on a Space, and a visitor of their own for each test: what one has
in their workspace or their browser, no other sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium, visiting
from tests.support.hub_server import Repository, hub
from tests.support.publishing import Space, space
from tests.support.server import ONE_CORE, ROOT, App, running

DOGS = (ROOT / "assets" / "adapters" / "crowned-dog.safetensors").read_bytes()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=30_000)  # milliseconds: and for an answer
    with chromium() as browser:
        yield browser


def on_the_hub(folder: Path) -> dict[str, Repository]:
    """An adapter, a real base, and the first of those that are ready for it; the second is gone."""
    from personalization.bases.ready import READY
    from tests.support import random_adapters, real_base  # seconds, which the house needs not

    pixels, _ = READY["sd1"]
    made = random_adapters.make(rank=4).described(family="sd1", placeholder_token="PIXARFK")
    made.save(folder / pixels.file)
    content = {pixels.file: (folder / pixels.file).read_bytes()}
    return {
        "someone/dogs": Repository({"dog.safetensors": DOGS}),
        real_base.NAME: real_base.repository(folder / "base", sample_size=64),
        pixels.checkpoint.source: Repository(content, revisions=None),
    }


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """As at home, with a Hub in reach and reports as short as they can be."""
    home = tmp_path_factory.mktemp("app")
    choices = {"PERSONALIZATION_REPORT": "1", "HF_HUB_OFFLINE": "0", **ONE_CORE}
    with (
        hub(on_the_hub(tmp_path_factory.mktemp("served"))) as server,
        running(home, HF_ENDPOINT=server.url, **choices) as app,
    ):
        yield app


@pytest.fixture(scope="package")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """As on a Space, where one can sign in, publish and send jobs."""
    private = {"someone/secret": Repository({"secret.safetensors": DOGS}, private=True)}
    choices = {"PERSONALIZATION_REPORT": "1", **ONE_CORE}
    with space(tmp_path_factory.mktemp("space"), private, **choices) as here:
        yield here


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    """A new visitor's."""
    with visiting(browser, app.url) as page:
        yield page


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[Client]:
    """A program, which has a workspace for each session that it asks for."""
    client = Client(app.url, verbose=False)
    yield client
    client.close()
