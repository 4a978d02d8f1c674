"""The form: fields and recipes agree, and what was set by hand stays."""

from __future__ import annotations

import json
from dataclasses import replace

import gradio as gr
import pytest

from personalization.bases import CATALOG
from personalization.page import recipe_form
from personalization.page.recipe_fields import recipe_of, settings, shown
from personalization.page.recipe_form import RecipeForm
from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe
from personalization.training.presets import Intent
from personalization.training.presets import recipe_of as preset_of

RECIPES = [recipe for spec in CATALOG.values() for recipe in spec.recipes.values()] + [
    Recipe(
        LowRank(
            "dora", 3, 2.5, True, ("to_q", "ff.net.2"),
            LearnedEmbedding(2, "red dog", 1e-3), 1e-3, 2e-3,
        ),
        steps=7, batch_size=2, warmup=3, decay=True, max_grad_norm=0.5, weight_decay=0.0,
        flip=True, seed=9, preview_every=2, checkpoint_every=3, stop_early=True, background=0.3,
    ),
    Recipe(Full(True, 1e-5, 2e-5), 9, prior=Prior("images", 0.5, 3)),
    Recipe(LowRank("lokr"), 9, prior=Prior("adapter_off", 0.5)),
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_fields_hold_the_whole_recipe(recipe):
    assert recipe_of(settings(recipe)) == recipe


@pytest.fixture(scope="module")
def form():
    with gr.Blocks():
        kind = gr.Radio(["object", "person"], value="object")
        form = RecipeForm("subject", gr.State(""), gr.State(""), kind, gr.Radio())
        form.wire()
    return form


def values(form: RecipeForm, **changed) -> dict:
    """What the page sends: the base, and the fields as they begin but for those `changed`."""
    return {form.base: ""} | {p: changed.get(n, form.first[n]) for n, p in form.parts.items()}


def answers(form: RecipeForm, kind: str, where: str, exact: str, preset: dict) -> dict:
    return {form.kind: kind, form.where: where, form.exact: exact, form.preset: preset}


def fields_after(form: RecipeForm, reply: dict, now: dict) -> dict:
    """The fields after a reply, which leaves out those that it does not change."""
    return {name: reply.get(part, now[part]) for name, part in form.parts.items()}


def test_untouched_it_says_the_bases_own_recipe(form):
    assert form.recipe("", values(form)) == CATALOG["pocket"].recipes["subject"]


def test_an_emptied_number_says_what_it_began_with_for_the_method_at_hand(form):
    own = CATALOG["pocket"].recipes["full"]
    recipe = form.recipe("", values(form, method="full", rate=None, steps=None))
    assert recipe.method.learning_rate == own.method.learning_rate
    assert recipe.steps == own.steps


def test_every_method_of_a_subject_is_on_the_form_with_its_own_fields_alone(form):
    visible = {}
    for way in ("lora", "loha", "lokr", "dora", "full"):
        reply = form.fit(values(form, method=way, learned=False, text=True, prior="images"))
        visible[way] = {n for n, p in form.parts.items() if reply[p]["visible"]}
    assert visible["lora"] == visible["loha"] == visible["lokr"] == visible["dora"]
    assert visible["lora"] - visible["full"] == {"rank", "alpha", "targets", "learned"}
    assert visible["full"] - visible["lora"] == set()
    assert shown("lora", True, True, "images") - visible["lora"] == {
        "vectors", "word_rate", "initial",
    }  # fmt: skip
    assert "text_rate" not in shown("full", False, False, "none")


def test_another_method_brings_its_own_rate_and_keeps_what_was_set_by_hand(form):
    preset = {**form.first, "picked": False}
    now = values(form, method="full", steps=6, rate=0.5, batch=None)
    reply = form.pick(now | answers(form, "object", "here", "close", preset))
    assert form.parts["steps"] not in reply  # it may have been typed over by now
    fields, full = fields_after(form, reply, now), settings(CATALOG["pocket"].recipes["full"])
    assert fields == {n: full[n] for n in fields} | {"steps": 6}
    assert reply[form.preset] == full | {"picked": True}

    # The answers no longer choose the method, and what suits it follows them.
    now = values(form, **fields)
    reply = form.advise(now | answers(form, "person", "stack", "rough", reply[form.preset]))
    fields = fields_after(form, reply, now)
    intent = Intent("person", "stack", "rough")
    expected = settings(preset_of(CATALOG["pocket"], "full", intent))
    assert fields == {n: expected[n] for n in fields} | {"steps": 6}


def test_a_recipe_comes_back_from_its_file(form, tmp_path):
    for recipe in RECIPES:
        if recipe.method_name == "textual_inversion":
            continue
        text = form.write_file(values(form, **settings(recipe)))[form.saved]
        path = tmp_path / "recipe.json"
        path.write_text(text)
        reply = form.read_file({form.base: "", form.load: str(path), form.preset: {}})
        assert form.recipe("", reply) == recipe
        assert path.exists()  # whoever sent the same file may still need it


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not a recipe"),
        (json.dumps(json.loads(RECIPES[0].to_json()) | {"x": 1}), "unknown setting: x"),
        (CATALOG["pocket"].recipes["word"].to_json(), "Teach a word"),
        (replace(RECIPES[1], steps=10**9).to_json(), "steps is 1e\\+09; it must lie between"),
        (b"\xff\xfe\x00", "not a recipe"),
    ],
)
def test_a_file_that_is_no_recipe_for_it_gets_a_sentence_and_changes_no_field(
    form, tmp_path, text, sentence
):
    path = tmp_path / "recipe.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    reply = form.read_file({form.base: "", form.load: str(path), form.preset: {}})
    assert set(reply) == {form.notes}
    assert sentence.replace("\\", "") in reply[form.notes]


def test_a_wrong_field_is_named_and_nothing_is_saved(form):
    reply = form.write_file(values(form, rank=0))
    assert reply[form.saved] == ""
    assert "rank is 0" in reply[form.notes]


def test_a_word_has_no_method_to_choose(form):
    with gr.Blocks():
        word = RecipeForm("word", gr.State(""), gr.State(""), gr.Radio(), gr.Radio())
    assert word.recipe("", word.rebase("")[1]) == CATALOG["pocket"].recipes["word"]
    assert {"method", "prior", "rank", "text"}.isdisjoint(word.parts)
    assert "vectors" in word.parts
    assert recipe_form.room_for_full()


def test_what_a_browser_remembers_of_another_page_is_left_alone(form):
    kept = {form.where: "here", form.exact: "exact"} | {
        part: form.first[name] for name, part in form.parts.items()
    }
    recalled = form.recall("", "object", list(kept.values()))
    assert recalled[form.exact] == "exact"
    for field in (form.where, form.exact, form.parts["method"]):
        older = kept | {field: "as it was called once"}
        assert form.recall("", "object", list(older.values())) == {}
    assert form.recall("", "object", list(kept.values())[1:]) == {}
