"""Starting a run: all that is asked for is checked before anything is written.

    start(folder, base, concept, recipe) -> Run

A concept has checked its own photos and words, and a recipe its settings by itself; here both are
checked against the base, and the recipe against the memory.

What reads weights is imported where it is used: it takes seconds, and the page starts without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from personalization.bases.catalog import CATALOG
from personalization.data.concept import Concept, check_initializer, check_placeholder_token
from personalization.errors import ConceptError, RecipeError
from personalization.recipe import Full, LearnedEmbedding, LowRank, Recipe
from personalization.training.run import Run

if TYPE_CHECKING:
    from personalization.bases.base import Base
    from personalization.bases.catalog import BaseSpec

# Single tokens in some vocabularies that mean nothing all the same.
RARE = {"sks", "ohwx", "zwx", "shs", "olis", "bnha", "ktn"}


def start(
    folder: Path, base: Base, concept: Concept, recipe: Recipe, *, shared: bool = False
) -> Run:
    """Make a run's folder, once all of it can be. `shared` as for `fitted`.

    Raises `ConceptError` or `RecipeError` with what is wrong, or `RunError` where the folder holds
    a run.
    """
    base.spec.check_task("text")
    learned = recipe.learned_embedding
    check_taught(base.spec)
    check_new(base, concept.placeholder_token, learned)
    if learned:
        check_initializer(learned.initializer_token or concept.class_noun)
    if isinstance(recipe.method, LowRank):
        from personalization.adapters.module_keys import check_targets

        check_targets(base.modules, recipe.method.targets)
    recipe = fitted(base, recipe.check(), shared=shared)
    return Run.create(folder, concept, recipe, base.spec.name)


def check_taught(spec: BaseSpec) -> None:
    """Refuse weights that are distilled to few steps. Raises `RecipeError`."""
    if spec.taught_on:
        title = CATALOG[spec.taught_on].title
        raise RecipeError(
            f"{spec.title} only draws: it has unlearned what teaching needs. Choose {title} to "
            "teach, and draw with what it learned here.",
            field="base",
        )


def check_new(base: Base, placeholder_token: str, learned: LearnedEmbedding | None = None) -> None:
    """Refuse a word that the base knows already. Raises `ConceptError`.

    A word that is one token means something, but for those that are `RARE`. Where rows are
    `learned` for it they take that token's place, which needs a name that no vocabulary lists.
    """
    check_placeholder_token(placeholder_token)
    tokens = base.text_encoders[0].own_tokenizer.tokenize(placeholder_token)
    if len(tokens) == 1 and placeholder_token.lower() not in RARE:
        raise ConceptError(
            f"The base knows the word “{placeholder_token}” already, and would lose what it means "
            f"now. Choose one that means nothing yet, such as <my-{placeholder_token[:12]}> or "
            "sks.",
            field="placeholder_token",
        )
    if learned:
        from personalization.bases.learned_embedding import check_free

        for encoder in base.text_encoders:
            check_free(encoder.own_tokenizer, placeholder_token, learned.vectors)


def fitted(base: Base, recipe: Recipe, *, shared: bool = False) -> Recipe:
    """The recipe that the device has the memory for. Raises `RecipeError` where there is none.

    shared: a GPU lent by the minute, as ZeroGPU's, whose worker begins with nothing loaded.
    """
    from personalization.bases import memory
    from personalization.bases.loading import precision
    from personalization.training.estimate import fitting

    kept_in = precision(base.spec, base.device)
    free = memory.available(base.device)
    if free is not None and not shared:
        free += memory.weights(base.spec.architecture, kept_in)
    return fitting(base.spec, recipe, free, kept_in)


def disk_needed(base: Base, recipe: Recipe) -> int:
    """Bytes that a run may come to, where they count: a full fine-tune's.

    The run's file, the library's copy, and a checkpoint of three times twice the precision.
    """
    if not isinstance(recipe.method, Full):
        return 0
    from personalization.training.estimate import outlook

    return 8 * (outlook(base, recipe).file or 0)
