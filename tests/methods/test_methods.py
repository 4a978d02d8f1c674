"""What every method promises, whatever it trains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from personalization.errors import RecipeError
from personalization.methods import installed
from personalization.recipe import Full, LearnedEmbedding, LowRank, Recipe
from tests.support import tiny

LORA = LowRank(rank=2, alpha=2.0)
METHODS = {
    "textual inversion": LearnedEmbedding(),
    **{kind: replace(LORA, kind=kind) for kind in ("lora", "loha", "lokr", "dora")},
    "lora with text encoder": replace(LORA, text_encoder=True),
    "pivotal": replace(LORA, learned_embedding=LearnedEmbedding()),
    "full": Full(),
}


@pytest.fixture(params=METHODS)
def recipe(request) -> Recipe:
    return Recipe(METHODS[request.param], steps=2)


@pytest.fixture
def base():
    return tiny.base()


def weights(base) -> dict[str, torch.Tensor]:
    parts = {"denoiser": base.denoiser}
    parts |= {f"text{i}": encoder.model for i, encoder in enumerate(base.text_encoders)}
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def moved(method) -> None:
    """Every trained number a little further, as a step does."""
    with torch.no_grad():
        for group in method.groups():
            for parameter in group.parameters.values():
                parameter.add_(0.01)
    method.after_step()


def test_what_is_installed_is_taken_out_bit_for_bit(base, recipe):
    before = weights(base)
    with installed(base, tiny.concept("<sks>"), recipe) as method:
        moved(method)
    after = weights(base)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_names_of_what_is_trained_are_unique_and_the_same_each_time(base, recipe):
    names = []
    for _ in range(2):
        with installed(base, tiny.concept("<sks>"), recipe) as method:
            names.append([name for group in method.groups() for name in group.parameters])
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0]) > 0


def test_one_seed_exports_the_same_tensors_and_they_change_with_what_is_trained(base, recipe):
    exports = []
    for step in (False, False, True):
        with installed(base, tiny.concept("<sks>"), recipe) as method:
            if step:
                moved(method)
            exports.append({n: t.clone() for n, t in method.export().tensors.items()})
    first, again, trained = exports
    assert first.keys() == again.keys() == trained.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], trained[name]) for name in first)


def test_disabled_the_base_predicts_as_if_nothing_were_installed(base, recipe):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def predicted() -> torch.Tensor:
        with torch.no_grad():
            conditioning = base.encode_prompts(["a photo of dog"])
            return base.predict(latents, conditioning, latents, torch.tensor([0.5]))

    untouched = predicted()
    with installed(base, tiny.concept("<sks>"), recipe) as method:
        moved(method)
        if recipe.method == Full():
            with pytest.raises(RecipeError, match="no adapter"), method.adapters_disabled():
                pass
            return
        with method.adapters_disabled():
            assert torch.equal(predicted(), untouched)
