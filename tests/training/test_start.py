"""What is asked for is refused in words before a run's folder is there, or it can be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from personalization.adapters.adapter import read
from personalization.bases.unet import UNetBase
from personalization.data.concept import Concept
from personalization.errors import ConceptError, PersonalizationError, RecipeError, RunError
from personalization.events import Finished
from personalization.methods import installed
from personalization.recipe import LearnedEmbedding, LowRank, Recipe
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import loop
from personalization.training.start import check_new, start
from tests.support import clip_vocabulary, tiny

PROMPT = "a photo of sks"
WORD = Recipe(LearnedEmbedding(vectors=2), 2, weight_decay=0.0)
LORA = Recipe(LowRank(rank=2), 2)
PIVOTAL = Recipe(LowRank(rank=2, learned_embedding=LearnedEmbedding()), 2)


@pytest.fixture(scope="module")
def base() -> UNetBase:
    base = UNetBase(tiny.spec(), clip_vocabulary.pipeline(), torch.device("cpu"))
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=2))
    return base


def embedded(base: UNetBase) -> torch.Tensor:
    with torch.no_grad():
        return base.encode_prompts([PROMPT]).tensors["encoder_hidden_states"]


def test_the_vocabulary_is_clips() -> None:
    words = clip_vocabulary.tokenizer()
    assert words("a photo of sks dog").input_ids == [49406, 320, 1125, 539, 48136, 1929, 49407]


@pytest.mark.parametrize("recipe", [WORD, LORA, PIVOTAL])
@pytest.mark.parametrize("token", ["sks", "ohwx", "<my-mug>"])
def test_the_usual_words_can_be_taught_by_every_method(base, recipe: Recipe, token: str) -> None:
    check_new(base, token, recipe.learned_embedding)


@pytest.mark.parametrize("recipe", [WORD, PIVOTAL])
def test_a_word_that_another_is_learning_at_this_moment_is_new_all_the_same(
    base: UNetBase, recipe: Recipe
) -> None:
    with installed(base, tiny.concept("<king>"), recipe):
        assert base.text_encoders[0].tokenizer.tokenize("<king>") == ["<king>"]
        check_new(base, "<king>", recipe.learned_embedding)
    check_new(base, "<king>", recipe.learned_embedding)


@pytest.mark.parametrize("recipe", [WORD, PIVOTAL])
def test_a_word_learned_in_place_of_a_token_loads_in_an_untouched_pipeline(
    base: UNetBase, tmp_path: Path, recipe: Recipe
) -> None:
    run = start(tmp_path / "run", base, tiny.concept("sks"), recipe)
    *_, done = loop.train(base, run, cache=tmp_path / "cache")
    assert isinstance(done, Finished)
    before = embedded(base)
    with applied(base, Stack((Slot(read(done.adapter), 1.0),))):
        ours = embedded(base)
    assert torch.equal(embedded(base), before)
    assert not torch.allclose(ours, before)
    if recipe is WORD:
        pipe = clip_vocabulary.pipeline()
        pipe.load_textual_inversion(str(done.adapter))
        theirs, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("concept", "recipe", "error", "sentence"),
    [
        (tiny.concept("dog", class_noun="cat"), LORA, ConceptError, "knows the word “dog” already"),
        (tiny.concept("Owl"), LORA, ConceptError, "knows the word “Owl” already"),
        (tiny.concept("ktn"), WORD, ConceptError, "“ktn” exists already"),
        (Concept("style", "sks", " ", tiny.photos()), WORD, ConceptError, "no word to start from"),
        (tiny.concept(), replace(LORA, steps=0), RecipeError, "steps is 0"),
        (tiny.concept(), Recipe(LowRank(targets=("to_x",)), 2), RecipeError, "“to_x”"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_no_folder(
    base: UNetBase,
    tmp_path: Path,
    concept: Concept,
    recipe: Recipe,
    error: type[PersonalizationError],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        start(tmp_path / "run", base, concept, recipe)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_run_is_not_started_again(base: UNetBase, tmp_path: Path) -> None:
    start(tmp_path, base, tiny.concept("ktn"), LORA)  # two tokens of CLIP's, and no row is added
    with pytest.raises(RunError, match="holds a run already"):
        start(tmp_path, base, tiny.concept(), LORA)
