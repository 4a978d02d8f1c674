"""“Your things” on the page: deleted, brought back, renamed, kept, and the forms follow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

from personalization.adapters.adapter import Adapter, Description
from personalization.data.photos import Photo
from personalization.page import html, things_html
from personalization.page.things_endpoints import (
    delete_things,
    download_things,
    keep_preset,
    list_things,
    rename_adapter,
    undo_delete,
)
from personalization.recipe import LowRank, Recipe
from personalization.training.run import Run
from personalization.workspaces.belongings import Belonging, belongings
from personalization.workspaces.trash import Trash
from tests.support import tiny

RECIPE = Recipe(LowRank(), 5)
BAD = '<img src=x onerror="alert(1)">'


@pytest.fixture
def workspace():
    """Two photos, a run and a learned word."""
    from personalization.page.session import workspaces

    workspace = workspaces().new()
    noise = [Image.effect_noise((96, 96), shade).convert("RGB") for shade in (40, 90)]
    workspace.save_photos([Photo(f"{i}.png", image) for i, image in enumerate(noise)])
    Run.create(workspace.new_run_folder("dog"), tiny.concept(count=1), RECIPE, "pocket")
    about = Description("textual_inversion", "pocket", placeholder_token="<mug>", title="mug")
    workspace.library.add(Adapter(about, {"<mug>": torch.ones(1, 8)}), "mug")
    yield workspace
    workspace.delete()


@pytest.fixture
def app():
    import app

    return app


def asked(app, workspace, **more) -> dict:
    """What the page sends of “Your things”, every form with all photos on it."""
    things, keys = app.things, workspace.photo_keys()
    values = {things.visitor: workspace.id, things.search: "", things.order: "newest"}
    values |= {things.whole: [], things.before: [], things.editing: []}
    values |= dict.fromkeys(things.forms, keys)
    return values | {getattr(things, name): value for name, value in more.items()}


def framed(tab) -> dict:
    """How a form frames its photos, as it comes."""
    return {tab.photos.framing: "shape", tab.photos.resolution: 0}


def click(app, workspace, *key: str) -> dict:
    return app.things.act(asked(app, workspace), SimpleNamespace(key=json.dumps(key)))


def test_a_photo_goes_from_the_disk_and_the_forms_and_an_undo_brings_it_back(app, workspace):
    things, (first, second) = app.things, workspace.photo_keys()
    values = dict.fromkeys(app.stack_tab.adapter_list.weights, 1.0)
    values |= {app.browser: workspace.id, app.base_name: "", app.kept_list: []}
    for tab in (app.word_tab, app.subject_tab):
        values |= {tab.stored.keys: [first, second], tab.run_panel.current: "", **framed(tab)}
    app.follow_things(values)  # the first loads a base, which takes longer than one has to undo
    reply = click(app, workspace, "delete", "photo", f"{first}.png")
    assert workspace.photo_keys() == [second]
    assert "1 photo deleted" in reply[things.undo_bar]
    followed = app.follow_things(values)
    assert followed[app.word_tab.stored.keys] == [second]
    assert html.PHOTOS_GONE not in followed[app.word_tab.photos.notes]
    ticket = reply[things.undo_bar].partition('data-key="')[2].partition('"')[0]
    back = things.undo(
        asked(app, workspace, before=reply[things.before]), SimpleNamespace(key=ticket)
    )
    assert workspace.photo_keys() == [first, second]
    assert back[app.kept_word.keys] == [first, second]


def test_all_of_a_kind_goes_at_once_but_a_run_that_is_going(app, workspace):
    assert "2 photos deleted" in click(app, workspace, "all", "photo")[app.things.undo_bar]
    (run,) = workspace.runs()
    with run.locked():
        reply = click(app, workspace, "all", "run")
    assert "is going" in reply[app.things.notes]
    assert reply[app.things.undo_bar] == ""
    assert len(workspace.runs()) == 1


@pytest.mark.parametrize(
    "key", [["delete", "photo", "../used"], ["delete", "user", "x"], ["rename", "adapter", "x"]]
)
def test_a_click_on_nothing_is_a_sentence_or_nothing(app, workspace, key):
    before = belongings(workspace)
    click(app, workspace, *key)
    assert belongings(workspace) == before


def test_an_undo_that_comes_too_late_says_so(app, workspace):
    reply = click(app, workspace, "all", "photo")
    workspace.trash.purge(older_than=0)
    ticket = reply[app.things.undo_bar].partition('data-key="')[2].partition('"')[0]
    late = app.things.undo(asked(app, workspace), SimpleNamespace(key=ticket))
    assert "It is gone" in late[app.things.notes]


def test_a_word_is_renamed_and_a_recipe_kept_and_chosen_in_the_form(app, workspace):
    things, form = app.things, app.subject_tab.form
    opened = click(app, workspace, "rename", "adapter", "mug")
    assert (opened[things.title], opened[things.word]["value"]) == ("mug", "<mug>")
    values = asked(app, workspace, editing=["rename", "mug"], title="Grandma’s", word="кот")
    assert "Grandma’s" in things.keep(values)[things.list]
    assert workspace.library.entry("mug").description.trigger == "кот"
    (run,) = workspace.runs()
    values = asked(app, workspace, editing=["keep", run.folder.name], title="Five", word="")
    assert "five" in things.keep(values)[things.list]
    assert form.offer(workspace)[form.own]["choices"] == ["five"]
    assert not app.word_tab.form.offer(workspace)[app.word_tab.form.own]["visible"]
    chosen = {form.visitor: workspace.id, form.base: "", form.own: "five", form.preset: form.first}
    assert form.read_preset(chosen)[form.parts["steps"]] == 5


def test_the_run_that_is_shown_leaves_the_page_with_its_folder(app, workspace):
    panel = app.subject_tab.run_panel
    (run,) = workspace.runs()
    values = {app.subject_tab.stored.keys: [], panel.current: run.folder.name}
    values |= framed(app.subject_tab)
    visit = app.Visit(workspace, "")
    assert panel.current not in app.subject_tab.follow(visit, values)
    click(app, workspace, "all", "run")
    assert app.subject_tab.follow(app.Visit(workspace, ""), values)[panel.current] == ""


def test_programs_do_the_same(workspace, tmp_path: Path):
    session = workspace.id
    (run,) = workspace.runs()
    assert keep_preset(session, run.folder.name, "Five") == {"preset": "five"}
    assert rename_adapter(session, "mug", "Grandma’s")["title"] == "Grandma’s"
    told = list_things(session, order="size")
    assert told["used"] == workspace.size()
    assert {each["kind"] for each in told["things"]} == {"run", "adapter", "photo", "preset"}
    json.dumps(told)
    with ZipFile(io.BytesIO(Path(download_things(session)).read_bytes())) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert f"runs/{run.folder.name}/run.json" in names
    assert sum(name.startswith("photos/0-") for name in names) == 1
    assert not any("lock" in name or name.startswith("/") or ".." in name for name in names)
    gone = delete_things(session, "adapter", ["mug"])
    assert (gone["deleted"], gone["seconds"]) == (1, 10)
    assert undo_delete(session, gone["undo"]) == {"restored": ["mug.safetensors"]}
    assert list_things(session, "grandma")["things"][0]["name"] == "mug"


def test_what_a_visitor_named_is_text_and_never_markup(tmp_path: Path):
    thing = Belonging("adapter", BAD, tmp_path, BAD, 1, 0.0, BAD, error=BAD)
    for said in (things_html.listing([thing], [thing], (), 9.0), things_html.meter([thing], 1, 9)):
        assert "<img src=x" not in said


def test_a_long_kind_shows_its_first_and_offers_the_rest(tmp_path: Path):
    many = [Belonging("photo", str(i), tmp_path, f"{i}.png", 1, float(i)) for i in range(40)]
    first = things_html.listing(many, many, (), 0.0)
    assert first.count("<li>") == things_html.FIRST
    assert "Show all 40" in first
    assert things_html.listing(many, many, ("photo",), 0.0).count("<li>") == 40
    assert "Nothing of yours" in things_html.listing(many, [], (), 0.0)


def test_the_cross_on_a_photo_deletes_its_file_unless_another_form_has_it(app, workspace):
    form, (first, second) = app.subject_tab.photos, workspace.photo_keys()
    values = {form.visitor: workspace.id, form.base: "", form.keys: [first, second]}
    values |= {form.captions: "", app.kept_word.keys: [second], **framed(app.subject_tab)}
    form.remove(values, SimpleNamespace(key=first))
    assert workspace.photo_keys() == [second]
    form.remove(values | {form.keys: [second]}, SimpleNamespace(key=second))
    assert workspace.photo_keys() == [second]
    assert not list(Trash(workspace.folder).folder.glob("*"))


def test_an_undo_puts_a_row_back_onto_the_stack_with_its_weight_and_keeps_what_came_since(
    app, workspace
):
    things, listed = app.things, app.stack_tab.adapter_list
    before = [["mug", 0.0, None, None], ["neon", 0.5, None, None]]
    values = asked(app, workspace) | {app.kept_list: before}
    reply = things.act(values, SimpleNamespace(key=json.dumps(["delete", "adapter", "mug"])))
    sliders = dict.fromkeys(listed.weights, 1.0)
    visit = {app.browser: workspace.id, app.base_name: ""}
    for tab in (app.word_tab, app.subject_tab):
        visit |= {tab.stored.keys: [], tab.run_panel.current: "", **framed(tab)}
    left = app.follow_things({**visit, **sliders, app.kept_list: before})[app.kept_list]
    assert [row[0] for row in left] == ["neon"]
    now = [["neon", 0.9, None, None], ["crowned-dog", 0.4, None, None]]
    ticket = reply[things.undo_bar].partition('data-key="')[2].partition('"')[0]
    back = things.undo(
        asked(app, workspace, before=reply[things.before]) | {app.kept_list: now},
        SimpleNamespace(key=ticket),
    )
    kept = {**visit, **sliders, app.kept_list: back[app.kept_list]}
    shown = app.follow_things(kept, back=True)
    assert [(row[0], row[1]) for row in shown[app.kept_list]] == [
        ("mug", 0.0),
        ("neon", 0.9),
        ("crowned-dog", 0.4),
    ]
    assert shown[listed.weights[0]]["value"] == 0.0
