"""A picture of its own around each region, for the steps in which a region is seen alone.

A base puts its subject into the middle of a picture of the shape that it was taught, and of a
narrow part of one it often leaves nothing. So a region is seen as the middle of such a picture.
What is around it there, its margin, is denoised beside it and thrown away in the end.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Window = tuple[int, int, int, int]
"""Left, top, right, bottom, in cells of the latents; a frame's may lie outside of them."""


def framed(window: Window, size: tuple[int, int], step: int) -> Window:
    """The least picture of the shape of `size` (width, height) that has the window in its middle.

    In whole `step`s, which is what the UNet halves without a rest.
    """
    left, top, right, bottom = window
    scale = max((right - left) / size[0], (bottom - top) / size[1])
    width, height = (min(side, math.ceil(scale * side / step) * step) for side in size)
    left -= (width - (right - left)) // 2 // step * step
    top -= (height - (bottom - top)) // 2 // step * step
    return left, top, left + width, top + height


def within(window: Window, frame: Window) -> tuple[Any, slice, slice]:
    """Where the window is in latents of the frame."""
    left, top = frame[:2]
    return ..., slice(window[1] - top, window[3] - top), slice(window[0] - left, window[2] - left)


class Margins:
    """What each frame shows beside its region, followed from step to step.

    By DDIM (Song et al. 2020, arXiv 2010.02502), whatever the sampler: of the margin nothing is
    kept. It begins as the noise of other parts of the picture, so that a seed draws what it drew.

    `schedule` is the base's noise schedule; `guidance` that of the picture, above 1 for a batch
    that comes twice, without the prompt first.
    """

    def __init__(self, schedule: Any, guidance: float) -> None:
        self.schedule, self.guidance = schedule, guidance
        self.parts: dict[int, tuple[Tensor, Tensor]] = {}  # by region: the picture, the noise
        self.first = -math.inf  # the timestep at which pictures begin

    def begin(self, timestep: float) -> None:
        """Forget another picture's margins, at the first step of one."""
        if timestep >= self.first:
            self.first, self.parts = timestep, {}

    def around(self, region: int, sample: Tensor, place: tuple[Window, Window], t: float) -> Tensor:
        """The frame's latents, with the sample's own in the window; `place` is window, frame."""
        window, (left, top, right, bottom) = place
        if region not in self.parts:
            rolled = sample.roll((-top, -left), (-2, -1))
            return rolled[..., : bottom - top, : right - left]
        steps = torch.tensor([round(t)], device=sample.device)
        frame: Tensor = self.schedule.add_noise(*self.parts[region], steps)
        frame = frame.repeat(2, 1, 1, 1) if self.guidance > 1 else frame.clone()
        frame[within(window, place[1])] = sample[within(window, (0, 0, 0, 0))]
        return frame.to(sample)

    def follow(self, region: int, seen: Tensor, said: Tensor, t: float) -> None:
        """Keep what the denoiser said of a frame: its picture and its noise."""
        seen, said = seen.float(), said.float()
        if self.guidance > 1:
            (seen, _), (refused, asked) = seen.chunk(2), said.chunk(2)
            said = refused + self.guidance * (asked - refused)
        signal = float(self.schedule.alphas_cumprod[round(t)]) ** 0.5
        noise = (1 - signal**2) ** 0.5
        if self.schedule.config.prediction_type == "v_prediction":
            self.parts[region] = signal * seen - noise * said, signal * said + noise * seen
        else:
            self.parts[region] = (seen - noise * said) / signal, said
