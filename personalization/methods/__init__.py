"""What is trained, behind one Protocol; a method puts itself into a base and takes itself out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from personalization import recipe as recipes
from personalization.bases.base import Base
from personalization.data.concept import Concept
from personalization.methods.full import FullMethod
from personalization.methods.low_rank import LowRankMethod
from personalization.methods.method import Export, Method, ParameterGroup
from personalization.methods.textual_inversion import TextualInversionMethod
from personalization.recipe import Recipe

__all__ = ["Export", "Method", "ParameterGroup", "installed"]


@contextmanager
def installed(base: Base, concept: Concept | None, recipe: Recipe) -> Iterator[Method]:
    """The recipe's method in the base; on leaving, the base is as it was.

    Without a concept, as on a base without weights, what it trains is there and means nothing.
    """
    method: Method
    match recipe.method:
        case recipes.LearnedEmbedding() as word:
            method = TextualInversionMethod(base, concept, word, recipe.seed)
        case recipes.LowRank() as low_rank:
            method = LowRankMethod(base, concept, low_rank, recipe.seed)
        case recipes.Full() as full:
            method = FullMethod(base, full)
    try:
        yield method
    finally:
        method.remove()
