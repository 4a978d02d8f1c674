"""The figures: one function per class, from an individual's random numbers to outlines.

Figure coordinates: x to the right from the middle, y up from the feet, height about 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .canvas import blob, box, ellipse, limb, polygon
from .vocabulary import RGB

INK: RGB = (30, 26, 34)
WHITE: RGB = (255, 255, 255)
BEAK: RGB = (250, 160, 40)
GLASS: RGB = (200, 230, 246)
CREAM: RGB = (250, 236, 208)
LEAF: RGB = (82, 158, 66)
ROSE: RGB = (246, 150, 164)


@dataclass(frozen=True)
class Part:
    """One outline [n, 2] of a figure and what fills it.

    colour: an RGB value, or a role: body (the colour and its pattern), plain (the colour alone),
    dark and light (shades of it). A detail is drawn without a line around it.
    """

    points: np.ndarray
    colour: RGB | str
    detail: bool = False


@dataclass
class Figure:
    """Outlines from back to front, and where a face, a hat, a scarf and a patch belong.

    eyes: x, y, distance from the middle to each eye, radius.
    hat: x, y of its base, width. neck: x, y, width. belly: x, y, radius.
    """

    parts: list[Part] = field(default_factory=list)
    eyes: tuple[float, float, float, float] = (0, 0.7, 0.1, 0.06)
    hat: tuple[float, float, float] = (0, 0.95, 0.24)
    neck: tuple[float, float, float] = (0, 0.46, 0.34)
    belly: tuple[float, float, float] = (0, 0.25, 0.12)

    def add(self, points: np.ndarray, colour: RGB | str, detail: bool = False) -> None:
        """Put one more outline in front."""
        self.parts.append(Part(points, colour, detail))

    def pair(self, points: np.ndarray, colour: RGB | str, detail: bool = False) -> None:
        """An outline and its mirror image."""
        self.add(points, colour, detail)
        self.add(points * (-1, 1), colour, detail)

    def face(self, x: float, y: float, spread: float, radius: float, smile: float = 0.0) -> None:
        """Two large eyes, and a smile below them if its width is given."""
        self.eyes = (x, y, spread, radius)
        for side in (-1, 1):
            self.add(ellipse(x + side * spread, y, radius, radius * 1.1), WHITE)
            pupil = radius * 0.62
            self.add(ellipse(x + side * spread, y - radius * 0.1, pupil, pupil * 1.1), INK, True)
            glint = (x + side * spread + pupil * 0.35, y + pupil * 0.3)
            self.add(ellipse(*glint, pupil * 0.34, pupil * 0.34), WHITE, True)
        if smile:
            self.smile(x, y - radius * 2.1, smile)

    def smile(self, x: float, y: float, width: float) -> None:
        """A smiling mouth."""
        half = width / 2
        line = [(x - half, y), (x - half / 2, y - half * 0.5), (x, y - half * 0.65)]
        line += [(x + half / 2, y - half * 0.5), (x + half, y)]
        self.add(limb(*line, start=0.028, end=0.028), INK, True)


Uniform = Callable[[float, float], float]


def sitting_body(f: Figure, u: Uniform, width: float) -> None:
    """A sitting animal's body, paws and belly anchor."""
    w = width * u(0.9, 1.12)
    f.add(
        blob(
            (-w * 0.62, 0.44), (-w, 0.14), (-w * 0.7, 0), (w * 0.7, 0), (w, 0.14), (w * 0.62, 0.44)
        ),
        "body",
    )
    f.pair(ellipse(w * 0.62, 0.035, 0.105, 0.06), "light")
    f.neck = (0, 0.42, w * 1.55)
    f.belly = (0, 0.2, 0.11)


