"""Each field of each endpoint has a bound, told in a sentence before anything is done with it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gradio as gr
import pytest

LONG = "x" * 4001
# What each field is sent; all others are as these endpoints' own defaults, or fit.
TOO_MUCH: dict[str, Any] = {
    "adapters": [{"name": "crowned-dog"}] * 9,
    "across": {"what": "seed", "values": list(range(65))},
    "down": {"what": "prompt", "values": ["a"] * 65},
    "photos": ["http://127.0.0.1:9/a.png"] * 51,
    "runs": ["a"] * 51,
    "names": ["a"] * 1001,
    "more_prompts": ["a"] * 9,
    "without": ["lora"] * 9,
    "recipe": {str(n): n for n in range(65)},
}
WRONG: dict[str, Any] = {
    "seed": "x",
    "count": "x",
    "steps": "x",
    "guidance": "x",
    "density": "x",
    "reference": "x",
    "structure": "x",
    "versions": "x",
    "minutes": "x",
    "rank": "x",
    "start": "x",
    "add_from_file file": "x",
    "read_picture picture": "x",
}
FITS: dict[str, Any] = {
    "adapters": [],
    "photos": [],
    "prompt": "a dog",
    "kind": "run",
    "runs": [],
    "versions": ["v1", "v2"],
    "verdict": "chosen",
    "file": "data:text/plain;base64,AAAA",
    "purpose": "subject",
}
CHOICES = ("kind", "order", "framing", "verdict", "purpose", "where", "exact", "method")


def endpoints() -> list[tuple[str, str]]:
    import app

    return [
        (each.api_name, name)
        for each in app.demo.fns.values()
        if each.api_visibility == "public"
        for name in inspect.signature(each.fn).parameters
    ]


def function_of(endpoint: str) -> Any:
    import app

    (event,) = (each for each in app.demo.fns.values() if each.api_name == endpoint)
    return event.fn


def fields_of(endpoint: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function_of(endpoint)).parameters


def call(endpoint: str, **said: Any) -> str:
    """How an endpoint refuses; the others of its fields fit."""
    defaults = {
        name: FITS.get(name, "") if each.default is each.empty else each.default
        for name, each in fields_of(endpoint).items()
    }
    with pytest.raises(gr.Error) as refused:
        begin(function_of(endpoint), *(defaults | said).values())
    return str(refused.value.message)


def begin(function: Any, *values: Any) -> Any:
    """What it answers, or answers first."""
    answer = function(*values)
    return next(answer) if inspect.isgenerator(answer) else answer


@pytest.mark.parametrize(("endpoint", "field"), endpoints())
def test_more_than_a_field_takes_is_refused_at_once(endpoint: str, field: str):
    switch = isinstance(fields_of(endpoint)[field].default, bool)
    wrong = WRONG.get(field, WRONG.get(f"{endpoint} {field}"))
    sent = "x" if switch else TOO_MUCH.get(field, wrong or LONG)
    said = call(endpoint, **{field: sent})
    assert said.startswith(field), said
    assert said.endswith(".")
    if not (wrong or switch or field in CHOICES):
        assert "at most" in said


def test_a_sweep_of_too_many_pictures_is_refused_before_it_is_laid_out():
    across = {"what": "seed", "values": list(range(64))}
    down = {"what": "prompt", "values": ["a"] * 64}
    assert "4096 pictures; at most 64" in call("sweep_stack", across=across, down=down)


def test_numbers_are_within_what_they_can_be():
    for field, number in (("count", 17), ("steps", 201), ("guidance", 31), ("seed", 2**40)):
        assert "must lie between" in call("draw_stack", **{field: number})
    for field, number in (("seed", -1), ("density", 1.5)):
        assert call("draw_stack", **{field: number}).endswith(".")
    for field, number in (("steps", 10**9), ("steps", -5)):
        assert call("train_word", **{field: number}).endswith(".")
