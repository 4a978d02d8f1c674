"""Before a run, by program: the recipe that suits it and what that takes; what ails the photos."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from personalization.data.concept import MAX_PHOTOS, Kind
from personalization.data.photo_problems import problems as photo_problems
from personalization.errors import RecipeError
from personalization.recipe import Recipe
from personalization.training import presets
from personalization.training.presets import Exactness, Intent, Purpose, Where

from .loaded import spec_of
from .photographs import photograph_notes
from .recipe_form import room_for_full
from .requests import Name, at_most, build_endpoint
from .runs import foreseen
from .session import workspaces
from .uploads import Upload, take_uploads

Photos = Annotated[list[Upload], at_most(MAX_PHOTOS)]
RecipeObject = Annotated[dict[str, Any], at_most(64)]
Way = Literal["", "lora", "loha", "lokr", "dora", "full"]


def suggest_recipe(  # noqa: PLR0913 - its parameters are the interface
    purpose: Purpose,
    kind: Kind = "object",
    where: Where = "here",
    exact: Exactness = "close",
    method: Way = "",
    base: Name = "",
    class_noun: Name = "",
) -> dict[str, Any]:
    """Suggest how to teach something, and say what that takes on this machine.

    Args:
        purpose: word or subject.
        kind: object, creature, person or style.
        where: here, elsewhere (in other programs) or stack (with other adapters).
        exact: rough, close or exact.
        method: of a subject: lora, loha, lokr, dora or full; empty for what suits best.
        base: a name as list_bases says; empty for the app's own.
        class_noun: what it is a kind of, such as owl: pictures of a class may have to be drawn
            first; empty for one whose pictures come with the base.

    Returns:
        "recipe", which train_word and train_subject take, changed as you like; "why"; "seconds"
        and "memory" (bytes) that it takes here, as far as that can be told.
    """
    spec, intent = spec_of(base), Intent(kind, where, exact)
    choice = presets.recommend(spec, purpose, intent, full=room_for_full(spec))
    recipe, why = choice.recipe, choice.why
    if method and purpose == "word":
        raise RecipeError("A word is learned in one way: leave method empty.", field="method")
    if method and method != recipe.method_name:
        recipe, why = presets.recipe_of(spec, method, intent), f"By {method}, as asked."
    told = foreseen(base, recipe, kind, class_noun)
    takes = {"seconds": told.seconds, "memory": told.memory}
    return {"recipe": asdict(recipe), "why": why, **takes}


def check_photos(photos: Photos, purpose: Purpose = "subject", base: Name = "") -> list[str]:
    """Say what ails photos before they are taught; nothing is kept of them.

    Args:
        photos: files (handle_file in gradio_client), or for each its address (https://...) or its
            content (data:...).
        purpose: word or subject.
        base: a name as list_bases says; empty for the app's own.

    Returns:
        A sentence for each that cannot be read, is small, blurred or there twice; and where they
        are photographs and the base draws cartoons, which base is for them. Empty where all is
        well.
    """
    spec = spec_of(base)
    readable, errors = take_uploads(photos)
    return [
        *map(str, errors),
        *photo_problems(readable, spec.canvas(spec.recipes[purpose])),
        *photograph_notes(spec, readable, purpose),
    ]


def asked_recipe(
    session: str, preset: str, recipe: RecipeObject | None, purpose: Purpose
) -> Recipe | None:
    """What a program teaches by: its own recipe or the session's preset; None for neither.

    Raises `RecipeError`, `WorkspaceError`.
    """
    if recipe is not None and preset:
        raise RecipeError("There are a recipe and a preset: send one of them.", field="recipe")
    if recipe is not None:
        return presets.fitting(Recipe.from_json(json.dumps(recipe)), purpose)
    if preset:
        return presets.fitting(workspaces().open(session).presets.get(preset), purpose)
    return None


def build_recipe_endpoints() -> None:
    """Questions that are computed for a moment, and wait for that in the queue."""
    for question in (suggest_recipe, check_photos):
        build_endpoint(question)
