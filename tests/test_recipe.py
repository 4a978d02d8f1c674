"""A recipe says all, is read back whole or refused, and is chosen from a person's answers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
import torch

from personalization.bases import CATALOG
from personalization.data.concept import Kind
from personalization.errors import ConceptError, RecipeError
from personalization.methods.textual_inversion import initial_rows
from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe
from personalization.training.presets import Exactness, Intent, Where, recipe_of, recommend
from tests.support import tiny

RECIPES = [recipe for spec in CATALOG.values() for recipe in spec.recipes.values()] + [
    Recipe(
        LowRank("dora", 3, 2.5, True, ("to_q", "ff.net.2"), LearnedEmbedding(2, "red dog", 1e-3)), 7
    ),
    Recipe(Full(text_encoder=True), 9, prior=Prior("images", 0.5, 3), background=0.0),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_read_back_as_it_was_written(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe


GOOD = json.loads(RECIPES[-2].to_json())
METHOD = GOOD["method"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "null", "{}", '{"method": 3}', "{" * 5000, '["' + "[" * 100_000,
        json.dumps(GOOD | {"steps": "many"}),
        json.dumps(GOOD | {"steps": 2.5}),
        json.dumps(GOOD | {"steps": True}),
        json.dumps(GOOD | {"steps": 10**400}),
        json.dumps(GOOD | {"flip": "yes"}),
        json.dumps(GOOD | {"checkpoint_every": 0}),
        json.dumps(GOOD | {"max_grad_norm": float("nan")}),
        json.dumps(GOOD | {"weight_decay": None}),
        json.dumps(GOOD | {"surprise": 1}),
        json.dumps(GOOD | {"prior": {"kind": "other"}}),
        json.dumps(GOOD | {"prior": [1]}),
        json.dumps(GOOD | {"method": METHOD | {"type": ["lora"]}}),
        json.dumps(GOOD | {"method": METHOD | {"targets": [["to_q"]]}}),
        json.dumps(GOOD | {"method": METHOD | {"learned_embedding": {"vectors": 99}}}),
        json.dumps(GOOD | {"method": METHOD | {"rank": float("inf")}}),
        json.dumps({key: value for key, value in GOOD.items() if key != "steps"}),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_with_a_sentence(text):
    with pytest.raises(RecipeError, match=r"\.$"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"surprise": 1}, "unknown setting: surprise"),
        ({"steps": 2.5}, "steps is 2.5, which is of the wrong kind"),
        ({"steps": 10**400}, "steps is far too large; it must lie between 1 and 20000"),
        ({"prior": {"kind": "other"}}, "kind is other, which is of the wrong kind"),
        ({"method": METHOD | {"targets": [["to_q"]]}}, "targets"),
        ({"format": 3, "surprise": 1}, "saved by a later version"),
    ],
)
def test_the_sentence_names_the_setting_and_what_is_wrong(change, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Recipe.from_json(json.dumps(GOOD | change))


WISHES = [Intent(*w) for w in product(*map(get_args, (Kind, Where, Exactness)))]


@pytest.mark.parametrize("base", CATALOG)
def test_every_answer_leads_to_a_recipe_and_a_reason(base):
    spec = CATALOG[base]
    for intent, full in product(WISHES, (True, False)):
        choice = recommend(spec, "subject", intent, full=full)
        assert choice.recipe.check()
        assert choice.why.endswith(".")
        assert choice.why.count(". ") == 0  # one sentence
        assert isinstance(choice.recipe.method, Full) == (
            full and intent.exact == "exact" and intent.where == "here"
        )
    for exact in get_args(Exactness):
        assert (
            recommend(spec, "word", Intent(exact=exact), full=True).recipe.method_name
            == "textual_inversion"
        )


def test_who_ignores_the_questions_gets_the_bases_own_recipes():
    for spec in CATALOG.values():
        assert recommend(spec, "subject", Intent(), full=True).recipe == spec.recipes["subject"]
        assert recommend(spec, "word", Intent(), full=True).recipe == spec.recipes["word"]


def test_answers_change_what_they_say():
    spec = CATALOG["pocket"]
    own = spec.recipes["subject"]

    def of(**answers):
        return recommend(spec, "subject", Intent(**answers), full=True).recipe

    assert of(kind="style").prior is None
    face = of(kind="person")
    assert face.method.learning_rate == own.method.learning_rate / 2
    assert face.steps == 2 * own.steps
    thin = of(where="stack")
    halved = replace(own.method, rank=own.method.rank // 2, alpha=own.method.alpha / 2)
    assert thin == replace(own, method=halved)
    assert of(where="elsewhere", exact="exact").method.rank == 4 * own.method.rank
    assert recipe_of(spec, "dora", Intent()) == replace(
        own, method=replace(own.method, kind="dora")
    )
    product = recipe_of(spec, "lokr", Intent()).method
    assert product.learning_rate > own.method.learning_rate
    assert replace(product, kind="lora", learning_rate=own.method.learning_rate,
                   text_learning_rate=own.method.text_learning_rate) == own.method  # fmt: skip
    other = recipe_of(CATALOG["sd15"], "lokr", Intent()).method
    assert other.learning_rate == CATALOG["sd15"].recipes["subject"].method.learning_rate


def test_a_word_starts_from_one_or_several_words():
    encoder = tiny.base().text_encoders[0]
    table = encoder.model.get_input_embeddings().weight.detach()

    def row(word):
        (id,) = encoder.tokenizer(word, add_special_tokens=False).input_ids
        return table[id]

    red, dog, cat = map(row, ("red", "dog", "cat"))
    assert torch.equal(initial_rows(encoder, "red dog", 2, 0), torch.stack([red, dog]))
    one = initial_rows(encoder, "red dog", 1, 0)
    assert torch.allclose(one, ((red + dog) / 2)[None])
    two = initial_rows(encoder, "red dog cat", 2, 0)
    assert torch.allclose(two, torch.stack([(red + dog) / 2, cat]))
    four = initial_rows(encoder, "dog", 4, 0)
    assert torch.equal(four[0], dog)
    assert all(0 < (r - dog).norm() < 0.1 * dog.norm() for r in four[1:])
    with pytest.raises(ConceptError, match="no word to start from"):
        initial_rows(encoder, "  ", 1, 0)
