"""Which recipe: three answers in a person's words, and what they make of a base's own recipes.

    recommend(spec, purpose, Intent("person", "stack", "close")) -> Recommendation(recipe, why)

The figures are ratios to the base's own recipes, which are those of diffusers' READMEs or better
where measured: a face takes half the rate and more steps, as published settings of the fine-tune
(1e-6 and 1200 steps for 2e-6 and 400) have it; and half the rank keeps more of itself and of the
prompt beside others (`tests.benchmarks.multi_adapter`). That the other ratios are best has not been
measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from personalization.bases.catalog import BaseSpec
from personalization.data.concept import Kind
from personalization.errors import RecipeError
from personalization.recipe import Full, LearnedEmbedding, LowRank, LowRankKind, Recipe

Where = Literal["here", "elsewhere", "stack"]
Exactness = Literal["rough", "close", "exact"]
MethodName = LowRankKind | Literal["full"]


@dataclass(frozen=True)
class Intent:
    """What it is, where it will be used, and how exact it must be."""

    kind: Kind = "object"
    where: Where = "here"
    exact: Exactness = "close"


@dataclass(frozen=True)
class Recommendation:
    """A recipe, and in a sentence why this one."""

    recipe: Recipe
    why: str


Purpose = Literal["word", "subject"]
SMALLER = (384, 256)  # pixels to a side of photos, where their base's own take too long


def fitting(recipe: Recipe, purpose: Purpose) -> Recipe:
    """A recipe from elsewhere for what is taught now. Raises `RecipeError` for one of the other."""
    if (recipe.method_name == "textual_inversion") != (purpose == "word"):
        other = "Teach a subject" if purpose == "word" else "Teach a word"
        raise RecipeError(f"These settings are for “{other}”: load them there.", field="preset")
    if isinstance(recipe.method, LearnedEmbedding):  # it starts from the concept's own word
        return replace(recipe, method=replace(recipe.method, initializer_token=""))
    return recipe


def recommend(
    spec: BaseSpec, purpose: Literal["word", "subject"], intent: Intent, *, full: bool
) -> Recommendation:
    """What suits the intent on that base. `full`: whether a full fine-tune has room here."""
    if purpose == "word":
        recipe = _word(spec, intent.exact)
        return Recommendation(recipe, _marked(spec, _word_why(recipe, intent.exact)))
    whole = full and intent.exact == "exact" and intent.where == "here"
    recipe = recipe_of(spec, "full" if whole else "lora", intent)
    return Recommendation(recipe, _marked(spec, _why(intent, whole)))


def _marked(spec: BaseSpec, why: str) -> str:
    """With a word for a recipe that nobody has measured on that base (docs/RECIPES.md)."""
    return why if spec.small else f"{why[:-1]} (derived from the literature, not measured yet)."


def recipe_of(spec: BaseSpec, method_name: MethodName, intent: Intent) -> Recipe:
    """The recipe for a method of teaching a subject that the visitor names."""
    own = spec.recipes
    recipe = own["full"] if method_name == "full" else own["subject"]
    if method_name == "lokr":
        recipe = own.get("lokr", recipe)
    if isinstance(recipe.method, LowRank) and method_name != "full":
        method = replace(recipe.method, kind=method_name)
        if intent.where == "stack":
            method = _scaled(method, 0.5)
        if intent.exact != "close":
            method = _scaled(method, 0.5 if intent.exact == "rough" else 4)
        recipe = replace(recipe, method=method)
    recipe = _longer(recipe, {"rough": 0.6, "close": 1.0, "exact": 1.5}[intent.exact])
    return _of_kind(recipe, intent.kind).check()


def _of_kind(recipe: Recipe, kind: Kind) -> Recipe:
    method, prior = recipe.method, recipe.prior
    if kind == "person" and isinstance(method, Full | LowRank):
        halved = method.learning_rate / 2, method.text_learning_rate / 2
        method = replace(method, learning_rate=halved[0], text_learning_rate=halved[1])
        recipe = _longer(replace(recipe, method=method), 3 if isinstance(method, Full) else 2)
    images = {"creature": 1.5, "person": 2.0}.get(kind, 1.0)
    if prior and prior.kind == "images":
        prior = replace(prior, images=min(1000, round(images * prior.images)))
    # A style has no class to lose: it is to show in everything.
    return replace(recipe, prior=None if kind == "style" else prior)


def _word(spec: BaseSpec, exact: Exactness) -> Recipe:
    recipe = spec.recipes["word"]
    assert isinstance(recipe.method, LearnedEmbedding)
    usual = recipe.method.vectors
    vectors = {"rough": 1, "close": usual, "exact": max(4, 2 * usual)}[exact]
    recipe = replace(recipe, method=replace(recipe.method, vectors=vectors))
    return _longer(recipe, {"rough": 0.6, "close": 1.0, "exact": 1.5}[exact]).check()


def _scaled(method: LowRank, by: float) -> LowRank:
    """Another rank at the same scale, alpha / rank."""
    rank = min(256, max(1, round(by * method.rank)))
    return replace(method, rank=rank, alpha=method.alpha * rank / method.rank)


def _longer(recipe: Recipe, by: float) -> Recipe:
    return replace(recipe, steps=round(by * recipe.steps))


def _why(intent: Intent, whole: bool) -> str:
    if whole:
        why = "A full fine-tune: every weight learns it, and a LoRA can be extracted from it after"
    elif intent.exact == "rough":
        why = "A thin LoRA and fewer steps: the gist of it, sooner"
    elif intent.where == "stack":
        why = "A LoRA of half the rank: nearly as close, and less in the way of others"
    elif intent.exact == "exact":
        why = "A LoRA of four times the rank: room for detail, in a file that every program reads"
    else:
        why = "A LoRA: close, small, and read by every program"
    return f"{why}{_KIND_WHY[intent.kind]}."


_KIND_WHY: dict[Kind, str] = {
    "object": "",
    "creature": "; more pictures of its kind are kept, since no two are alike",
    "person": "; a face takes smaller steps, and more of them",
    "style": "; a style has no class to keep",
}


def _word_why(recipe: Recipe, exact: Exactness) -> str:
    assert isinstance(recipe.method, LearnedEmbedding)
    if exact == "rough":
        return "One vector and fewer steps: the gist of it, sooner."
    if exact == "exact":
        return f"{recipe.method.vectors} vectors and more steps: each holds a part of the likeness."
    if recipe.method.vectors == 1:
        return "One vector: the smallest file there is."
    return f"{recipe.method.vectors} vectors: what one cannot say, in a few kilobytes."
