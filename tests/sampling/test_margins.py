"""What is around a region that is seen alone: its frame, and the margin that is denoised there."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from personalization.sampling.margins import Margins, framed, within

SQUARE = (32, 32)


@pytest.mark.parametrize(
    ("window", "size", "frame"),
    [
        ((0, 0, 16, 32), SQUARE, (-8, 0, 24, 32)),  # half of a picture
        ((16, 0, 32, 32), SQUARE, (8, 0, 40, 32)),
        ((0, 0, 32, 16), SQUARE, (0, -8, 32, 24)),
        ((0, 0, 32, 32), SQUARE, (0, 0, 32, 32)),
        ((16, 16, 32, 32), SQUARE, (16, 16, 32, 32)),  # a quarter has the shape already
        ((8, 4, 16, 28), SQUARE, (0, 4, 24, 28)),
        ((0, 0, 48, 64), (96, 64), (-24, 0, 72, 64)),
    ],
)
def test_a_frame_is_the_least_picture_with_the_region_in_its_middle(window, size, frame) -> None:
    assert framed(window, size, 4) == frame


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_margin_is_denoised_as_ddim_does(kind, guidance) -> None:
    """Against diffusers' own, with a denoiser that says something of what it sees."""
    config = {"prediction_type": kind, "clip_sample": False, "beta_schedule": "scaled_linear"}
    theirs = DDIMScheduler(**config, steps_offset=1)
    theirs.set_timesteps(5)
    margins = Margins(DDPMScheduler(**config), guidance)
    window, frame = (0, 0, 4, 8), (-2, 0, 6, 8)
    rows = 2 if guidance > 1 else 1
    canvas = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = canvas.roll(2, -1)
    for timestep in theirs.timesteps:
        t = float(timestep)
        margins.begin(t)
        seen = margins.around(0, canvas.repeat(rows, 1, 1, 1), (window, frame), t)
        torch.testing.assert_close(seen, expected.repeat(rows, 1, 1, 1))
        said = torch.stack([(0.3 + 0.2 * row) * seen[row].tanh() for row in range(rows)])
        margins.follow(0, seen, said, t)
        asked = said[:1] + guidance * (said[1:] - said[:1]) if rows == 2 else said
        expected = theirs.step(asked, timestep, expected).prev_sample
        canvas = canvas.clone()
        canvas[..., :4] = expected[within(window, frame)]


def test_each_picture_begins_with_its_own_noise() -> None:
    margins, place = Margins(DDPMScheduler(), 1.0), ((0, 0, 4, 8), (-2, 0, 6, 8))
    for seed in (0, 1):  # of one step each, so that the timestep does not rise between them
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        margins.begin(999.0)
        seen = margins.around(0, noise, place, 999.0)
        assert (seen == noise.roll(2, -1)).all()
        margins.follow(0, seen, seen, 999.0)
