"""The app by program: an assistant's tools over MCP, several at once, and what is sent wrongly."""

from __future__ import annotations

import ast
import asyncio
import base64
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from tests.support.server import ONE_CORE, ROOT, running

pytestmark = pytest.mark.slow

PHOTOS = sorted((ROOT / "assets" / "examples" / "crowned-dog").glob("*.png"))[:3]
TOOLS = {
    "train_word", "train_subject", "check_placeholder_token", "list_bases", "draw_stack",
    "sweep_stack", "compare_adapters", "save_stack", "export_adapter", "add_from_hub",
    "publish_adapter", "list_versions", "compare_versions", "restore_version",
    "list_evidence", "judge_picture", "evidence_card", "teach_spectrum", "continue_run", "stop_run",
    "list_job_hardware", "send_job", "look_at_job", "cancel_job",
    "list_adapters", "report", "compare", "list_things", "delete_things", "undo_delete",
    "rename_adapter", "keep_preset", "download_things", "forget_me", "move_up_run",
    "add_from_file", "extract_lora", "link_to_stack", "read_picture", "suggest_recipe",
    "check_photos",
}  # fmt: skip
T = TypeVar("T")
DOG = {"name": "crowned-dog", "weight": 1.0}


def done(work: Coroutine[Any, Any, T]) -> T:
    """What it gives, on a thread of its own: Playwright's loop may have this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@asynccontextmanager
async def assistant(app):
    async with (
        streamablehttp_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def as_data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def test_every_tool_says_in_whole_sentences_what_it_takes(app):
    async def listed():
        async with assistant(app) as session:
            return (await session.list_tools()).tools

    tools = done(listed())
    assert {tool.name for tool in tools} == TOOLS
    for tool in tools:
        Draft202012Validator.check_schema(tool.inputSchema)
        assert "$ref" not in str(tool.inputSchema), tool.name
        assert tool.description.rstrip().endswith("."), tool.name
        for name, field in tool.inputSchema["properties"].items():
            assert field["description"].endswith("."), (tool.name, name)


def test_an_assistant_draws_sweeps_teaches_and_reads_the_report(app):
    told: list[str | None] = []

    async def hear(progress, total, message):
        told.append(message)

    async def work():
        async with assistant(app) as session:

            async def call(tool, **arguments):
                answer = await session.call_tool(tool, arguments, progress_callback=hear)
                parts = [getattr(part, "text", "a picture") for part in answer.content]
                assert not answer.isError, parts
                return parts

            drawn = await call("draw_stack", adapters=[DOG], prompt="sks dog", steps=2)
            assert ".png" in drawn[0]
            across = {"what": "steps", "values": [1, 2]}
            swept = await call("sweep_stack", adapters=[DOG], prompt="sks dog", across=across)
            assert swept[0] == "a picture"
            status, file, _ = await call(
                "train_word",
                photos=[as_data(path) for path in PHOTOS],
                placeholder_token="<zz>",
                initializer_token="dog",
                steps=1,
            )
            assert file.endswith(".safetensors")
            names = ast.literal_eval(status)
            return await call("report", session=names["session"], run=names["run"])

    status, _, page = done(work())
    assert "'finished'" in status
    assert page.endswith("report.html")
    assert told


def test_two_visitors_teach_from_the_same_photos_at_once(app, client):
    photos = [handle_file(str(path)) for path in PHOTOS]
    other = Client(app.url, verbose=False)
    jobs = [
        one.submit(photos, word, "dog", steps=1, api_name="/train_word")
        for one, word in ((client, "<one>"), (client, "<two>"), (other, "<three>"))
    ]
    answers = [job.result(timeout=300)[0] for job in jobs]
    other.close()
    assert {answer["state"] for answer in answers} == {"finished"}
    assert not [note for answer in answers for note in answer["notes"] if "no longer" in note]


PYTHON = ("NoneType", "object has no", "argument", "subscript", "not supported", "Error", "valid_")
WRONG = {
    "adapters: an object": ("/draw_stack", {"adapters": {"name": "neon"}}, "adapters is an object"),
    "adapters: null": ("/draw_stack", {"adapters": None}, "adapters is nothing"),
    "adapters: names": ("/draw_stack", {"adapters": ["neon"]}, r"adapters\[0\] is the text"),
    "no name": ("/draw_stack", {"adapters": [{"weight": 1}]}, "name is missing"),
    "weight": ("/draw_stack", {"adapters": [DOG | {"weight": "much"}]}, "a number from -2 to 2"),
    "blocks": ("/draw_stack", {"adapters": [DOG | {"blocks": [1]}]}, "blocks is a list"),
    "a factor": ("/draw_stack", {"adapters": [DOG | {"blocks": {"mid_block": "a"}}]}, "a number"),
    "a misspelt key": ("/draw_stack", {"adapters": [DOG | {"wieght": 0}]}, "“wieght”"),
    "no block": ("/draw_stack", {"adapters": [DOG | {"blocks": {"up_block.1": 0}}]}, "up_block.1"),
    "no seed": ("/draw_stack", {"adapters": [], "seed": None}, "seed is nothing"),
    "half a step": ("/draw_stack", {"adapters": [], "steps": 2.5}, "steps is 2.5"),
    "guidance": ("/draw_stack", {"adapters": [], "guidance": "x"}, "guidance is the text"),
    "no way to combine": ("/draw_stack", {"adapters": [], "combine": None}, "combine is nothing"),
    "a sweep in words": ("/sweep_stack", {"adapters": [DOG], "across": "seeds"}, "across is the"),
    "a sweep over nothing known": (
        "/sweep_stack", {"adapters": [DOG], "across": {"what": "size", "values": [1]}},
        "one of weight, guidance",
    ),
    "a sweep of one value": (
        "/sweep_stack", {"adapters": [DOG], "across": {"what": "steps", "values": 5}},
        "values is 5",
    ),
    "a seed in words": (
        "/sweep_stack", {"adapters": [DOG], "across": {"what": "seed", "values": ["x"]}},
        "whole numbers",
    ),
    "values misspelt": (
        "/sweep_stack", {"adapters": [DOG], "across": {"what": "seed", "value": [1]}}, "values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_sent_wrongly_is_refused_by_its_name(client, name):
    endpoint, sent, said = WRONG[name]
    with pytest.raises(AppError, match=said) as refused:
        client.predict(**{"prompt": "a dog"} | sent, api_name=endpoint)
    assert str(refused.value).endswith(".")
    assert not [word for word in PYTHON if word in str(refused.value)]


def test_other_endpoints_refuse_in_sentences_too(client):
    for endpoint, sent in (
        ("/save_stack", ([DOG], None, "")),
        ("/export_adapter", (None, "")),
        ("/check_placeholder_token", (None,)),
        ("/check_placeholder_token", ([],)),
        ("/list_adapters", (3,)),
        ("/compare", ("", "runs")),
        ("/report", ({}, None)),
        ("/train_word", ("photos", "<w>", "dog")),
        ("/train_word", ([3], "<w>", "dog")),
        ("/train_word", ([], "<w>", "dog", "thing")),
    ):
        with pytest.raises(AppError, match=r"(is|has) .*: it takes .*\.$"):
            client.predict(*sent, api_name=endpoint)


def test_without_a_home_the_app_starts_and_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    homeless = {"PERSONALIZATION_HOME": str(tmp_path / "file"), **ONE_CORE}
    with running(tmp_path / "app", **homeless) as app:
        client = Client(app.url, verbose=False)
        with pytest.raises(AppError, match="set PERSONALIZATION_HOME"):
            client.predict("", api_name="/list_adapters")
        client.close()
        assert "set PERSONALIZATION_HOME" in app.log.read_text()
