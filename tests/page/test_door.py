"""Other sites' pages are strangers: no cookie of the visitor's, nothing of a private machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from personalization.page import door
from personalization.page.door import behind_the_door, is_own, is_private

PUBLIC, ELSEWHERE = "http://someone-app.hf.space", "https://elsewhere.example"
LONG = "a page with its configuration " * 10_000


async def say_cookies(request: Request) -> JSONResponse:
    """Answers as Gradio does: any origin may read it with its cookies, and it sets one."""
    said = {"cookies": request.cookies, "size": len(await request.body())}
    allow = {"Access-Control-Allow-Origin": request.headers.get("origin", "")}
    answer = JSONResponse(said, headers=allow | {"Access-Control-Allow-Credentials": "true"})
    answer.headers["Set-Cookie"] = "new=1; Max-Age=0"
    return answer


async def stumble(request: Request) -> JSONResponse:
    raise KeyError(request.query_params["said"])


@pytest.fixture
def site() -> Iterator[TestClient]:
    routes = [
        Route("/act", say_cookies, methods=["GET", "POST"]),
        Route("/stumble", stumble),
        Route("/", lambda _: PlainTextResponse(LONG)),
        Route("/events", lambda _: PlainTextResponse(LONG)),
    ]
    with TestClient(Starlette(routes=routes, lifespan=behind_the_door), PUBLIC) as client:
        client.cookies.set("session", "signed in")
        yield client


def test_the_visitors_sign_in_is_for_the_apps_own_page_alone(site: TestClient):
    def cookies(**headers: str) -> dict:
        return site.post("/act", headers=headers).json()["cookies"]

    assert cookies(origin=PUBLIC) == {"session": "signed in"}
    assert cookies(referer=f"{PUBLIC}/?a=b") == {"session": "signed in"}
    for other in (
        ELSEWHERE,
        "null",
        "https://someone-app.hf.space.evil.example",
        "http://x.hf.space",
    ):
        assert cookies(origin=other) == {}
        assert cookies(origin=other, referer=PUBLIC) == {}
    assert cookies() == {}


def test_another_site_reads_a_public_app_as_anybody_does(site: TestClient):
    site.cookies.clear()
    answer = site.post("/act", headers={"origin": ELSEWHERE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert "set-cookie" not in answer.headers
    asks = {"origin": ELSEWHERE, "access-control-request-method": "POST"}
    allowed = site.options("/act", headers=asks).headers
    assert allowed["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in allowed


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.1.5"])
def test_another_site_does_nothing_on_somebodys_own_machine(site: TestClient, host: str):
    headers = {"origin": ELSEWHERE, "host": host}
    assert site.post("/act", headers=headers).status_code == 403
    asks = headers | {"access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in site.options("/act", headers=asks).headers
    read = site.get("/act", headers=headers)
    assert read.json()["cookies"] == {}
    assert "access-control-allow-origin" not in read.headers
    assert site.post("/act", headers=headers | {"origin": f"http://{host}"}).status_code == 200
    assert site.post("/act", headers={"host": host}).status_code == 200  # a program


def test_more_than_a_request_needs_is_not_read(site: TestClient, monkeypatch):
    monkeypatch.setattr(door, "MAX_BODY", 1000)
    assert site.post("/act", content=b"1" * 1000).json()["size"] == 1000
    assert site.post("/act", content=b"1" * 1001).status_code == 413
    assert site.post("/act", content=iter([b"1" * 600] * 2)).status_code == 413  # of no said length


def test_a_page_is_own_where_its_address_is_the_one_asked():
    here = Headers({"host": "Someone-App.hf.space"})
    assert is_own(PUBLIC, here)
    assert not is_own("", here)
    assert not is_own(f"{PUBLIC}:81", here)
    assert is_own("https://a.example", Headers({"host": "x", "x-forwarded-host": "a.example"}))


def test_addresses_of_a_network_of_ones_own_are_private():
    assert all(map(is_private, ("localhost", "app.localhost:80", "mac.local", "10.0.0.1:80")))
    assert not any(map(is_private, ("a-b.hf.space", "8.8.8.8", "localhost.example")))


@pytest.mark.parametrize("path", ["/act%00", "/%00", "/stream/%00/a"])
def test_a_name_with_a_nul_is_that_of_nothing(site: TestClient, path: str):
    assert site.get(path).status_code == 404


def test_what_the_server_stumbles_over_is_logged_by_its_place_alone(site: TestClient, caplog):
    answer = site.get("/stumble", params={"said": "a secret"})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert "KeyError" in caplog.text
    assert "test_door.py" in caplog.text
    assert "secret" not in caplog.text


def test_the_page_is_packed_for_who_can_unpack_it_and_what_streams_is_not(site: TestClient):
    packed = site.get("/", headers={"accept-encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(LONG) / 10
    assert packed.text == LONG
    assert "content-encoding" not in site.get("/", headers={"accept-encoding": "identity"}).headers
    assert "content-encoding" not in site.get("/events").headers
