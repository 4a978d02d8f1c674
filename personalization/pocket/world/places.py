"""The places: large simple areas, drawn in frame coordinates (y down)."""

import numpy as np

from .canvas import Canvas, blob, box, ellipse, limb, polygon
from .scene import Scene
from .vocabulary import BACKDROPS, mix


def beach(c: Canvas, rng: np.random.Generator) -> None:
    """Sky and sun, sea, sand."""
    c.backdrop((120, 196, 242), (196, 230, 250), 0.5)
    c.shape(
        ellipse(rng.choice((0.17, 0.83)), rng.uniform(0.13, 0.18), 0.085, 0.085), (255, 222, 84)
    )
    c.shape(box(-0.1, 0.46, 1.1, 1.1), (46, 146, 208))
    y = rng.uniform(0.64, 0.69)
    c.shape(
        blob((-0.3, y + 0.06), (0.2, y), (0.6, y + 0.02), (1.3, y + 0.08), (1.3, 1.3), (-0.3, 1.3)),
        (240, 216, 152),
    )


def snow(c: Canvas, rng: np.random.Generator) -> None:
    """Pale sky, firs, white ground, flakes."""
    c.backdrop((150, 182, 218), (214, 228, 242), 0.7)
    shift = rng.uniform(0, 0.2)
    for i in range(6):
        x = i * 0.2 - 0.1 + shift
        top = 0.36 + 0.1 * rng.random()
        c.shape(polygon((x - 0.1, 0.68), (x, top), (x + 0.1, 0.68)), (52, 104, 96))
    c.shape(
        blob((-0.3, 0.66), (0.3, 0.63), (0.8, 0.66), (1.3, 0.64), (1.3, 1.3), (-0.3, 1.3)),
        (244, 248, 252),
    )
    for x, y in rng.random((22, 2)):
        r = 0.009 + 0.007 * rng.random()
        c.shape(ellipse(x, y * 0.75, r, r), (255, 255, 255), detail=True)


def forest(c: Canvas, rng: np.random.Generator) -> None:
    """Trunks and crowns over a green floor."""
    c.backdrop((150, 206, 152), (196, 226, 170), 0.75)
    shift = rng.uniform(-0.05, 0.05)
    for x in (0.04, 0.28, 0.72, 0.96):
        x += shift + rng.uniform(-0.03, 0.03)
        c.shape(box(x - 0.04, 0.1, x + 0.04, 0.76), (110, 74, 48))
    for x in np.arange(-0.02, 1.1, 0.21):
        r = rng.uniform(0.14, 0.18)
        c.shape(ellipse(x + shift, rng.uniform(0.0, 0.08), r, r), (36, 112, 58))
    c.shape(
        blob((-0.3, 0.72), (0.3, 0.7), (0.8, 0.72), (1.3, 0.7), (1.3, 1.3), (-0.3, 1.3)),
        (88, 148, 66),
    )


def moon(c: Canvas, rng: np.random.Generator) -> None:
    """Stars, the earth, grey ground with craters."""
    c.backdrop((14, 14, 40), (34, 32, 74), 0.75)
    for x, y in rng.random((26, 2)):
        r = 0.005 + 0.006 * rng.random()
        c.shape(ellipse(x, y * 0.7, r, r), (255, 255, 240), detail=True)
    x, y = rng.choice((0.16, 0.84)), rng.uniform(0.14, 0.2)
    c.shape(ellipse(x, y, 0.095, 0.095), (70, 140, 226))
    c.shape(ellipse(x - 0.02, y + 0.02, 0.045, 0.03, 0.5), (110, 196, 110), detail=True)
    c.shape(blob((-0.3, 0.72), (0.5, 0.66), (1.3, 0.72), (1.3, 1.3), (-0.3, 1.3)), (176, 176, 186))
    for x, y in ((0.12, 0.8), (0.86, 0.78), (0.3, 0.94), (0.74, 0.93)):
        at = (x + rng.uniform(-0.06, 0.06), y)
        c.shape(ellipse(*at, rng.uniform(0.06, 0.09), 0.022), (140, 140, 152), detail=True)


