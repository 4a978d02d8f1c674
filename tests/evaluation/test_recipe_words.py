"""A recipe is said by the names that the form gives its settings."""

from __future__ import annotations

import json

from personalization.bases.catalog import CATALOG
from personalization.evaluation.recipe_words import NAMES, settings_in_words
from personalization.page.recipe_fields import BOXES, NUMBERS, TEXTS
from personalization.recipe import LearnedEmbedding, LowRank, Prior, Recipe

WHOLE = Recipe(
    LowRank("lokr", learned_embedding=LearnedEmbedding(2, "dog")), 200, prior=Prior("adapter_off")
)


def test_each_setting_of_the_form_has_the_same_name_here():
    labels = {label.lower() for label, *_ in (NUMBERS | TEXTS | BOXES).values()}
    assert labels - set(NAMES.values()) == {"learn the word as well"}  # by its vectors


def test_no_name_of_a_field_or_file_is_said():
    for recipe in (WHOLE, *(r for spec in CATALOG.values() for r in spec.recipes.values())):
        said = settings_in_words(json.loads(recipe.to_json()))
        assert not [name for name in said if "_" in name or "." in name]
        assert not [value for value in said.values() if "_" in value or value.startswith("[")]
        assert said["steps"] == str(recipe.steps)
    said = settings_in_words(json.loads(WHOLE.to_json()))
    assert (said["method"], said["class kept by"]) == ("LoKr", "adapter off")
    assert (said["vectors"], said["word starts from"]) == ("2", "dog")
    assert said["mirrored photos too"] == "no"


def test_what_another_version_wrote_is_said_too():
    assert settings_in_words({"steps done": 7, "new_thing": {"some_rate": 0.5}}) == {
        "steps done": "7",
        "some rate": "0.5",
    }
