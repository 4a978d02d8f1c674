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
    """Linear up, constant, and over the last `decay` steps down to nothing (1 - sqrt)."""
    if step < warmup:
        return (step + 1) / warmup
    left = steps - step
    if left >= decay:
        return 1.0
    return max(0.0, 1 - math.sqrt((decay - left) / decay))
