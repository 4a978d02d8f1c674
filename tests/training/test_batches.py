"""A batch is a function of seed and step, whatever shapes the photos have."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from personalization.training.batches import Batches, Pool

THREE = (Pool(5, (4, 8, 8)), Pool(1, (4, 4, 12)), Pool(3, (4, 12, 4)))


def test_the_batch_is_a_function_of_seed_and_step():
    for pools in (THREE[:1], THREE):
        batches, same = (Batches(3, 4, pools, prompts=4) for _ in range(2))
        a, again, other = batches.at(17), same.at(17), batches.at(18)
        assert a.pool == again.pool
        tensors = set(a.__dataclass_fields__) - {"pool"}
        assert all(torch.equal(getattr(a, f), getattr(again, f)) for f in tensors)
        assert not torch.equal(a.u, other.u)


def test_photos_come_equally_often():
    batches = Batches(0, 3, (Pool(5, (1,)),), prompts=1)
    seen = [photo for step in range(10) for photo in batches.at(step).photos.tolist()]
    assert all(seen.count(photo) == 6 for photo in range(5))


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("counts", [(5, 1, 3), (1, 1), (12, 2), (1, 1, 1, 1, 1)])
def test_photos_of_several_shapes_come_equally_often(size: int, counts: tuple[int, ...]):
    """After each round of as many steps as there are photos, each was seen `size` times; on the
    way a shape has had its share of the steps, but for less than one."""
    pools = tuple(Pool(count, (1, 2, 2 + k)) for k, count in enumerate(counts))
    batches = Batches(11, size, pools, prompts=1)
    everything, seen, turns = sum(counts), Counter[tuple[int, int]](), Counter[int]()
    for step in range(4 * everything):
        batch = batches.at(step)
        assert batch.noise.shape == (size, *pools[batch.pool].shape)
        turns[batch.pool] += 1
        seen.update((batch.pool, photo) for photo in batch.photos.tolist())
        for k, count in enumerate(counts):
            assert abs(turns[k] - (step + 1) * count / everything) < 1
        if (step + 1) % everything == 0:
            times = (step + 1) // everything * size
            photos = [(k, photo) for k, count in enumerate(counts) for photo in range(count)]
            assert {seen[photo] for photo in photos} == {times}


def test_the_order_of_the_shapes_is_another_in_each_round():
    batches = Batches(0, 1, THREE, prompts=1)
    rounds = [tuple(batches.at(9 * n + i).pool for i in range(9)) for n in range(5)]
    assert len(set(rounds)) > 1


def test_noise_levels_are_stratified():
    u = Batches(0, 8, (Pool(1, (1,)),), prompts=1).at(0).u
    assert sorted((u * 8).long().tolist()) == list(range(8))
