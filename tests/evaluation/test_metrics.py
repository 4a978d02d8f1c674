"""Claims about metrics: each against the same quantity computed in another way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ImageFilter
from torch import Tensor
from torch.nn.functional import normalize

from personalization.evaluation import metrics
from personalization.evaluation.figures import Estimate
from personalization.evaluation.metrics import interval
from personalization.pocket import world


def features(n: int, d: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator) + 0.5, dim=1)


def test_subject_fidelity_is_the_mean_cosine_over_all_pairs():
    outputs, photos = features(5), features(3, seed=1)
    for value, output in zip(metrics.subject_fidelity(outputs, photos), outputs, strict=True):
        cosines = [float(output @ p / (output @ output * (p @ p)) ** 0.5) for p in photos]
        assert float(value) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_photos_are_compared_with_the_others_and_not_with_themselves():
    photos = features(4)
    for i, value in enumerate(metrics.among_themselves(photos)):
        others = [float(photos[i] @ photos[j]) for j in range(4) if j != i]
        assert float(value) == pytest.approx(np.mean(others), abs=1e-6)
    assert len(metrics.among_themselves(photos[:1])) == 0


def test_prompt_fidelity_compares_each_picture_with_its_own_prompt():
    outputs, texts = features(5), features(5, seed=1)
    expected = torch.nn.functional.cosine_similarity(outputs, texts)
    assert torch.allclose(metrics.prompt_fidelity(outputs, texts), expected, atol=1e-6)


def test_diversity_is_the_mean_distance_over_all_pairs():
    pictures = features(6)
    pairs = [1 - float(pictures[i] @ pictures[j]) for i in range(6) for j in range(i)]
    assert float(metrics.diversity(pictures).mean()) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert float(metrics.diversity(pictures[:1].repeat(4, 1)).mean()) == pytest.approx(0, abs=1e-6)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = torch.randn(200, generator=torch.Generator().manual_seed(3)) + 2
    half = 1.96 * float(values.std()) / math.sqrt(200)
    estimate = interval(values)
    assert estimate.mean == pytest.approx(float(values.mean()))
    assert estimate.low == pytest.approx(estimate.mean - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(estimate.mean + half, abs=0.15 * half)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(n):
    draws = torch.randn(250, n, generator=torch.Generator().manual_seed(0))
    held = sum(not interval(draw).differs(0) for draw in draws) / 250
    assert 0.91 <= held <= 0.99


def test_differences_are_taken_in_pairs():
    prompt = torch.linspace(0, 1, 12)  # prompts differ much more than the two models do
    noise = 0.01 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    better = prompt + 0.05 + noise
    assert interval(better - prompt).low > 0
    assert interval(better).low < interval(prompt).high
    assert interval(better, over=better) == Estimate(1, 1, 1)


def test_rank_correlation_knows_order_and_ties():
    a = torch.tensor([1.0, 2, 3, 4])
    assert metrics.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert metrics.rank_correlation(a, -a) == pytest.approx(-1)
    # By hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = torch.tensor([1.0, 2, 2, 4])
    assert metrics.rank_correlation(a, tied) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_the_balance_is_the_best_product_and_beyond_a_reference_nothing_is_won():
    def balance(subject, prompt, attainable=1.0):
        return metrics.balance(torch.tensor(subject), torch.tensor(prompt), attainable)

    assert balance([0.5, 0.9, 1.0], [1.0, 0.9, 0.5]) == [1]
    assert balance([0.95, 1.4], [1.0, 0.9])[0] == 0
    # The base's own prompt fidelity is not to be had: what is lost above 0.9 was not the prompt.
    assert balance([0.8, 0.85], [1.0, 0.9])[0] == 0
    assert balance([0.8, 0.85], [1.0, 0.9], 0.9)[0] == 1
    # Where nothing is as like the photos as the base's own pictures are, one is still the best.
    assert balance([-0.2, -0.1], [1.0, 0.9]) == [1]
    assert balance([-0.2], [1.0]) == [0]
    # Best first, and what is nearly as good.
    assert balance([0.7, 0.8, 0.85, 0.8], [1.0, 1.0, 1.0, 0.5]) == [2, 1]


def test_no_more_of_a_prompt_can_be_had_than_the_photos_leave_of_their_class():
    text, other = torch.eye(2)
    photos, pictures = torch.stack([0.3 * text, 0.5 * text]), torch.stack([0.8 * text] * 3)
    assert metrics.attainable(photos, pictures, text) == pytest.approx(0.5)
    assert metrics.attainable(pictures, photos, text) == 1  # more like it than what the base draws
    assert metrics.attainable(-photos, pictures, text) == 0
    assert metrics.attainable(photos, pictures, other) == 1  # the base knows no such class
    # Of a style each photo has a text of its own.
    texts = torch.stack([text, other])
    assert metrics.attainable(0.3 * texts, 0.6 * texts, texts) == pytest.approx(0.5)
    assert metrics.attainable(0.3 * texts, 0.6 * texts.flip(0), texts) == 1


def photos_of(scene: world.Scene, count: int, seed: int) -> list[world.Scene]:
    rng = np.random.default_rng(seed)
    setting = world.scene.sample_setting
    return [replace(scene, **setting(rng, scene.colour)) for _ in range(count)]


def test_a_copied_photo_is_flagged_and_the_same_thing_elsewhere_is_not():
    scenes = [world.sample(np.random.default_rng(seed)) for seed in range(8)]
    copied = flagged = 0
    for scene in scenes:
        shown = photos_of(scene, 4, seed=1)
        photos = metrics.thumbs([world.draw(s, 96) for s in shown])
        blurred = [
            world.draw(replace(s, x=s.x + 0.01), 96).filter(ImageFilter.GaussianBlur(1))
            for s in shown
        ]
        elsewhere = [world.draw(s, 96) for s in photos_of(scene, 4, seed=2)]
        for outputs, name in ((blurred, "copied"), (elsewhere, "flagged")):
            nearest, likeness, threshold = metrics.copying(metrics.thumbs(outputs), photos)
            count = int((likeness >= threshold).sum())
            if name == "copied":
                copied += count
                assert nearest.tolist() == [0, 1, 2, 3]
            else:
                flagged += count
    assert copied >= 0.9 * 32
    assert flagged <= 1
