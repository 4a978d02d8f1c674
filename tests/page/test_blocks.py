"""Whatever is sent to an event is bounded before anything is done, and refused in a sentence."""

from __future__ import annotations

import errno
import json
import logging
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App
from gradio.utils import get_upload_folder
from PIL import Image
from starlette.testclient import TestClient

from personalization.data.image_file import AT_ONCE
from personalization.errors import PhotoError
from personalization.page import blocks
from personalization.page.blocks import Page, check_bounds
from personalization.page.event_options import UNQUEUED
from personalization.page.messages import MISSHAPED, keep_values_out_of_the_log


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x" * 20_001, "20001 characters; at most 20000"),
        ([{"a": "x" * 20_001}], "characters"),
        ({"x" * 20_001: 1}, "characters"),
        ("data:" + "x" * 2**26, "characters"),
        (list(range(20_001)), "too many parts"),
        ([[1] * 200] * 200, "too many parts"),
        (nested(40), "too many parts"),
        (10**400, "beyond all"),
        (float("inf"), "beyond all"),
    ],
)
def test_more_than_can_be_meant_is_refused(value, said):
    with pytest.raises(gr.Error, match=said):
        check_bounds([value])


def test_what_a_page_sends_is_within_the_bounds():
    check_bounds(["x" * 20_000, "data:" + "x" * 10**6, [1.5] * 1000, nested(30), None, True, -1])


@pytest.fixture
def page():
    def stumble(what: str) -> str:
        if what == "foreseen":
            raise PhotoError("a.png is empty.")
        raise KeyError(what)

    with Page() as demo:
        text, number = gr.Textbox(), gr.Slider(0, 1)
        gr.Button().click(stumble, text, text, **UNQUEUED)
        gr.Button().click(lambda value: str(value), number, text, **UNQUEUED)
        choice = gr.Dropdown(["a"], label="which")
        gr.Button().click(lambda value: str(value), choice, text, **UNQUEUED)
    with TestClient(App.create_app(demo)) as client:
        yield lambda event, value: client.post(
            "/gradio_api/run/predict", json={"data": [value], "fn_index": event}
        ).json()


def test_what_goes_wrong_is_a_sentence_and_its_words_are_not_logged(page, caplog):
    assert page(0, "foreseen")["error"] == "a.png is empty."
    with caplog.at_level(logging.ERROR):
        assert "did not foresee (KeyError)" in page(0, "a secret prompt")["error"]
    assert "KeyError" in caplog.text
    assert "test_blocks.py" in caplog.text
    assert "secret" not in caplog.text


def test_a_choice_that_is_none_is_not_logged(page, capfd, caplog):
    assert "a secret" in page(2, "a secret")["error"]  # it is the sender's own
    assert "secret" not in "".join(capfd.readouterr()) + caplog.text


def test_what_gradio_warns_of_is_not_logged():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gr.Dropdown(["a"]).postprocess("a secret")
        assert said, "else nothing has to be kept out"
        said.clear()
        keep_values_out_of_the_log()
        gr.Dropdown(["a"]).postprocess("a secret")
        warnings.warn("one of our own", stacklevel=1)
    assert [str(each.message) for each in said] == ["one of our own"]


def test_a_session_keeps_nothing_of_what_was_sent():
    with Page() as demo:
        text, shown = gr.Textbox(), gr.Textbox()
        gr.Button().click(lambda value: value, text, shown, **UNQUEUED)
    with TestClient(App.create_app(demo)) as client:
        body = {"data": ["a secret"], "fn_index": 0, "session_hash": "mine"}
        assert client.post("/gradio_api/run/predict", json=body).json()["data"] == ["a secret"]
        assert not list(demo.state_holder["mine"].components)
        # What Gradio would write of a session, for whoever asks.
        link = client.get("/gradio_api/deep_link", params={"session_hash": "mine"}).json()
    folder = Path(get_upload_folder()) / "deep_links" / link
    assert json.loads((folder / "state.json").read_text()) == []


def test_pictures_on_canvases_are_decoded_as_few_at_once_as_photos(monkeypatch):
    lock, now, seen = threading.Lock(), Counter[str](), []

    def decode(self, payload):
        with lock:
            now["decoding"] += 1
            seen.append(now["decoding"])
        time.sleep(0.05)
        with lock:
            now["decoding"] -= 1

    monkeypatch.setattr(gr.ImageEditor, "preprocess", decode)
    with Page() as demo:
        editor, text = gr.ImageEditor(), gr.Textbox()
        gr.Button().click(lambda _: "done", editor, text, **UNQUEUED)
    path = Path(get_upload_folder()) / "canvas" / "a.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(path)
    layer = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    value = {"background": layer, "layers": [], "composite": None}
    body = {"data": [value], "fn_index": 0}
    with TestClient(App.create_app(demo)) as client, ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(client.post, "/gradio_api/run/predict", json=body) for _ in range(6)]
        assert all(each.result().json().get("data") == ["done"] for each in sent)
    assert max(seen) == AT_ONCE


def test_a_full_disk_is_said_as_such_where_what_came_is_copied(page, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(blocks, "check_pictures", full)
    assert "The disk is full" in page(1, "much")["error"]


def test_what_no_component_takes_is_a_sentence(page):
    for wrong in ({"a": 1}, [1], "much"):
        assert page(1, wrong)["error"] in (MISSHAPED, "Value " + repr(wrong))


def test_nothing_is_done_with_what_is_beyond_the_bounds(page, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_TEXT", 5)
    assert "at most 5 are taken" in page(0, "foreseen")["error"]
