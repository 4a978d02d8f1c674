"""What somebody who means harm would send to the page is answered by sentences, each of it.

Some of what `python -m tests.benchmarks.hostile` sends to an app of its own.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from personalization.page.session import workspaces
from personalization.workspaces.workspace import Workspace
from tests.support import hostile
from tests.support.events import Events, the_page


@pytest.fixture(scope="module")
def page():
    with the_page() as events:
        yield events


@pytest.fixture
def visitor():
    workspace = workspaces().new()
    yield workspace
    if workspace.folder.exists():
        workspace.delete()


def check(answer: dict[str, Any]) -> str:
    said = json.dumps(answer, ensure_ascii=False)
    assert not hostile.is_pythons(said), said[:500]
    assert "data" in answer or answer.get("error"), said[:500]
    assert "root:x" not in said
    return said


def test_each_event_of_the_page_answers_what_does_not_belong_there(page: Events):
    values = itertools.cycle((*hostile.WRONG, *hostile.TEXTS[:9]))
    for number, event in page.demo.fns.items():
        if event.fn and not event.queue and event.api_visibility == "private":
            for value in itertools.islice(values, 2):
                body = {"data": [value] * len(event.inputs), "fn_index": number}
                assert "did not foresee" not in check(page.post(body)), (event.api_name, value)


def test_each_file_under_an_adapters_name_is_answered(
    page: Events, visitor: Workspace, tmp_path: Path
):
    import app

    listed, mark = app.stack_tab.adapter_list, tmp_path / "executed"
    for name, content in hostile.adapters(str(mark)):
        values = {listed.visitor: visitor.id, listed.stored: [], listed.base: ""}
        values |= {listed.upload: page.upload(name, content)}
        said = check(page.send(page.of(listed.take_file), values))
        assert not any(script in said for script in hostile.SCRIPTS[:2]), said[:500]
    assert not mark.exists()


def test_each_file_under_a_photos_name_is_answered(page: Events, visitor: Workspace):
    import app

    photos = app.word_tab.photos
    for name, content in hostile.photos():
        values = {photos.visitor: visitor.id, photos.keys: [], photos.base: ""}
        values |= {photos.framing: "shape", photos.resolution: 0}
        values |= {photos.drop: [page.upload(name, content)]}
        said = check(page.send(page.of(photos.add), values))
        assert "<script>window" not in said


def test_each_record_and_each_recipe_is_answered(page: Events, visitor: Workspace):
    import app

    restoring, form = app.stack_tab.restoring, app.subject_tab.form
    listed = restoring.adapter_list
    for name, content in hostile.records():
        values = {listed.visitor: visitor.id, listed.base: ""}
        values |= {restoring.file: page.upload(name, content)}
        check(page.send(page.of(restoring.take_record), values))
    for name, content in itertools.islice(hostile.recipes(), 0, None, 3):
        check(page.send(page.of(form.read_file), {form.load: page.upload(name, content)}))
