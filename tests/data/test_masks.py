"""What lies outside a mask counts little, exactly as a plain computation has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from personalization.data import masks
from personalization.data.captions import captioned
from personalization.data.concept import Concept
from personalization.data.frames import Frame, frame
from personalization.data.photos import Photo
from personalization.errors import ConceptError
from personalization.recipe import LowRank, Prior, Recipe
from personalization.training import loop
from personalization.training.batches import Batches, Pool
from personalization.training.examples import encode_photos
from personalization.training.run import Run
from tests.support import tiny


@pytest.fixture(scope="module")
def base():
    base = tiny.base()
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=1))
    return base


def painted(photo: Photo, box: tuple[int, int, int, int]) -> Photo:
    mask = Image.new("L", photo.image.size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return replace(photo, mask=mask)


def concept() -> Concept:
    """Three photos of 96 x 80, the first two masked, each with a caption."""
    one, two, three = tiny.photos(3)
    photos = (painted(one, (10, 20, 40, 60)), painted(two, (50, 5, 95, 40)), three)
    return Concept("creature", "sks", "dog", tuple(captioned(photos, "red\n\nin the snow")))


def test_weights_are_the_masks_share_of_each_place_with_a_mean_of_one():
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=255)  # the left half
    photo = Photo("half.png", Image.new("RGB", (64, 64)), mask)
    plain = replace(photo, mask=None)
    empty = replace(photo, mask=Image.new("L", (64, 64)))
    whole = [Frame((0, 0, 64, 64), (64, 64), (64, 64))]

    def weights(photos: list[Photo], background: float) -> torch.Tensor | None:
        return masks.weights(masks.whites(photos, whole * 3, (4, 4)), (4, 4), background)

    assert weights([plain, plain, plain], 0.1) is None
    half, ones, nothing = weights([photo, plain, empty], 0.2)
    expected = torch.tensor([1, 1, 0.2, 0.2]) / 0.6
    assert torch.allclose(half, expected.expand(1, 4, 4))
    assert torch.equal(ones, torch.ones(1, 4, 4))
    assert torch.allclose(nothing, torch.ones(1, 4, 4))
    alone = weights([photo, empty, plain], 0.0)
    assert torch.allclose(alone[0], torch.tensor([2.0, 2, 0, 0]).expand(1, 4, 4))
    assert torch.equal(alone[1], torch.ones(1, 4, 4))


@pytest.mark.parametrize("prior", [None, Prior("adapter_off")])
def test_the_first_loss_is_the_weighted_mean_of_a_plain_computation(base, tmp_path, prior):
    """A LoRA begins as nothing, so the first loss is that of the base as it is."""
    recipe = Recipe(
        LowRank(rank=2), steps=1, batch_size=4, prior=prior, flip=True, background=0.25, seed=3
    )
    run = Run.create(tmp_path / "run", concept(), recipe, "tiny")
    list(loop.train(base, run))
    (row,) = run.losses()

    photos = run.concept.photos
    frames = [frame(photo, base.spec.canvas(recipe)) for photo in photos]
    posterior = encode_photos(base, photos, frames, flip=True)
    grid = posterior.mean.shape[-2:]
    batch = Batches(3, 4, (Pool(3, tuple(posterior.mean.shape[2:])),), prompts=4).at(0)
    assert len(set(batch.mirrored.tolist())) == 2  # some mirrored, some not
    prompts = run.concept.prompts()
    losses = []
    for i, photo in enumerate(batch.photos.tolist()):
        said = ["sks dog, red", prompts[batch.prompts[i]], "sks dog, in the snow"][photo]
        with torch.no_grad():
            text = base.encode_prompts([said])
            side = int(batch.mirrored[i])
            latents = posterior[side, photo].sample(batch.posterior_noise[i])[None]
            given = latents, text, batch.noise[i : i + 1], batch.u[i : i + 1]
            error = base.predict(*given) - base.target(given[0], *given[2:])
        squares = error[0].double().square().numpy()
        weight = np.ones(grid)
        if (mask := run.concept.photos[photo].mask) is not None:
            # 96 x 80: a square of 80 around the mask's middle, as far as the photo reaches
            left, _, right, _ = mask.getbbox()
            x = int(min(max((left + right) / 2 - 40, 0), 16))
            cut = mask.crop((x, 0, x + 80, 80)).resize((32, 32), Image.Resampling.BOX)
            cells = np.asarray(cut, dtype=float).reshape(grid[0], 32 // grid[0], grid[1], -1) / 255
            weight = 0.25 + 0.75 * cells.mean((1, 3))
            weight = weight[:, ::-1] if side else weight
        losses.append((squares * weight).mean(0).sum() / weight.sum())
    assert row.loss == pytest.approx(np.mean(losses), rel=1e-4)
    if prior:
        assert row.prior_loss == pytest.approx(0, abs=1e-9)


def test_captions_go_to_the_photos_in_order_and_too_many_are_refused():
    photos = tiny.photos(3)
    found = captioned(photos, "\n  by the window \n\n\n")
    assert [photo.caption for photo in found] == [None, "by the window", None]
    assert [p.caption for p in captioned(found, "red")] == ["red", "by the window", None]
    assert captioned(photos, "") == list(photos)
    with pytest.raises(ConceptError, match=r"4 captions for 3 photos\. Take 1 out"):
        captioned(photos, "a\nb\nc\nd")
