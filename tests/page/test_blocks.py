"""Whatever is sent to an event is bounded before anything is done, and refused in a sentence."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App
from starlette.testclient import TestClient

from personalization.errors import PhotoError
from personalization.page import blocks
from personalization.page.blocks import MISSHAPED, Page, check_bounds
from personalization.page.event_options import UNQUEUED


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


def test_what_no_component_takes_is_a_sentence(page):
    for wrong in ({"a": 1}, [1], "much"):
        assert page(1, wrong)["error"] in (MISSHAPED, "Value " + repr(wrong))


def test_nothing_is_done_with_what_is_beyond_the_bounds(page, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_TEXT", 5)
    assert "at most 5 are taken" in page(0, "foreseen")["error"]