def cat(u: Uniform) -> Figure:
    """Pointed ears, whiskers, a curling tail."""
    f = Figure()
    side = 1 if u(0, 1) < 0.5 else -1
    reach, top, curl = u(0.38, 0.5), u(0.3, 0.55), u(-0.1, 0.1)
    tail = [(side * 0.15, 0.08), (side * reach, 0.12), (side * (reach + 0.02), top)]
    f.add(limb(*tail, (side * (reach + curl), top + 0.14), start=0.1, end=0.085), "dark")
    sitting_body(f, u, 0.26)
    w, h = u(0.27, 0.34), u(0.215, 0.25)
    y = 0.66
    out, tip, ear = u(0.62, 0.95), u(0.26, 0.4), u(0.7, 1.0)
    outer = polygon(
        (w * 0.95, y + 0.03), (w * out, y + h * 0.55 + tip), (w * 0.95 - 0.24 * ear, y + h * 0.8)
    )
    f.pair(outer, "body")
    f.pair(outer * 0.6 + outer.mean(axis=0) * 0.4 - (0, 0.015), ROSE, True)
    f.add(ellipse(0, y, w, h), "body")
    f.face(0, y + 0.02, w * u(0.4, 0.5), u(0.062, 0.078))
    f.add(ellipse(0, y - 0.1, 0.1, 0.065), "light", True)
    f.add(polygon((-0.03, y - 0.065), (0.03, y - 0.065), (0, y - 0.1)), INK, True)
    for rise in (0.0, 0.045):
        f.pair(
            limb(
                (0.13, y - 0.09 + rise * 0.4), (w + 0.1, y - 0.12 + rise * 2), start=0.014, end=0.01
            ),
            INK,
            True,
        )
    f.hat = (0, y + h * 0.88, 0.24)
    return f


def dog(u: Uniform) -> Figure:
    """Hanging ears, a muzzle, sometimes a tongue."""
    f = Figure()
    side = 1 if u(0, 1) < 0.5 else -1
    f.add(
        limb(
            (side * 0.15, 0.12),
            (side * 0.34, 0.2),
            (side * u(0.36, 0.44), u(0.28, 0.4)),
            start=0.1,
            end=0.06,
        ),
        "dark",
    )
    sitting_body(f, u, 0.25)
    w, h = u(0.24, 0.29), u(0.25, 0.28)
    y = 0.68
    f.add(ellipse(0, y, w, h), "body")
    drop, fat, splay = u(0.16, 0.28), u(0.085, 0.13), u(-0.1, 0.35)
    ear = ellipse(w + 0.03 + splay * 0.16, y + 0.14 - drop * 0.6, fat, drop, splay)
    f.pair(ear, "dark")
    muzzle = u(0.13, 0.17)
    f.add(ellipse(0, y - 0.12, muzzle, 0.115), "light", True)
    if u(0, 1) < 0.4:
        f.add(ellipse(0, y - 0.22, 0.045, 0.065), ROSE)
    f.face(0, y + 0.065, w * 0.42, u(0.055, 0.07))
    f.smile(0, y - 0.15, 0.16)
    f.add(ellipse(0, y - 0.065, u(0.05, 0.065), 0.043), INK, True)
    f.hat = (0, y + h * 0.9, 0.24)
    f.neck = (0, 0.42, 0.36)
    return f


def rabbit(u: Uniform) -> Figure:
    """Long ears, front teeth, a round tail."""
    f = Figure()
    w, h = u(0.21, 0.25), u(0.19, 0.22)
    y = 0.53
    length, fat, splay, apart = u(0.2, 0.27), u(0.06, 0.08), u(-0.02, 0.3), u(0.09, 0.12)
    centre = (apart + np.sin(splay) * length * 0.8, y + h * 0.7 + np.cos(splay) * length * 0.85)
    f.pair(ellipse(*centre, fat, length, -splay), "body")
    f.pair(ellipse(*centre, fat * 0.5, length * 0.72, -splay), ROSE, True)
    w_body = u(0.2, 0.25)
    f.add(ellipse(w_body * 0.95, 0.11, 0.085, 0.085), "light")
    f.add(ellipse(0, 0.2, w_body, 0.2), "body")
    f.pair(ellipse(w_body * 0.6, 0.035, 0.12, 0.05), "light")
    f.add(ellipse(0, y, w, h), "body")
    f.pair(ellipse(w * 0.62, y - 0.06, 0.04, 0.03), ROSE, True)
    f.face(0, y + 0.04, w * u(0.42, 0.5), u(0.058, 0.07))
    f.add(box(-0.035, y - 0.15, 0.035, y - 0.075), WHITE)
    f.add(ellipse(0, y - 0.06, 0.035, 0.025), INK, True)
    f.hat, f.neck, f.belly = (0, y + h * 0.82, 0.2), (0, 0.34, 0.34), (0, 0.19, 0.1)
    return f


