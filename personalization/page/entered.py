"""What came for a component, as the kind of value that it holds.

Gradio passes on whatever was sent for most of them. What a browser says that it remembers, and
cannot, is read as empty, as in a browser that has forgotten it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any

import gradio as gr
from pydantic import Field, TypeAdapter, ValidationError

from personalization.errors import PersonalizationError

from .adapter_rows import Row
from .messages import MISSHAPED

_Three = Annotated[list[str], Field(min_length=3, max_length=3)]
# By the end of the name under which a browser keeps it.
_REMEMBERED: dict[str, TypeAdapter[Any]] = {
    "visitor": TypeAdapter(str),
    "base": TypeAdapter(str),
    "rack": TypeAdapter(list[Row]),
    "photos": TypeAdapter(list[str]),
    "fields": TypeAdapter[Any](_Three),
    "settings": TypeAdapter(list[Any]),
    "drawing": TypeAdapter(list[Any]),
}
_KEY = TypeAdapter(list[str])
_TEXTS = (gr.Textbox, gr.HTML, gr.Markdown, gr.Button)
_NUMBERS = (gr.Slider, gr.Number)


def as_entered(part: Any, value: Any) -> Any:
    """The value, of its component's kind. Raises `ValueError` where nothing can be meant by it."""
    if isinstance(part, gr.BrowserState):
        try:
            kind = _REMEMBERED[str(part.storage_key).rpartition("-")[2]]
            return kind.validate_python(value)
        except ValidationError:
            return deepcopy(part.default_value)
    if isinstance(part, _TEXTS):
        return _held("" if value is None else value, str)
    if isinstance(part, gr.Checkbox):
        return _held(value, bool)
    if isinstance(part, gr.UploadButton):  # none of them is read but when a file came
        return _held(value, str, list)
    if isinstance(part, gr.Radio) and part.value is not None:
        return _held(value, str, int, float)
    if isinstance(part, _NUMBERS) and not (value is None and part.value is None):
        return _held(value, int, float)
    return value


def described(event: Any) -> Any:
    """What a request says of its event, with nothing where Gradio's classes want something."""
    if isinstance(event, gr.EventData):
        said = event._data if isinstance(event._data, dict) else {}
        return gr.EventData(event.target, {"index": None, "value": None, **said})
    return event


def pressed(event: gr.EventData) -> str:
    """What the button that was pressed is called. Raises `PersonalizationError` where none was."""
    try:
        return str(event.key)
    except (AttributeError, TypeError) as error:  # a request that says nothing of it
        raise PersonalizationError(MISSHAPED) from error


def key_of(event: gr.EventData, least: int = 1, most: int = 3) -> list[str]:
    """What a button of the page's own says of itself, as JSON.

    Raises `PersonalizationError` for all else.
    """
    try:
        said = _KEY.validate_json(pressed(event))
    except ValidationError as error:
        raise PersonalizationError(MISSHAPED) from error
    if not least <= len(said) <= most:
        raise PersonalizationError(MISSHAPED)
    return said


def _held(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError("not of the kind that this holds")
    return value
