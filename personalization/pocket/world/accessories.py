"""What a figure wears: drawn at the place that its figure names for it."""

import numpy as np

from .canvas import box, ellipse, limb, polygon
from .figures import INK, WHITE, Figure
from .vocabulary import RGB

GOLD: RGB = (255, 206, 52)


def party_hat(f: Figure) -> None:
    """A striped cone with a bobble."""
    x, y, w = f.hat
    h = w * 1.25
    f.add(polygon((x - w / 2, y), (x, y + h), (x + w / 2, y)), (240, 72, 150))
    for low in (0.16, 0.5):
        left, right = (1 - low) * w / 2, (1 - low - 0.17) * w / 2
        band = [(x - left, y + low * h), (x + left, y + low * h)]
        band += [(x + right, y + (low + 0.17) * h), (x - right, y + (low + 0.17) * h)]
        f.add(polygon(*band), (255, 232, 96), True)
    f.add(ellipse(x, y + h, w * 0.17, w * 0.17), (120, 226, 250))


def scarf(f: Figure) -> None:
    """A red and white scarf with one end hanging down."""
    x, y, w = f.neck
    red, pale = (214, 44, 66), (255, 240, 232)
    low = y - min(0.25, max(0.13, y))  # not far below the feet
    f.add(box(x + w * 0.16, low, x + w * 0.16 + 0.12, y), red)
    f.add(box(x + w * 0.16, low + 0.04, x + w * 0.16 + 0.12, low + 0.085), pale, True)
    f.add(box(x - w / 2, y - 0.055, x + w / 2, y + 0.055, 0.05), red)
    for step in (-0.3, 0.0, 0.3):
        f.add(box(x + w * step - 0.025, y - 0.05, x + w * step + 0.025, y + 0.05), pale, True)


def glasses(f: Figure) -> None:
    """Two round dark rims around the eyes."""
    x, y, spread, r = f.eyes
    outer = max(r * 1.5, 0.088)
    for side in (-1, 1):
        cx = x + side * max(spread, outer * 0.92)
        ring = ellipse(cx, y, outer, outer)
        hole = ellipse(cx, y, outer - 0.03, outer - 0.03)
        f.add(np.concatenate([ring, ring[:1], hole[:1], hole[::-1]]), INK, True)
        f.add(
            limb(
                (cx + side * outer, y), (cx + side * (outer + 0.06), y + 0.02), start=0.03, end=0.03
            ),
            INK,
            True,
        )
    gap = max(spread - outer, 0.0)
    f.add(box(x - gap - 0.01, y - 0.005, x + gap + 0.01, y + 0.03), INK, True)


def bow_tie(f: Figure) -> None:
    """A dotted blue bow with a yellow knot."""
    x, y, _ = f.neck
    for side in (-1, 1):
        f.add(
            polygon(
                (x, y + 0.03),
                (x + side * 0.17, y + 0.105),
                (x + side * 0.17, y - 0.105),
                (x, y - 0.03),
            ),
            (40, 70, 180),
        )
        f.add(ellipse(x + side * 0.11, y, 0.025, 0.025), WHITE, True)
    f.add(box(x - 0.045, y - 0.05, x + 0.045, y + 0.05, 0.025), (250, 204, 60))


def crown(f: Figure) -> None:
    """A golden crown with three tips and three gems."""
    x, y, w = f.hat
    w *= 1.15
    h = w * 0.72
    tips = [(x - w / 2, y), (x - w * 0.56, y + h), (x - w / 4, y + h * 0.5), (x, y + h * 1.1)]
    f.add(polygon(*tips, *[(2 * x - a, b) for a, b in tips[2::-1]]), GOLD)
    for step, gem in ((-0.28, (226, 52, 70)), (0.0, (60, 120, 226)), (0.28, (226, 52, 70))):
        f.add(ellipse(x + w * step, y + h * 0.24, w * 0.08, w * 0.08), gem, True)


WEAR = {
    "party hat": party_hat,
    "scarf": scarf,
    "glasses": glasses,
    "bow tie": bow_tie,
    "crown": crown,
}
