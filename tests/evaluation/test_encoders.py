"""Claims about encoders: they see as their models do, and the pocket's is worth what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from personalization.bases.encoders import (
    ENCODERS,
    PLACES,
    ClipEncoder,
    DebiasedFeatures,
)
from personalization.errors import HubError
from personalization.evaluation import metrics
from personalization.pocket import world
from tests.evaluation.test_metrics import photos_of
from tests.support import tiny


@pytest.fixture(scope="module")
def agreement(pocket_encoder) -> float:
    """How likeness ranks scenes beside their true attributes, Spearman’s, over 100 subjects."""
    encoder = DebiasedFeatures(pocket_encoder)
    rng = np.random.default_rng(5)
    truth, likeness = [], []
    for _ in range(100):
        scene = world.sample(rng, held_out_words=False)
        scene = replace(scene, style="cartoon")
        photos = encoder.images([world.draw(s, 128) for s in photos_of(scene, 4, seed=1)])
        others = [
            replace(world.sample(rng, held_out_words=False), style="cartoon") for _ in range(14)
        ]
        names = ("kind", "colour", "pattern", "accessory")
        for i in range(len(names)):  # from all alike to nothing alike
            others.append(replace(scene, **{n: getattr(others[i], n) for n in names[i:]}))
        outputs = encoder.images([world.draw(s, 128) for s in others])
        likeness.append(metrics.subject_fidelity(outputs, photos))
        alike = {"kind": 3, "colour": 2, "pattern": 1, "accessory": 1}
        truth.append(
            torch.tensor(
                [
                    float(sum(w * (getattr(s, n) == getattr(scene, n)) for n, w in alike.items()))
                    for s in others
                ]
            )
        )
    correlations = [metrics.rank_correlation(t, x) for t, x in zip(truth, likeness, strict=True)]
    return float(np.mean(correlations))


@pytest.mark.slow
def test_likeness_ranks_scenes_as_their_true_attributes_do(agreement):
    assert agreement >= 0.7


@pytest.mark.slow
def test_how_far_the_pocket_encoder_can_be_trusted_is_said_as_measured(agreement):
    assert agreement == pytest.approx(ENCODERS["pocket"].agreement, abs=0.01)


def test_a_judge_gives_features_of_length_one_that_no_neighbour_changes(clip):
    encoder = ClipEncoder(clip)
    pictures = [photo.image for photo in tiny.photos(20)]
    features = encoder.images(pictures)
    assert features.shape == (20, 12)
    assert torch.allclose(features.norm(dim=1), torch.ones(20), atol=1e-5)
    assert torch.allclose(encoder.images(pictures[7:8])[0], features[7], atol=1e-5)
    texts = encoder.texts(["a dog", "a cat on the beach " * 9, ""])
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(encoder.texts(["a dog"])[0], texts[0], atol=1e-5)


def test_a_judge_sees_as_transformers_own_model_does(clip):
    encoder, model = ClipEncoder(clip), CLIPModel.from_pretrained(clip).eval()
    picture = tiny.photos(1)[0].image
    pixels = encoder.processor(images=picture, return_tensors="pt")["pixel_values"]
    tokens = tiny.tokenizer()("a dog", return_tensors="pt", padding="max_length", max_length=24)
    with torch.no_grad():
        logits = model(pixel_values=pixels, **tokens).logits_per_image / model.logit_scale.exp()
    cosine = encoder.images([picture]) @ encoder.texts(["a dog"]).T
    assert float(cosine) == pytest.approx(float(logits), abs=1e-5)


def test_a_judge_that_is_not_there_is_an_error_in_words():
    with pytest.raises(HubError, match="nothing can be measured"):
        ClipEncoder("/nowhere/at/all")


class Placed:
    """A picture's first pixel is its place, its second the thing; the place weighs more."""

    name = "placed"

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        features = torch.zeros(len(pictures), 24)
        for row, picture in enumerate(pictures):
            features[row, picture.getpixel((0, 0))] = 3
            features[row, 12 + picture.getpixel((1, 0))] = 1
        return normalize(features, dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        features = torch.zeros(len(texts), 24)
        for row, text in enumerate(texts):
            features[row, next(i for i, place in enumerate(PLACES) if place in text)] = 3
            features[row, 23] = 1
        return normalize(features, dim=1)


def test_a_thing_is_as_like_itself_elsewhere_as_in_the_same_place():
    def picture(place: int, thing: int) -> Image.Image:
        image = Image.new("L", (2, 1))
        image.putdata([place, thing])
        return image

    here, elsewhere, other = picture(1, 1), picture(5, 1), picture(1, 2)
    biased = Placed().images([here, elsewhere, other])
    debiased = DebiasedFeatures(Placed()).images([here, elsewhere, other])
    assert biased[0] @ biased[2] > biased[0] @ biased[1]
    assert float(debiased[0] @ debiased[1]) == pytest.approx(1, abs=1e-4)
    assert debiased[0] @ debiased[2] < 0.6
