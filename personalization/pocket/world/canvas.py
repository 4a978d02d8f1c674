"""A supersampled canvas in frame coordinates, and the outlines that are drawn on it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .vocabulary import RGB, mix

SUPERSAMPLING = 2
TURN = np.linspace(0, 2 * np.pi, 37)[:-1]
CIRCLE = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)  # [36, 2]


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> np.ndarray:
    """Outline of an ellipse, [36, 2]; the angle in radians."""
    points = CIRCLE * (rx, ry)
    if angle:
        c, s = np.cos(angle), np.sin(angle)
        points = points @ np.array([[c, s], [-s, c]])
    return points + np.array((x, y))


def polygon(*points: tuple[float, float]) -> np.ndarray:
    """Outline with straight sides, [n, 2]."""
    return np.array(points, dtype=float)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> np.ndarray:
    """Outline of a rectangle with rounded corners."""
    if not radius:
        return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    half = ((x1 - x0) / 2 - radius, (y1 - y0) / 2 - radius)
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    return CIRCLE * radius + np.where(CIRCLE >= -1e-9, 1, -1) * half + centre


def blob(*points: tuple[float, float], closed: bool = True) -> np.ndarray:
    """Smooth outline through the points (Catmull-Rom, 6 steps a side)."""
    p = np.array(points, dtype=float)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, 7)[:-1, None, None]
    a, b, c, d = p[None, :-3], p[None, 1:-2], p[None, 2:-1], p[None, 3:]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def limb(*points: tuple[float, float], start: float, end: float) -> np.ndarray:
    """Outline of a smooth stroke with round ends; widths at its start and its end."""
    line = blob(*points, closed=False) if len(points) > 2 else polygon(*points)
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    along /= np.sqrt((along**2).sum(axis=1, keepdims=True)) + 1e-9
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    half = np.linspace(start, end, len(line))[:, None] / 2
    caps = np.array([0.5, 0.866])[:, None]
    lifts = np.array([0.866, 0.5])[:, None]

    def cap(i: int, way: int) -> np.ndarray:
        """Round end at point i: from one side over the tip to the other."""
        one = line[i] + half[i] * (lifts * across[i] * way + caps * along[i] * way)
        tip = line[i] + half[i] * along[i] * way
        other = line[i] + half[i] * (-lifts * across[i] * way + caps * along[i] * way)
        return np.concatenate([one, tip[None], other[::-1]])

    left, right = line + across * half, line - across * half
    return np.concatenate([left, cap(-1, 1), right[::-1], cap(0, -1)])


@dataclass(frozen=True)
class Look:
    """How a style lays down fills, outlines and details, and what it does with the result.

    `near` is true for the figure, false for the place. An outline of None is left out.
    """

    fill: Callable[[RGB, bool], RGB] = lambda colour, near: colour
    line: Callable[[RGB, bool], RGB | None] = lambda colour, near: (
        mix(colour, (24, 16, 32), 0.62) if near else None
    )
    detail: Callable[[RGB, bool], RGB] = lambda colour, near: colour
    line_width: float = 0.012
    shaded: bool = True
    finish: Callable[[Image.Image, int], Image.Image] = lambda image, seed: image


class Canvas:
    """Draws outlines given in frame coordinates: (0, 0) top left, (1, 1) bottom right."""

    def __init__(self, look: Look, size: int, ground: RGB = (255, 255, 255)):
        """An empty canvas for a picture of `size` x `size` pixels."""
        self.look = look
        self.size = size
        self.pixels = size * SUPERSAMPLING
        self.image = Image.new("RGB", (self.pixels, self.pixels), ground)
        self.pen = ImageDraw.Draw(self.image)

    def shape(
        self,
        points: np.ndarray,
        colour: RGB,
        *,
        near: bool = False,
        detail: bool = False,
        texture: Image.Image | None = None,
    ) -> None:
        """Fill an outline [n, 2]; details get no line around them; a texture replaces the fill."""
        corners = (points * self.pixels).ravel().tolist()
        if detail:
            self.pen.polygon(corners, fill=self.look.detail(colour, near))
            return
        line = self.look.line(colour, near)
        if line is not None:
            width = self.look.line_width * self.pixels * (1 if near else 0.7)
            self.pen.line(corners + corners[:4], fill=line, width=round(2 * width))
            if len(points) < 12:
                for x, y in zip(corners[::2], corners[1::2], strict=True):
                    self.pen.ellipse((x - width, y - width, x + width, y + width), fill=line)
        if texture is None:
            self.pen.polygon(corners, fill=self.look.fill(colour, near))
            return
        left, top = (max(0, int(min(corners[i::2])) - 1) for i in (0, 1))
        right, bottom = (min(self.pixels, int(max(corners[i::2])) + 2) for i in (0, 1))
        area = Image.new("1", (right - left, bottom - top))
        shifted = [c - (top if i % 2 else left) for i, c in enumerate(corners)]
        ImageDraw.Draw(area).polygon(shifted, fill=1)
        self.image.paste(texture.crop((left, top, right, bottom)), (left, top), area)

    def backdrop(self, top: RGB, bottom: RGB, until: float = 1.0) -> None:
        """Fill from the top edge down to `until` with a gradient."""
        height = round(until * self.pixels)
        if not self.look.shaded or top == bottom:
            self.pen.rectangle((0, 0, self.pixels, height), fill=self.look.fill(top, False))
            return
        ends = [self.look.fill(top, False), self.look.fill(bottom, False)]
        ramp = np.linspace(ends[0], ends[1], height)[:, None]
        column = Image.fromarray(ramp.round().astype(np.uint8))
        self.image.paste(column.resize((self.pixels, height), Image.Resampling.NEAREST))

    def reduced(self) -> Image.Image:
        """The picture at the size asked for."""
        return self.image.reduce(SUPERSAMPLING)