def bear(u: Uniform) -> Figure:
    """Round ears, a wide body with a light belly."""
    f = Figure()
    w_body = u(0.29, 0.36)
    f.pair(ellipse(w_body * 0.98, 0.3, 0.085, 0.16, 0.5), "body")
    f.add(ellipse(0, 0.25, w_body, 0.26), "body")
    f.add(ellipse(0, 0.22, w_body * 0.58, 0.17), "light", True)
    f.pair(ellipse(w_body * 0.66, 0.05, 0.12, 0.075), "dark")
    w, h = u(0.25, 0.29), u(0.22, 0.25)
    y = 0.69
    ear, out = u(0.085, 0.12), u(0.75, 0.92)
    f.pair(ellipse(w * out, y + h * 0.78, ear, ear), "body")
    f.pair(ellipse(w * out, y + h * 0.78, ear * 0.55, ear * 0.55), "light", True)
    f.add(ellipse(0, y, w, h), "body")
    f.add(ellipse(0, y - 0.09, u(0.1, 0.14), 0.095), "light", True)
    f.face(0, y + 0.06, w * u(0.4, 0.48), u(0.05, 0.06))
    f.add(ellipse(0, y - 0.045, 0.055, 0.038), INK, True)
    f.smile(0, y - 0.105, 0.12)
    f.hat, f.neck, f.belly = (0, y + h * 0.92, 0.24), (0, 0.46, 0.4), (0, 0.22, 0.12)
    return f


def bird(u: Uniform) -> Figure:
    """Seen from the side: beak, wing, tail feathers, thin legs."""
    f = Figure()
    fat = u(0.27, 0.32)
    lift, spread = u(0.05, 0.2), u(0.06, 0.11)
    f.add(
        polygon(
            (-0.2, 0.44), (-0.55, 0.42 + lift + spread), (-0.6, 0.38 + lift - spread), (-0.2, 0.28)
        ),
        "dark",
    )
    for x in (-0.08, 0.08):
        f.add(limb((x, 0.2), (x, 0.02), (x + 0.08, 0.01), start=0.035, end=0.035), BEAK)
    head = u(0.2, 0.24)
    tuft = u(0, 1)
    if tuft < 0.5:
        f.add(
            limb((0.12, 0.85), (0.06, 0.99), (-0.04, 0.95 + tuft * 0.1), start=0.07, end=0.03),
            "dark",
        )
    beak = u(0.14, 0.22)
    f.add(
        blob(
            (-0.32, 0.36),
            (-0.1, 0.14),
            (0.18, 0.16),
            (fat, 0.38),
            (0.14 + head, 0.68),
            (0.14, 0.68 + head),
            (0.12 - head, 0.64),
            (-0.16, 0.5),
        ),
        "body",
    )
    f.add(ellipse(-0.06, 0.35, u(0.15, 0.2), 0.11, u(0.1, 0.5)), "dark")
    y = 0.68
    f.add(
        polygon(
            (0.14 + head * 0.82, y + 0.05),
            (0.14 + head + beak, y - 0.04),
            (0.14 + head * 0.82, y - 0.12),
        ),
        BEAK,
    )
    f.face(0.17, y + 0.06, 0.095, u(0.058, 0.07))
    f.hat, f.neck, f.belly = (0.1, 0.66 + head, 0.24), (0.1, 0.46, 0.42), (0.12, 0.3, 0.1)
    return f


def fish(u: Uniform) -> Figure:
    """Seen from the side: tail fin, back fin."""
    f = Figure()
    y, w, h = 0.36, u(0.37, 0.43), u(0.25, 0.32)
    tail, fork = u(0.2, 0.28), u(0.04, 0.12)
    f.add(
        polygon((-w * 0.75, y), (-w - 0.2, y + tail), (-w - 0.2 + fork, y), (-w - 0.2, y - tail)),
        "dark",
    )
    fin, back = u(0.1, 0.2), u(-0.22, -0.05)
    f.add(blob((0.16, y + h * 0.8), (back, y + h + fin), (-0.24, y + h * 0.7)), "dark")
    f.add(blob((0.06, y - h * 0.8), (-0.1, y - h - 0.1), (-0.16, y - h * 0.8)), "dark")
    f.add(ellipse(0, y, w, h), "body")
    f.add(polygon((-0.02, y - 0.02), (-0.2, y + 0.05), (-0.17, y - 0.13)), "dark")
    f.face(0.2, y + 0.07, 0.1, u(0.065, 0.08))
    f.smile(0.24, y - 0.09, u(0.1, 0.16))
    f.hat, f.neck, f.belly = (
        (0.1, y + h * 0.93, 0.24),
        (0.05, y - h * 0.72, 0.32),
        (-0.08, y - 0.05, 0.1),
    )
    return f


