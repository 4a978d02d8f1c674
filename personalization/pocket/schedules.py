"""Learning rates as pure functions of the step, as factors of the peak."""

from __future__ import annotations

import math


def warmup_then_cosine(step: int, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Linear up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_hold_decay(step: int, steps: int, warmup: int, decay: int) -> float:
    """Linear up, constant, and over the last `decay` steps in a line down to nothing."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, min(1.0, (steps - step) / decay))
