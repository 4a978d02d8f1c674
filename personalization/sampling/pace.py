"""How long work takes on a device: as measured, or by the CPU's speed or a GPU's peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from personalization.bases import speed
from personalization.bases.catalog import BaseSpec, Sampling
from personalization.bases.loading import precision
from personalization.bases.work import Work, decoding, forward

# Dense bfloat16 with float32 sums, FLOP a second, as NVIDIA's data sheets have it; of the RTX
# PRO 6000 Blackwell the half that ZeroGPU lends.
PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L4": 121e12,
    "RTX PRO 6000": 252e12,
    "RTX 3060": 25e12,
}
SHARE = 0.2  # of the peak: the example scripts reach 0.08 to 0.35
SLOW = 20.0  # seconds, from which on a picture that is not kept is drawn fast


@dataclass(frozen=True)
class Pace:
    """Seconds for one picture, measured."""

    word: float  # forward and back, where a word is trained
    weights: float  # the same where weights are
    drawn: float


# By architecture and kind of device; others go by the peaks.
PACES = {
    ("pocket", "cpu"): Pace(0.050, 0.06, 0.400),
    ("pocket", "mps"): Pace(0.010, 0.012, 0.080),
    ("pocket", "cuda"): Pace(0.004, 0.0048, 0.032),
}


def seconds(device: str, work: Work, dispatch: float, precision: torch.dtype) -> float | None:
    """Of that work on a device of that name: the CPU is measured, GPUs go by their peaks."""
    if device == "cpu":
        return speed.of_this_machine(precision).seconds(work)
    peak = next((peak for name, peak in PEAKS.items() if name in device), None)
    return max(work.flops / (peak * SHARE), dispatch) if peak else None


def picture(
    spec: BaseSpec, device: torch.device, sampling: Sampling, size: int = 0
) -> float | None:
    """Seconds to draw one on that device; None where its speed is not known."""
    if pace := PACES.get((spec.architecture, device.type)):
        return pace.drawn * sampling.steps / spec.sampling.steps
    name, size = device_name(device), size or spec.size
    kept_in = precision(spec, device)
    passes = sampling.steps * (2 if sampling.guidance > 1 else 1)
    answer = seconds(name, forward(spec.architecture, size), 0.0, kept_in)
    decoded = seconds(name, decoding(spec.architecture, size), 0.0, kept_in)
    return None if answer is None or decoded is None else passes * answer + decoded


def previewed(spec: BaseSpec, device: torch.device, steps: int, size: int = 0) -> float | None:
    """Seconds to draw one that is not kept, in `steps`, or fast where that is too slow."""
    usual = picture(spec, device, Sampling(steps, spec.sampling.guidance), size)
    if spec.fast and is_slow(spec, device):
        return picture(spec, device, spec.fast.sampling, size)
    return usual


def is_slow(spec: BaseSpec, device: torch.device) -> bool:
    """Whether a picture takes so long that others than the visitor's own are drawn fast."""
    return (picture(spec, device, spec.sampling) or 0.0) > SLOW


def device_name(device: torch.device) -> str:
    """What `seconds` knows it by."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