def frog(u: Uniform) -> Figure:
    """Eyes on top, a wide mouth, folded legs."""
    f = Figure()
    w = u(0.34, 0.4)
    f.pair(ellipse(w * 0.85, 0.16, 0.15, 0.17, 0.4), "dark")
    f.pair(ellipse(w * 0.95, 0.03, 0.17, 0.045), "plain")
    f.add(ellipse(0, 0.2, w * 0.78, 0.21), "body")
    f.add(ellipse(0, 0.14, w * 0.45, 0.13), "light", True)
    f.pair(limb((0.14, 0.2), (0.15, 0.04), start=0.09, end=0.1), "body")
    y, out = 0.47, u(0.5, 0.62)
    bulge, eye = u(0.12, 0.15), u(0.075, 0.09)
    f.pair(ellipse(w * out, y + 0.17, bulge, bulge), "body")
    f.add(ellipse(0, y, w, u(0.19, 0.22)), "body")
    f.face(0, y + 0.18, w * out, eye)
    wide = w * u(0.9, 1.2)
    f.smile(0, y + 0.0, wide)
    f.pair(ellipse(w * 0.72, y - 0.02, 0.05, 0.035), ROSE, True)
    f.hat, f.neck, f.belly = (0, y + 0.19, 0.24), (0, 0.27, 0.4), (0, 0.14, 0.1)
    return f


def penguin(u: Uniform) -> Figure:
    """Upright, white front, flippers, orange feet."""
    f = Figure()
    w = u(0.27, 0.34)
    f.pair(ellipse(0.12, 0.025, 0.13, 0.045), BEAK)
    lift, long = u(0.15, 0.8), u(0.17, 0.23)
    f.pair(ellipse(w + 0.03, 0.42, 0.07, long, lift), "dark")
    f.add(
        blob(
            (-w * 0.72, 0.74),
            (-w, 0.3),
            (-w * 0.6, 0.03),
            (w * 0.6, 0.03),
            (w, 0.3),
            (w * 0.72, 0.74),
            (w * 0.4, 0.94),
            (-w * 0.4, 0.94),
        ),
        "body",
    )
    f.add(ellipse(0, 0.29, w * 0.68, 0.25), WHITE)
    f.pair(ellipse(w * 0.33, 0.74, w * 0.36, 0.13), WHITE, True)
    f.face(0, 0.75, w * u(0.34, 0.4), u(0.05, 0.062))
    beak = u(0.06, 0.085)
    f.add(polygon((-beak, 0.69), (beak, 0.69), (0, 0.69 - beak * 1.4)), BEAK)
    f.hat, f.neck, f.belly = (0, 0.95, 0.24), (0, 0.53, w * 1.75), (0, 0.27, 0.12)
    return f