def sunset(c: Canvas, rng: np.random.Generator) -> None:
    """Purple to orange sky, a low sun, dark hills."""
    c.backdrop((104, 54, 122), (252, 148, 84), 0.72)
    c.shape(
        ellipse(rng.choice((0.24, 0.76)) + rng.uniform(-0.06, 0.06), 0.55, 0.14, 0.14),
        (255, 220, 110),
    )
    lift = rng.uniform(-0.03, 0.03)
    c.shape(
        blob(
            (-0.3, 0.62),
            (0.1, 0.52 + lift),
            (0.4, 0.62),
            (0.75, 0.54 - lift),
            (1.3, 0.62),
            (1.3, 1.3),
            (-0.3, 1.3),
        ),
        (116, 60, 110),
    )
    c.shape(blob((-0.3, 0.7), (0.4, 0.66), (1.3, 0.7), (1.3, 1.3), (-0.3, 1.3)), (74, 44, 82))


def room(c: Canvas, rng: np.random.Generator) -> None:
    """A wall with a window and a picture, a wooden floor."""
    c.backdrop((240, 222, 184), (232, 210, 168), 0.7)
    x = rng.choice((0.17, 0.83))
    c.shape(box(x - 0.14, 0.08, x + 0.14, 0.38), (255, 255, 252))
    for left in (x - 0.115, x + 0.015):
        c.shape(box(left, 0.105, left + 0.1, 0.355), (156, 208, 240), detail=True)
    other = 1 - x + rng.uniform(-0.03, 0.03)
    c.shape(box(other - 0.1, 0.13, other + 0.1, 0.31), (196, 132, 84))
    c.shape(box(other - 0.07, 0.16, other + 0.07, 0.28), (136, 178, 140), detail=True)
    c.shape(box(-0.1, 0.68, 1.1, 1.1), (172, 114, 72))
    c.shape(box(-0.1, 0.66, 1.1, 0.69), (250, 244, 232))


def underwater(c: Canvas, rng: np.random.Generator) -> None:
    """Blue water, weeds, bubbles, a sandy bed."""
    c.backdrop((70, 182, 220), (18, 78, 150))
    c.shape(
        blob((-0.3, 0.9), (0.3, 0.86), (0.7, 0.9), (1.3, 0.86), (1.3, 1.3), (-0.3, 1.3)),
        (214, 196, 140),
    )
    for x in (0.05, 0.15, 0.86, 0.95):
        x += rng.uniform(-0.02, 0.02)
        top = rng.uniform(0.5, 0.66)
        c.shape(
            limb(
                (x, 0.95),
                (x + 0.03, 0.82),
                (x - 0.02, 0.72),
                (x + 0.02, top),
                start=0.045,
                end=0.015,
            ),
            (34, 140, 96),
        )
    for x, y in rng.random((7, 2)):
        r = 0.014 + 0.016 * rng.random()
        c.shape(ellipse(x, 0.06 + y * 0.6, r, r), (170, 226, 246), detail=True)


def city(c: Canvas, rng: np.random.Generator) -> None:
    """Towers with lit windows behind a street."""
    c.backdrop((170, 206, 236), (222, 234, 240), 0.75)
    tones = ((92, 104, 136), (124, 116, 140), (104, 124, 150))
    x = -rng.uniform(0.0, 0.1)
    for i in range(6):
        width, top = rng.uniform(0.17, 0.22), rng.uniform(0.14, 0.42)
        c.shape(box(x, top, x + width, 0.8), tones[i % 3])
        for wx in (x + width * 0.16, x + width * 0.58):
            for wy in np.arange(top + 0.05, 0.62, 0.105):
                c.shape(box(wx, wy, wx + width * 0.26, wy + 0.055), (255, 232, 140), detail=True)
        x += width
    c.shape(box(-0.1, 0.72, 1.1, 0.8), (196, 196, 200))
    c.shape(box(-0.1, 0.78, 1.1, 1.1), (96, 98, 106))
    for x in np.arange(rng.uniform(-0.15, 0), 1.1, 0.25):
        c.shape(box(x, 0.93, x + 0.13, 0.955), (246, 240, 220), detail=True)


def plain(c: Canvas, colour: str) -> None:
    """A backdrop of one colour."""
    c.backdrop(BACKDROPS[colour], mix(BACKDROPS[colour], (60, 50, 70), 0.1))


PLACE_DRAWINGS = {
    "beach": beach, "snow": snow, "forest": forest, "moon": moon, "sunset": sunset, "room": room,
    "underwater": underwater, "city": city,
}  # fmt: skip


def draw_place(canvas: Canvas, scene: Scene) -> None:
    """Fill the canvas with the scene's place."""
    if scene.place == "plain":
        if scene.backdrop is None:
            raise ValueError(f"a plain place needs a backdrop; these are: {', '.join(BACKDROPS)}")
        plain(canvas, scene.backdrop)
    else:
        PLACE_DRAWINGS[scene.place](canvas, np.random.default_rng(scene.seed))
