"""What programs send to the endpoints: typed, said as a JSON schema, checked, refused in sentences.

Who is signed in to the page is nobody here: a program gives a token, where it takes one.

An endpoint is a function with types and a docstring. `build_endpoint` makes of them what Gradio's
clients and MCP's read. Gradio's own components would say too little (the schema of `gr.JSON`
takes anything, that of several files refers to what a tool's schema does not hold) and take too
much (a `gr.Number` computes with a text).
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Annotated, Any, get_type_hints

import gradio as gr
from gradio.components.api_component import Api
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from personalization.errors import PersonalizationError
from personalization.sampling.settings import MAX_PROMPT
from personalization.stacking.stack import MAX_WEIGHT

from .messages import raised

SAID = 40  # characters of a value that a sentence repeats


def _whole(value: Any) -> Any:
    """A whole number that a program wrote as 2.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, Field(allow_inf_nan=False)]
MAX_NAME = 200  # characters of a name, a word, an id, a key
MAX_BLOCKS = 64
Name = Annotated[str, Field(max_length=MAX_NAME)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]


def at_most(count: int) -> BeforeValidator:
    """A list of no more than that: counted before the first of it is looked at, or fetched."""

    def counted(value: Any) -> Any:
        if isinstance(value, (list, dict)) and len(value) > count:
            raise PydanticCustomError("too_many", f"at most {count} are taken")
        return value

    return BeforeValidator(counted)


class Request(BaseModel):
    """An object in what a program sends; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RegionRequest(Request):
    """Where an adapter counts, and what is drawn there."""

    box: Annotated[list[Number], Field(min_length=4, max_length=4)] = Field(
        description="left, top, right and bottom of a box, as four numbers from 0 to 1"
    )
    prompt: Prompt = Field("", description="a text, what is there; the prompt says the scene")


class AdapterRequest(Request):
    """An adapter, and how much of it."""

    name: Name = Field(description="its name, as list_adapters says")
    weight: Number = Field(1.0, description=f"a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    text_weight: Number | None = Field(
        None, description="a number, the weight of its text-encoder part where that differs"
    )
    blocks: Annotated[dict[Name, Number], at_most(MAX_BLOCKS)] | None = Field(
        None,
        description="an object of factors by the path of a part of the denoiser, "
        'such as {"up_blocks.1": 0.5}',
    )
    region: RegionRequest | None = Field(
        None, description="an object with box and prompt, the part of the picture where it counts"
    )


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type, without references: clients look for those elsewhere."""
    schema = TypeAdapter(hint).json_schema()
    return _resolved(schema, schema.pop("$defs", {}))


def checked(name: str, hint: Any, value: Any) -> Any:
    """The value as that type. Raises `PersonalizationError` with what the field takes."""
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise PersonalizationError(_sentence(name, hint, error), field=name) from error


def build_endpoint(
    function: Callable[..., Any], outputs: Sequence[Any] | None = None, **event: Any
) -> None:
    """An endpoint, and a tool of the same name. Without `outputs` it answers with JSON."""
    hints = get_type_hints(function, include_extras=True)
    inputs = [
        Api(None if each.default is each.empty else each.default, schema_of(hints[name]), name)
        for name, each in inspect.signature(function).parameters.items()
    ]
    back = outputs or [Api(None, schema_of(hints["return"]), "answer")]
    gr.Button().click(_endpoint(function), inputs, back, api_name=function.__name__, **event)


def _endpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with what it is called with checked, and its errors as a program gets them."""
    hints = get_type_hints(function, include_extras=True)
    names = list(inspect.signature(function).parameters)

    def request(*values: Any) -> dict[str, Any]:
        said = zip(names, values, strict=True)
        return {name: checked(name, hints[name], value) for name, value in said}

    @wraps(function)
    def answer(*values: Any) -> Any:
        with raised():
            return function(**request(*values))

    @wraps(function)
    def stream(*values: Any) -> Iterator[Any]:
        with raised():
            yield from function(**request(*values))

    endpoint = stream if inspect.isgeneratorfunction(function) else answer
    endpoint.__doc__ = _by_lines(inspect.getdoc(function) or "")
    return endpoint


def _by_lines(doc: str) -> str:
    """The docstring with each argument, and what is returned, in one line: Gradio reads no more."""
    head, _, returned = doc.partition("Returns:\n")
    return re.sub(r"\n {8,}", " ", head) + "Returns:\n    " + " ".join(returned.split())


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with each reference replaced by what it refers to.

    Without `"additionalProperties": false`, which gradio_client takes for a schema.
    """
    if isinstance(schema, list):
        return [_resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _resolved(part, definitions) for key, part in schema.items() if part is not False}


def _sentence(name: str, hint: Any, error: ValidationError) -> str:
    """The first thing that is wrong: which field, what it is, and what it takes."""
    first = error.errors(include_url=False)[0]
    path = list(first["loc"])
    unknown = path.pop() if first["type"] == "extra_forbidden" else None
    place = name + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    takes = _takes(_at(schema_of(hint), path))
    if unknown is not None:
        return f"{place} has a field “{str(unknown)[:SAID]}”, which is not known: it takes {takes}."
    if first["type"] == "too_many":
        return f"{place} has {len(first['input'])} items: {first['msg']}."
    if first["type"] == "string_too_long":
        most, long = first["ctx"]["max_length"], len(first["input"])
        return f"{place} has {long} characters: at most {most} are taken."
    if first["type"] == "missing":
        return f"{place} is missing: it takes {takes}."
    return f"{place} is {_said(first['input'])}: it takes {takes}."


def _at(schema: dict[str, Any], path: Sequence[int | str]) -> dict[str, Any]:
    """The part of a schema that describes what lies at that path of a value."""
    for part in path:
        schema = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
        if isinstance(part, int):
            schema = schema["items"]
        else:
            schema = schema.get("properties", {}).get(part) or schema["additionalProperties"]
    return schema


def _takes(schema: dict[str, Any]) -> str:
    """What a schema takes, in words."""
    if "description" in schema and "properties" not in schema:
        return str(schema["description"])
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_takes, schema["anyOf"]))
    match schema.get("type"):
        case "array":
            return f"a list, each item {_takes(schema['items'])}"
        case "object":
            return "an object with " + ", ".join(schema.get("properties", ()))
        case kind:
            nouns = {"string": "a text", "integer": "a whole number", "number": "a number"}
            nouns["boolean"] = "true or false"
            return nouns.get(str(kind), "nothing (null)" if kind == "null" else "any value")


def _said(value: Any) -> str:
    """A value as a sentence names it."""
    match value:
        case str():
            return f"the text “{value[:SAID]}”"
        case dict():
            return "an object"
        case list():
            return "a list"
        case None:
            return "nothing (null)"
        case _:
            return json.dumps(value)[:SAID]