def robot(u: Uniform) -> Figure:
    """Boxes, an antenna, grey arms and legs."""
    f = Figure()
    w, head = u(0.2, 0.26), u(0.2, 0.28)
    metal = (170, 178, 188)
    f.pair(box(0.05, 0.0, 0.17, 0.2), metal)
    f.pair(box(0.03, 0.0, 0.2, 0.07), "dark")
    arm = u(-0.12, 0.12)
    f.pair(limb((w, 0.44), (w + 0.14, 0.34 + arm), start=0.08, end=0.08), metal)
    f.pair(ellipse(w + 0.16, 0.32 + arm * 1.1, 0.065, 0.065), "dark")
    f.add(box(-0.06, 0.5, 0.06, 0.6), metal)
    f.add(box(-w, 0.16, w, 0.54, 0.04), "body")
    tall = u(0.82, 0.87)
    f.add(limb((0, tall - 0.02), (0, 0.97), start=0.03, end=0.03), metal)
    f.add(ellipse(0, 0.98, 0.045, 0.045), (240, 70, 70))
    f.pair(box(head - 0.02, 0.65, head + 0.06, 0.77, 0.02), metal)
    f.add(box(-head, 0.56, head, tall, u(0.03, 0.08)), "body")
    f.face(0, 0.73, head * 0.46, u(0.055, 0.07))
    f.add(box(-0.1, 0.595, 0.1, 0.635), WHITE)
    f.add(box(-0.035, 0.595, -0.02, 0.635), INK, True)
    f.add(box(0.02, 0.595, 0.035, 0.635), INK, True)
    if u(0, 1) < 0.5:
        f.add(box(-0.11, 0.24, 0.11, 0.38, 0.02), "light")
        for x, lamp in ((-0.055, (236, 70, 70)), (0.055, (90, 200, 90))):
            f.add(ellipse(x, 0.31, 0.03, 0.03), lamp, True)
    else:
        f.add(ellipse(0, 0.31, 0.085, 0.085), "light")
        f.add(limb((0, 0.31), (0.04, 0.35), start=0.025, end=0.02), INK, True)
    f.hat, f.neck, f.belly = (0, tall, 0.24), (0, 0.5, 0.34), (0, 0.29, 0.11)
    return f


def mug(u: Uniform) -> Figure:
    """A cylinder with a handle."""
    f = Figure()
    w, top, taper = u(0.27, 0.33), u(0.66, 0.78), u(-0.05, 0.05)
    grip = u(0.13, 0.19)
    f.add(ellipse(w + 0.06, top * 0.5, grip, grip * 1.25), "dark")
    f.add(ellipse(w + 0.06, top * 0.5, grip - 0.08, grip * 1.25 - 0.085), "hole")
    f.add(
        blob(
            (-w, top),
            (-w + taper, top * 0.5),
            (-w + taper + 0.03, 0.06),
            (-w * 0.5, 0.0),
            (w * 0.5, 0),
            (w - taper - 0.03, 0.06),
            (w - taper, top * 0.5),
            (w, top),
        ),
        "body",
    )
    f.add(ellipse(0, top, w, 0.08), "light")
    f.add(ellipse(0, top - 0.01, w * 0.82, 0.055), (104, 62, 40), True)
    f.face(0, top * 0.62, w * u(0.4, 0.5), u(0.065, 0.08), u(0.12, 0.2))
    f.hat, f.neck, f.belly = (0, top + 0.03, 0.24), (0, 0.12, w * 1.8), (0, 0.14, 0.09)
    return f


def teapot(u: Uniform) -> Figure:
    """Round, with spout, handle and lid."""
    f = Figure()
    w, h, y = u(0.3, 0.35), u(0.27, 0.31), 0.33
    f.add(ellipse(-w - 0.05, y + 0.03, 0.17, u(0.17, 0.22)), "dark")
    f.add(ellipse(-w - 0.05, y + 0.03, 0.095, 0.115), "hole")
    rise, reach = u(0.5, 0.64), u(0.16, 0.24)
    f.add(limb((w * 0.6, y - 0.12), (w + 0.08, y), (w + reach, rise), start=0.2, end=0.085), "dark")
    f.add(box(-0.17, 0, 0.17, 0.07), "dark")
    f.add(ellipse(0, y, w, h), "body")
    lid = u(0.05, 0.1)
    f.add(ellipse(0, y + h * 0.92, w * 0.62, lid), "light")
    f.add(ellipse(0, y + h + lid + 0.02, u(0.05, 0.075), 0.055), "dark")
    f.face(0, y + 0.06, w * u(0.36, 0.44), u(0.065, 0.08), u(0.12, 0.18))
    f.hat, f.neck, f.belly = (0, y + h + lid * 0.9, 0.24), (0, 0.14, w * 1.5), (0, 0.14, 0.08)
    return f


