"""Photos of several shapes in one run: the same in slices, of the right pixels, told to SDXL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from personalization.adapters.adapter import read_tensors
from personalization.bases.base import Base
from personalization.data.concept import Concept
from personalization.data.frames import Canvas, frame
from personalization.data.photos import Photo
from personalization.events import Finished, SliceEnded
from personalization.recipe import LowRank, Prior, Recipe
from personalization.training import loop
from personalization.training.examples import Examples, Seen, encode_photos, in_buckets
from personalization.training.run import Run
from tests.support import tiny

SIDES = ((96, 96), (128, 72), (60, 110), (130, 75), (300, 170))
IN_SHAPE = Recipe(
    LowRank("lora", rank=2), steps=5, batch_size=2, framing="shape", flip=True, checkpoint_every=5
)


def concept() -> Concept:
    """Photos of three shapes, one with a mask."""
    chance = np.random.default_rng(0)
    photos = [
        Photo(f"{n}.png", Image.fromarray(chance.integers(0, 255, (*sides[::-1], 3), np.uint8)))
        for n, sides in enumerate(SIDES)
    ]
    mask = Image.new("L", photos[1].image.size)
    mask.paste(255, (90, 10, 120, 60))
    photos[1] = replace(photos[1], mask=mask)
    return Concept("creature", "sks", "dog", tuple(photos))


def framed(base: Any) -> Base:
    base.spec = replace(base.spec, granularity=8, sampling=replace(base.spec.sampling, steps=1))
    return base


@pytest.fixture(scope="module")
def base() -> Base:
    return framed(tiny.base())


def test_each_photo_is_learned_in_the_size_that_shows_most_of_it(base: Base, tmp_path: Path):
    run = Run.create(tmp_path / "run", concept(), IN_SHAPE, "tiny")
    buckets = in_buckets(base, run)
    assert [bucket.photos for bucket in buckets] == [(0,), (1, 3, 4), (2,)]
    shapes = [tuple(bucket.posterior.mean.shape) for bucket in buckets]
    assert shapes == [(2, 1, 4, 16, 16), (2, 3, 4, 12, 20), (2, 1, 4, 20, 12)]
    # As a plain encoding of the plain crop has it, mirrored and not.
    photo = run.concept.photos[3]
    seen = frame(photo, Canvas(32, 8, "shape"))
    plain = photo.image.resize((40, 24), Image.Resampling.LANCZOS, box=seen.box)
    pixels = torch.from_numpy(np.array(plain)).permute(2, 0, 1)[None].float() / 127.5 - 1
    for side, turned in enumerate((pixels, pixels.flip(-1))):
        expected = base.encode_images(turned)
        assert torch.allclose(buckets[1].posterior.mean[side, 1], expected.mean[0], atol=1e-5)
    weights = buckets[1].weights
    assert weights is not None
    assert weights[0, 0, 0, 6, -4] > weights[0, 0, 0, 6, 0]
    assert torch.equal(weights[0].flip(-1), weights[1])
    assert buckets[0].weights is None


@pytest.mark.parametrize("prior", [None, Prior("images", images=3), Prior("adapter_off")])
def test_a_run_in_buckets_is_the_same_in_slices(base: Base, tmp_path: Path, prior: Prior | None):
    recipe = replace(IN_SHAPE, prior=prior)
    whole, sliced = (
        Run.create(tmp_path / name, concept(), recipe, "tiny") for name in ("whole", "sliced")
    )
    assert isinstance([*loop.train(base, whole, cache=tmp_path / "a")][-1], Finished)
    while sliced.state.status != "finished":
        left = iter(range(2))
        stop = lambda left=left: next(left, None) is None  # noqa: E731
        events = list(loop.train(base, sliced, cache=tmp_path / "b", stop=stop))
        assert isinstance(events[-1], SliceEnded | Finished)
    a, b = read_tensors(whole.adapter_path), read_tensors(sliced.adapter_path)
    assert all(torch.equal(a[key], b[key]) for key in a)
    rows = [[(r.loss, r.prior_loss) for r in run.losses()] for run in (whole, sliced)]
    assert rows[0] == rows[1]


def test_square_photos_are_learned_bit_for_bit_as_by_the_crop(base: Base, tmp_path: Path):
    adapters = []
    for framing in ("crop", "shape", "subject"):
        recipe = replace(IN_SHAPE, framing=framing, prior=Prior("images", images=2))
        square = replace(concept(), photos=tuple(concept().photos[:1]) * 2)
        run = Run.create(tmp_path / framing, square, recipe, "tiny")
        list(loop.train(base, run, cache=tmp_path))
        adapters.append(read_tensors(run.adapter_path))
    for other in adapters[1:]:
        assert all(torch.equal(adapters[0][key], other[key]) for key in other)


@pytest.mark.parametrize("name", ["sd35-medium", "flux2-klein"])
def test_every_family_learns_in_buckets(name: str, tmp_path: Path):
    run = Run.create(tmp_path / "run", concept(), IN_SHAPE, name)
    base = framed(tiny.family_base(name))
    assert isinstance([*loop.train(base, run, cache=tmp_path)][-1], Finished)
    assert {bucket.posterior.mean.shape[-2:] for bucket in in_buckets(base, run)} != 1


@pytest.mark.parametrize("kind", ["images", "adapter_off"])
def test_sdxl_is_told_each_photos_own_sizes(tmp_path: Path, kind: Any):
    """As train_dreambooth_lora_sdxl.py's compute_time_ids: original size, corner, target size."""
    base: Any = framed(tiny.family_base("sdxl"))
    recipe = replace(IN_SHAPE, steps=9, prior=Prior(kind, images=2))
    run = Run.create(tmp_path / "run", concept(), recipe, "sdxl")
    examples = Examples(base, run, Seen(in_buckets(base, run)), with_class_noun=True)
    given: list[torch.Tensor] = []

    def note(_module: Any, _args: Any, named: Any) -> None:
        given.append(named["added_cond_kwargs"]["time_ids"])

    told = set()
    for step in range(20):
        samples, batch = examples.at(step), examples.batches.at(step)
        hook = base.denoiser.register_forward_pre_hook(note, with_kwargs=True)
        conditioning = base.encode_prompts(samples.texts).told(samples.sizes)
        with torch.no_grad():
            base.predict(samples.latents, conditioning, samples.noise, samples.u)
        hook.remove()
        for row, index, mirrored in zip(
            given[-1].tolist(), batch.photos.tolist(), batch.mirrored.tolist(), strict=True
        ):
            photo = examples.buckets[batch.pool].photos[index]
            told.add((photo, mirrored, tuple(round(value, 2) for value in row)))
    assert len(told) == 2 * len(SIDES)
    for photo, mirrored, row in told:
        width, height = SIDES[photo]
        seen = frame(run.concept.photos[photo], base.spec.canvas(recipe))
        left, top, right, bottom = seen.box
        corner = width - right if mirrored else left
        scale = seen.size[0] / (right - left), seen.size[1] / (bottom - top)
        expected = (height, width, top * scale[1], corner * scale[0], *seen.size[::-1])
        assert row == pytest.approx(expected, abs=0.01)
    assert isinstance([*loop.train(base, run, cache=tmp_path)][-1], Finished)


def test_encoding_more_photos_than_go_at_once_keeps_their_order(base: Base):
    photos = tiny.photos(6)
    frames = [frame(photo, Canvas(32, 8)) for photo in photos]
    posterior = encode_photos(base, photos, frames, flip=False)
    for index, photo in enumerate(photos):
        alone = encode_photos(base, [photo], frames[index : index + 1], flip=False)
        assert torch.allclose(posterior.mean[0, index], alone.mean[0, 0], atol=1e-5)
