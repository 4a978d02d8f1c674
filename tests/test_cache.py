"""What is kept is bounded, and a stack from what was kept equals one made anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from personalization.adapters.adapter_deltas import match_modules
from personalization.cache import BoundedCache, trim
from personalization.sampling.generate import draw_latents
from personalization.stacking.application import applied
from personalization.stacking.stack import COMBINATIONS, IN_TIME, Slot, Stack
from personalization.training.prior import ClassImages, packed, unpacked
from tests.support import random_adapters, tiny


def test_a_value_is_made_once_and_the_one_not_asked_for_longest_goes_first() -> None:
    kept, made = BoundedCache(limit=10), []

    def ask(key: str, size: int = 4) -> str:
        return kept.get(key, lambda: made.append(key) or key.upper(), lambda _: size)

    assert [ask(key) for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    assert made == ["a", "b", "c", "b"]
    assert kept.size == 8
    assert ask("whale", 11) == "WHALE"
    assert (len(kept), kept.size) == (2, 8)


@pytest.mark.parametrize("combine", [c for c in COMBINATIONS if c not in IN_TIME])
def test_a_moved_weight_gives_bit_for_bit_what_an_untouched_base_gives(combine: str) -> None:
    made = [
        random_adapters.make(method, seed=i) for i, method in enumerate(("lora", "lokr", "dora"))
    ]

    def effective(base, *weights: float) -> list[torch.Tensor]:
        slots = tuple(Slot(a, w) for a, w in zip(made, weights, strict=True))
        with applied(base, Stack(slots, combine)):
            return [weight.detach().clone() for weight in match_modules(base.modules, made[0])]

    used, seen = tiny.base(), []
    for weights in ((0.5, 0.6, 0.7), (0.5, 1.6, 0.7), (0.5, -0.6, 0.7), (0.5, 0.0, 0.7)):
        seen.append(effective(used, *weights))
        for ours, fresh in zip(seen[-1], effective(tiny.base(), *weights), strict=True):
            assert torch.equal(ours, fresh)
    assert not torch.equal(seen[0][0], seen[1][0])
    assert 0 < used.cache.size <= used.cache.limit


def test_adapters_of_the_same_tensors_and_another_alpha_are_not_confused() -> None:
    base, lora = tiny.base(), random_adapters.make()
    weight, (_, change) = next(iter(match_modules(base.modules, lora).items()))
    for factor in (1.0, 3.0):
        louder = lora.described(alpha=factor * lora.description.alpha)
        with applied(base, Stack((Slot(louder, 0.5),))):
            shown = weight.detach().clone()
        assert torch.allclose(shown, weight + 0.5 * factor * change.delta(weight), atol=1e-6)


def of_age(path: Path, age: float, size: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_of_files_the_least_recently_used_go_until_the_bound_is_kept(tmp_path: Path) -> None:
    paths = [of_age(tmp_path / f"{i % 2}" / f"{i}", age=i) for i in range(6)]
    assert trim(tmp_path, 350) == (300, 300)
    assert [path.exists() for path in paths] == [True] * 3 + [False] * 3
    assert trim(tmp_path, 150, spare=[paths[2]]) == (100, 200)
    assert [path.exists() for path in paths[:3]] == [False, False, True]


def test_of_files_what_was_not_used_for_long_goes_within_the_bound_too(tmp_path: Path) -> None:
    new, old = of_age(tmp_path / "a" / "new", 1), of_age(tmp_path / "b" / "old", 1000)
    assert trim(tmp_path, 10**6, oldest=1e9 - 10) == (100, 100)
    assert new.exists()
    assert not old.parent.exists()
    assert trim(tmp_path / "nowhere", 1) == (0, 0)


def test_a_link_in_a_cache_is_not_followed(tmp_path: Path) -> None:
    kept = of_age(tmp_path / "elsewhere", 5)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "link").symlink_to(kept)
    trim(tmp_path / "cache", 0)
    assert kept.exists()


def test_class_images_of_all_classes_keep_within_the_bound_and_the_one_in_use_stays(tmp_path):
    base = tiny.base()

    def draw(noun: str, limit: int) -> ClassImages:
        images = ClassImages(base, f"a photo of a {noun}", 8, tmp_path, limit)
        list(images.draw(lambda _: False, lambda _: None))
        return images

    one = draw("dog", 10**9)
    size = sum(path.stat().st_size for path in one.paths)
    second = draw("cat", 2 * size)
    os.utime(second.paths[0], (1, 1))
    draw("dog", 2 * size)
    draw("bird", 2 * size)
    assert (one.missing(), second.missing()) == (0, 1)
    alone = draw("fox", 1)
    assert (one.missing(), alone.missing()) == (1, 0)
    assert alone.latents().shape[0] == 8


def test_class_images_that_come_with_a_base_are_drawn_by_nobody(tmp_path):
    base, prompt = tiny.base(), "a photo of a dog"
    mine, given = tmp_path / "mine", tmp_path / "given"
    drawn = ClassImages(base, prompt, 16, given)
    list(drawn.draw(lambda _: False, lambda _: None))
    latents = drawn.latents()
    drawn.paths[1].unlink()
    there = ClassImages(base, prompt, 16, mine, shipped=given)
    assert there.missing() == 1
    seconds: list[float] = []
    list(there.draw(lambda _: False, seconds.append))
    assert len(seconds) == 1  # the batch that is not shipped
    assert [path.parent.parent for path in there.paths] == [given, mine]
    assert torch.equal(there.latents(), latents)


def test_class_images_are_kept_in_steps_that_are_far_finer_than_a_decoder_is_right(tmp_path):
    base, prompt = tiny.base(), "a photo of a dog"
    images = ClassImages(base, prompt, 8, tmp_path)
    list(images.draw(lambda _: False, lambda _: None))
    right = draw_latents(base, [prompt] * 8, range(8))
    off = (images.latents() - right).abs().amax((0, 2, 3))
    # Half a step, of 127 to a channel's largest.
    assert (off <= 1.0001 * right.abs().amax((0, 2, 3)) / 254).all()
    assert images.paths[0].stat().st_size < right.numel() + 500


@pytest.mark.parametrize(("size", "tail"), [(64, 0.0), (128, 0.0), (64, 8.0)])
def test_8_bits_leave_latents_of_a_real_bases_size_off_by_a_hundredth_of_their_spread(size, tail):
    """Normal in each channel, of several spreads and means; `tail`: one value so many off."""
    spread, mean = torch.tensor([1.0, 0.7, 0.9, 1.2]), torch.tensor([0.2, -0.1, 0.5, 0.0])
    normal = torch.randn(8, 4, size, size, generator=torch.Generator().manual_seed(0))
    if tail:
        normal[0, :, 0, 0] = tail
    latents = normal * spread[:, None, None] + mean[:, None, None]
    off = (unpacked(packed(latents)) - latents).square().mean((0, 2, 3)).sqrt()
    assert (off / spread).max() < (0.02 if tail else 0.013)