def car(u: Uniform) -> Figure:
    """Seen from the side, eyes in the windows."""
    f = Figure()
    w, deck, roof = u(0.46, 0.53), u(0.32, 0.37), u(0.62, 0.72)
    rear, front = u(-0.42, -0.34), u(0.28, 0.4)
    f.add(
        polygon(
            (rear - 0.04, deck - 0.03),
            (rear + u(0.04, 0.12), roof),
            (front - u(0.12, 0.2), roof),
            (front + 0.04, deck - 0.03),
        ),
        "plain",
    )
    f.add(box(-w, 0.1, w, deck + 0.04, u(0.06, 0.12)), "body")
    f.add(box(w - 0.06, deck - 0.14, w + 0.03, deck - 0.05, 0.03), (255, 226, 120))
    f.add(box(-w - 0.02, deck - 0.13, -w + 0.05, deck - 0.05, 0.02), (226, 60, 60))
    low, high = deck + 0.04, roof - 0.05
    f.add(polygon((rear + 0.07, low), (rear + 0.14, high), (-0.03, high), (-0.03, low)), GLASS)
    f.add(polygon((0.03, low), (0.03, high), (front - 0.2, high), (front - 0.06, low)), GLASS)
    r = u(0.115, 0.145)
    for x in (-w * 0.58, w * 0.58):
        f.add(ellipse(x, r * 0.95, r, r), (48, 46, 54))
        f.add(ellipse(x, r * 0.95, r * 0.48, r * 0.48), (206, 210, 216), True)
    f.face((rear + front) / 2 + 0.02, (low + high) / 2, 0.13, u(0.068, 0.08))
    f.smile(0.0, deck - 0.07, 0.17)
    f.hat, f.neck, f.belly = ((rear + front) / 2, roof, 0.26), (0, 0.14, 0.4), (0, 0.2, 0.08)
    return f


def house(u: Uniform) -> Figure:
    """A roof, a chimney, a door."""
    f = Figure()
    w, wall, peak = u(0.29, 0.37), u(0.5, 0.58), u(0.86, 0.98)
    side = 1 if u(0, 1) < 0.5 else -1
    f.add(box(side * w * 0.62 - 0.06, wall, side * w * 0.62 + 0.06, u(0.8, 0.92)), (176, 96, 76))
    f.add(box(-w, 0, w, wall + 0.04), "body")
    over = u(0.06, 0.12)
    f.add(polygon((-w - over, wall), (0, peak), (w + over, wall)), "dark")
    tall, half = u(0.17, 0.22), u(0.075, 0.1)
    f.add(box(-half, 0, half, tall), (150, 96, 58))
    f.add(ellipse(half * 0.5, tall * 0.5, 0.018, 0.018), (250, 214, 90), True)
    f.face(0, wall - 0.12, w * u(0.45, 0.55), u(0.07, 0.085))
    f.smile(0, tall + 0.075, 0.14)
    f.hat, f.neck, f.belly = (0, peak - 0.03, 0.22), (0, 0.13, w * 1.85), (0, wall + 0.13, 0.09)
    return f


def boat(u: Uniform) -> Figure:
    """A hull, a mast, two sails."""
    f = Figure()
    w, deck = u(0.44, 0.52), u(0.34, 0.38)
    mast, top = u(-0.1, 0.06), u(0.9, 1.0)
    f.add(box(mast - 0.022, deck, mast + 0.022, top), (140, 94, 60))
    sail, jib = u(0.3, 0.4), u(0.2, 0.3)
    f.add(
        polygon((mast + 0.04, deck + 0.07), (mast + 0.04, top - 0.04), (mast + sail, deck + 0.07)),
        WHITE,
    )
    f.add(
        polygon((mast - 0.04, deck + 0.07), (mast - 0.04, top - 0.14), (mast - jib, deck + 0.07)),
        "light",
    )
    f.add(polygon((mast, top), (mast, top + 0.07), (mast + 0.13, top + 0.035)), "dark")
    slope = u(0.1, 0.2)
    f.add(
        blob(
            (-w, deck),
            (-w + slope * 0.6, deck * 0.45),
            (-w + slope * 1.4, 0.02),
            (0, 0),
            (w - slope * 1.4, 0.02),
            (w - slope * 0.5, deck * 0.45),
            (w, deck),
            (0, deck - 0.02),
        ),
        "body",
    )
    f.add(box(-w, deck - 0.03, w, deck + 0.03, 0.025), "dark")
    f.face(0.02, deck * 0.56, 0.12, u(0.065, 0.078))
    f.smile(0.02, deck * 0.56 - 0.11, 0.13)
    f.hat, f.neck, f.belly = (
        (mast, top - 0.02, 0.22),
        (0.02, 0.05, 0.34),
        (-0.24, deck * 0.45, 0.07),
    )
    return f


