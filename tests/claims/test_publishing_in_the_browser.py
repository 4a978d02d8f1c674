"""A person signs in, publishes twice and goes back: the real page, a Hub on the loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import LONG, chromium
from tests.support.hub_server import Hub
from tests.support.publishing import (
    THEIRS,
    TOKEN,
    look_at_versions,
    name,
    open_publishing,
    publish,
    publishing,
    sign_in,
)

pytestmark = pytest.mark.browser


def found(token: str, folder: Path) -> list[Path]:
    """The files below the folder that hold the token."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if token.encode() in path.read_bytes()]


def refused(page: Page, server: Hub) -> None:
    """What can be in the way of who is signed in, as the page says it."""
    name(page, "someone/mug")
    publish(page, "no owner before it")
    name(page, "taken")
    publish(page, "this app did not publish it")
    name(page, "mug-lora")
    server.may_write = False
    publish(page, "agree that it creates repositories")
    server.may_write = True
    server.stops_halfway = True
    publish(page, "stopped halfway, so nothing was published")
    server.stops_halfway = False
    server.token = "hf_another"  # as if the sign-in had run out
    publish(page, "Your sign-in has ended")
    server.token = TOKEN
    assert not server.repositories["visitor/mug-lora"].files


def test_who_signs_in_publishes_gets_the_link_and_finds_the_versions(tmp_path):
    with chromium() as browser, publishing(browser, tmp_path) as (page, server):
        open_publishing(page)
        publish(page, "You are not signed in")
        sign_in(page)
        refused(page, server)
        page.locator("#publish-look").click()
        expect(page.locator("#publish-card")).to_contain_text("Use it", timeout=LONG)
        publish(page, "Published v1")
        address = f"{server.url}/visitor/mug-lora"
        expect(page.locator("#publish-notes a")).to_have_attribute("href", address)
        publish(page, "Published v2")
        page.get_by_label("Only I see it").uncheck()
        publish(page, "is private, and this version is to be public")

        look_at_versions(page, ["v2", "v1"])
        page.locator("#versions-draw").click()
        expect(page.locator("#versions-comparison img")).to_have_count(4, timeout=LONG)
        page.get_by_role("button", name="Go back to v1").click()
        expect(page.locator("#versions-notes")).to_contain_text("is v1 again", timeout=LONG)
        assert found(TOKEN, tmp_path) == []  # workspaces, served files and the log
        assert len(server.repositories["visitor/mug-lora"].commits) == 2
        assert server.repositories["visitor/taken"].files == THEIRS
