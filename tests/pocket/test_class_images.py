"""The pictures of its classes that come with the pocket are those that it draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from personalization import bases
from personalization.bases.catalog import CATALOG
from personalization.data.concept import Kind, class_prompt
from personalization.pocket.world import vocabulary
from personalization.sampling import pace
from personalization.training import presets
from personalization.training.estimate import outlook
from personalization.training.presets import Intent
from personalization.training.prior import ClassImages, to_draw


def of(noun: str, kind: Kind, cache: Path) -> ClassImages:
    """What a run of the page's recipe begins with."""
    spec = CATALOG["pocket"]
    prior = presets.recommend(spec, "subject", Intent(kind), full=False).recipe.prior
    assert prior
    return ClassImages(bases.load(spec), class_prompt(kind, noun), prior.images, cache)


def test_no_object_and_no_creature_of_the_world_waits_for_its_class(tmp_path: Path) -> None:
    for noun in vocabulary.CLASSES:
        assert of(noun, "object", tmp_path).missing() == 0
        creatures = of(noun, "creature", tmp_path)
        assert creatures.missing() == 0
        assert creatures.latents().shape == (24, 4, 32, 32)
    assert of("mug", "person", tmp_path).missing() == 1  # of 32
    assert of("owl", "creature", tmp_path).missing() == 3


def test_the_estimate_knows_which_classes_must_be_drawn_first(tmp_path: Path) -> None:
    base = bases.load(CATALOG["pocket"])
    recipe = base.spec.recipes["subject"]
    assert to_draw(base, recipe, class_prompt("object", "mug"), tmp_path) == 0
    assert to_draw(base, recipe, class_prompt("object", "owl"), tmp_path) == 16
    assert to_draw(base, base.spec.recipes["word"], class_prompt("object", "owl"), tmp_path) == 0
    known, drawn = outlook(base, recipe, 0).seconds, outlook(base, recipe, 16).seconds
    assert outlook(base, recipe).seconds == known
    each = pace.picture(base.spec, base.device, base.spec.sampling)
    assert known
    assert drawn
    assert each
    assert drawn - known == pytest.approx(16 * each)


@pytest.mark.slow
def test_those_that_come_with_it_are_those_that_it_draws(tmp_path: Path) -> None:
    shipped = of("mug", "object", tmp_path)
    drawn = ClassImages(shipped.base, shipped.prompt, 8, tmp_path, shipped=tmp_path)
    list(drawn.draw(lambda _: False, lambda _: None))
    assert drawn.missing() == 0
    # Processors differ in the last bit, which twenty steps of the sampler carry on.
    torch.testing.assert_close(drawn.latents(), shipped.latents()[:8], atol=0.1, rtol=0)