def flower(u: Uniform) -> Figure:
    """Petals around a face, a stem with leaves."""
    f = Figure()
    bend = u(-0.08, 0.08)
    f.add(limb((0, 0), (bend, 0.2), (0, 0.5), start=0.06, end=0.05), LEAF)
    for side in (-1, 1):
        leaf = u(0.12, 0.17)
        f.add(ellipse(side * 0.15, u(0.1, 0.2), leaf, 0.06, side * u(0.3, 0.8)), LEAF)
    y, count = 0.66, int(u(5, 8))
    reach, core, turn = u(0.2, 0.23), u(0.165, 0.19), u(0, 1)
    wide = min(0.17, np.pi * (reach + 0.06) / count * u(0.85, 1.15))
    for i in range(count):
        angle = 2 * np.pi * (i + turn) / count
        at = (np.cos(angle) * reach, y + np.sin(angle) * reach)
        f.add(ellipse(*at, 0.14, wide, angle), "body")
    f.add(ellipse(0, y, core, core), (252, 206, 74))
    f.face(0, y + 0.035, 0.075, u(0.05, 0.06), 0.1)
    f.hat, f.neck, f.belly = (0, y + reach + 0.08, 0.22), (0, 0.36, 0.26), (0, 0.3, 0.05)
    return f


def mushroom(u: Uniform) -> Figure:
    """A wide cap on a stem with a face."""
    f = Figure()
    w, rim, top = u(0.36, 0.46), u(0.44, 0.5), u(0.85, 0.96)
    foot, neck = u(0.17, 0.23), u(0.13, 0.17)
    f.add(
        blob(
            (-neck, rim), (-foot, 0.1), (-foot * 0.7, 0), (foot * 0.7, 0), (foot, 0.1), (neck, rim)
        ),
        CREAM,
    )
    point = u(0.35, 0.7)
    cap = [(-w, rim), (-w * 0.9, rim + 0.16), (-w * point, top - 0.06), (0, top)]
    f.add(
        blob(
            *cap, *[(-x, y) for x, y in cap[2::-1]], (w * 0.5, rim - 0.05), (-w * 0.5, rim - 0.05)
        ),
        "body",
    )
    f.face(0, 0.29, 0.085, u(0.055, 0.065), 0.12)
    f.hat, f.neck, f.belly = (0, top - 0.03, 0.24), (0, 0.13, foot * 1.9), (0, rim + 0.17, 0.1)
    return f


def owl(u: Uniform) -> Figure:
    """Ear tufts, large eye discs, wings."""
    f = Figure()
    w = u(0.29, 0.34)
    f.pair(ellipse(0.11, 0.02, 0.08, 0.04), BEAK)
    tuft = u(0.1, 0.17)
    f.add(
        blob(
            (-w * 0.95, 0.76),
            (-w, 0.3),
            (-w * 0.6, 0.03),
            (w * 0.6, 0.03),
            (w, 0.3),
            (w * 0.95, 0.76),
            (w * 0.5, 0.88),
            (-w * 0.5, 0.88),
        ),
        "body",
    )
    f.pair(polygon((w * 0.98, 0.72), (w * 1.05, 0.88 + tuft), (w * 0.3, 0.87)), "dark")
    f.pair(ellipse(w * 0.98, 0.34, 0.09, 0.24, 0.15), "dark")
    f.add(ellipse(0, 0.27, w * 0.6, 0.21), "light", True)
    for y in (0.36, 0.26, 0.16):
        for x in (-0.09, 0, 0.09):
            f.add(polygon((x - 0.035, y), (x + 0.035, y), (x, y - 0.05)), "dark", True)
    disc = u(0.14, 0.16)
    f.pair(ellipse(w * 0.43, 0.68, disc, disc), "light")
    f.face(0, 0.68, w * 0.43, disc * 0.66)
    f.add(polygon((-0.05, 0.63), (0.05, 0.63), (0, 0.53)), BEAK)
    f.hat, f.neck, f.belly = (0, 0.9, 0.24), (0, 0.49, w * 1.7), (0, 0.25, 0.12)
    return f


def elephant(u: Uniform) -> Figure:
    """Large ears and a trunk."""
    f = Figure()
    f.add(ellipse(0, 0.24, 0.27, 0.25), "body")
    f.pair(box(0.06, 0, 0.25, 0.16, 0.05), "body")
    for x in (-0.2, -0.11, 0.11, 0.2):
        f.add(ellipse(x, 0.025, 0.03, 0.022), WHITE, True)
    y, ear = 0.68, u(0.2, 0.25)
    f.pair(ellipse(0.32, y + 0.02, ear * 0.86, ear, 0.2), "dark")
    f.pair(ellipse(0.33, y + 0.01, ear * 0.55, ear * 0.66, 0.2), ROSE, True)
    f.add(ellipse(0, y, 0.25, 0.25), "body")
    side = u(0.14, 0.24)
    f.add(
        limb(
            (0, y - 0.02),
            (0.0, y - 0.24),
            (side * 0.5, y - 0.38),
            (side, y - 0.3),
            start=0.15,
            end=0.085,
        ),
        "plain",
    )
    f.face(0, y + 0.08, 0.13, 0.065)
    f.hat, f.neck, f.belly = (0, y + 0.22, 0.24), (0, 0.42, 0.36), (0, 0.2, 0.1)
    return f


def snail(u: Uniform) -> Figure:
    """A spiral shell, eyes on stalks."""
    f = Figure()
    for x in (0.27, 0.45):
        f.add(limb((0.36, 0.45), (x, 0.7), start=0.06, end=0.05), CREAM)
    f.add(limb((-0.5, 0.05), (0.1, 0.07), (0.33, 0.12), (0.36, 0.42), start=0.09, end=0.22), CREAM)
    r = u(0.29, 0.33)
    f.add(ellipse(-0.12, 0.06 + r, r, r), "body")
    turns = np.linspace(0, u(3.6, 4.4) * np.pi, 22)
    spiral = [
        (-0.12 + np.cos(t) * r * (0.84 - t / 18), 0.06 + r + np.sin(t) * r * (0.84 - t / 18))
        for t in turns
    ]
    f.add(limb(*spiral, start=0.045, end=0.04), "dark", True)
    f.face(0.36, 0.74, 0.1, 0.085)
    f.smile(0.37, 0.4, 0.13)
    f.hat, f.neck, f.belly = (
        (-0.12, 0.04 + 2 * r, 0.24),
        (0.35, 0.25, 0.26),
        (-0.12, 0.06 + r, 0.08),
    )
    return f


def rocket(u: Uniform) -> Figure:
    """A pointed hull with fins and a window."""
    f = Figure()
    w = u(0.19, 0.23)
    f.add(blob((-0.1, 0.14), (-0.07, 0.04), (0, -0.03), (0.07, 0.04), (0.1, 0.14)), (255, 150, 40))
    f.add(blob((-0.05, 0.14), (0, 0.03), (0.05, 0.14)), (255, 226, 90), True)
    fin = u(0.16, 0.22)
    f.pair(blob((w * 0.8, 0.4), (w + fin, 0.2), (w + fin, 0.06), (w * 0.6, 0.17)), "dark")
    f.add(
        blob(
            (-w * 0.7, 0.14),
            (-w, 0.4),
            (-w * 0.78, 0.7),
            (0, 1.02),
            (w * 0.78, 0.7),
            (w, 0.4),
            (w * 0.7, 0.14),
        ),
        "body",
    )
    f.add(blob((-w * 0.66, 0.77), (0, 1.02), (w * 0.66, 0.77), (0, 0.73)), "dark")
    f.add(ellipse(0, 0.54, w * 0.78, w * 0.78), GLASS)
    f.face(0, 0.56, 0.075, 0.055, 0.1)
    f.hat, f.neck, f.belly = (0, 0.95, 0.2), (0, 0.3, w * 2), (0, 0.26, 0.08)
    return f


FIGURES: dict[str, Callable[[Uniform], Figure]] = {
    "cat": cat, "dog": dog, "rabbit": rabbit, "bear": bear, "bird": bird, "fish": fish,
    "frog": frog, "penguin": penguin, "robot": robot, "mug": mug, "teapot": teapot, "car": car,
    "house": house, "boat": boat, "flower": flower, "mushroom": mushroom,
    "owl": owl, "elephant": elephant, "snail": snail, "rocket": rocket,
}  # fmt: skip
