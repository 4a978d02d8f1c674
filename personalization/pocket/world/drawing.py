"""From a scene to a picture: the place, the figure's shadow, the figure and what it wears."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from .accessories import WEAR
from .canvas import Canvas, Look, ellipse
from .figures import FIGURES, WHITE, Figure
from .patterns import MARKS
from .places import draw_place
from .scene import Scene
from .styles import LOOKS
from .vocabulary import RGB, colour_value, luminance, mix

SILHOUETTE = Look(
    fill=lambda colour, near: WHITE,
    line=lambda colour, near: WHITE,
    detail=lambda colour, near: WHITE,
)
HEART_RED: RGB = (232, 54, 96)
SHADOWS = {"underwater": 0.0, "moon": 0.35, "snow": 0.14}


def build_figure(scene: Scene) -> Figure:
    """The individual in figure coordinates, with what it wears."""
    rng = np.random.default_rng(scene.individual)
    # One array of uniforms instead of a call per number: a tenth of the time.
    numbers = iter(rng.random(64).tolist())
    figure = FIGURES[scene.kind](lambda low, high: low + (high - low) * next(numbers))
    if scene.belly:
        x, y, radius = figure.belly
        figure.add(ellipse(x, y, radius, radius * 1.1), colour_value(scene.belly))
    if scene.accessory != "none":
        WEAR[scene.accessory](figure)
    return figure


def to_frame(scene: Scene) -> Callable[[np.ndarray], np.ndarray]:
    """The map from figure coordinates [n, 2] to frame coordinates: lean, flip, scale, place."""
    c, s = np.cos(scene.lean) * scene.scale, np.sin(scene.lean) * scene.scale
    side = -1 if scene.flip else 1
    feet = min(0.5 + 0.5 * scene.scale + 0.07, 0.94)
    turn = np.array([[c * side, s * side], [s, -c]])
    origin = np.array([scene.x, feet])
    return lambda points: points @ turn + origin


def shades(colour: RGB) -> dict[str, RGB]:
    """The figure's roles and the colours that fill them."""
    deep = luminance(colour) < 0.25
    return {
        "body": colour,
        "plain": colour,
        "dark": mix(colour, (120, 120, 132), 0.35) if deep else mix(colour, (40, 20, 40), 0.26),
        "light": mix(colour, (255, 252, 246), 0.4 if deep else 0.58),
        "mark": mix(colour, (40, 24, 40), 0.46)
        if luminance(colour) > 0.62
        else mix(colour, WHITE, 0.62),
    }


def draw_figure(canvas: Canvas, scene: Scene, behind: Image.Image) -> None:
    """Draw the figure; `behind` is the place alone, seen through the hole of a handle."""
    figure = build_figure(scene)
    roles = shades(colour_value(scene.colour))
    if scene.pattern == "hearts":
        roles["mark"] = WHITE if scene.colour in ("red", "pink", "orange") else HEART_RED
    place = to_frame(scene)
    texture = None
    if scene.pattern != "plain":
        texture = Image.new("RGB", canvas.image.size, canvas.look.fill(roles["body"], True))
        pen = ImageDraw.Draw(texture)
        pattern_rng = np.random.default_rng((scene.individual, 1))
        for mark in MARKS[scene.pattern](pattern_rng):
            corners = (place(mark) * canvas.pixels).ravel().tolist()
            pen.polygon(corners, fill=canvas.look.detail(roles["mark"], True))
    for part in figure.parts:
        points = place(part.points)
        if part.colour == "hole":
            canvas.shape(points, roles["dark"], near=True, texture=behind)
        elif part.colour == "body" and texture is not None:
            canvas.shape(points, roles["body"], near=True, texture=texture)
        else:
            colour = roles[part.colour] if isinstance(part.colour, str) else part.colour
            canvas.shape(points, colour, near=True, detail=part.detail)


def draw_shadow(canvas: Canvas, scene: Scene) -> None:
    """A darker ellipse on the ground below the figure."""
    strength = SHADOWS.get(scene.place, 0.22)
    if not canvas.look.shaded or not strength:
        return
    x, y = to_frame(scene)(np.zeros((1, 2)))[0]
    area = Image.new("L", canvas.image.size)
    corners = (ellipse(x, y, 0.42 * scene.scale, 0.055 * scene.scale) * canvas.pixels).ravel()
    ImageDraw.Draw(area).polygon(corners.tolist(), fill=round(255 * strength))
    canvas.image.paste((30, 20, 50), (0, 0, *canvas.image.size), area)


def draw(scene: Scene, size: int = 128) -> Image.Image:
    """The scene as an RGB picture of `size` x `size`; the same scene gives the same pixels."""
    look = LOOKS[scene.style]
    canvas = Canvas(look, size)
    draw_place(canvas, scene)
    draw_shadow(canvas, scene)
    draw_figure(canvas, scene, canvas.image.copy())
    return look.finish(canvas.reduced(), scene.seed)


def mask(scene: Scene, size: int = 128) -> Image.Image:
    """The silhouette of the figure and what it wears, as an "L" picture: 255 inside."""
    canvas = Canvas(replace(SILHOUETTE, line_width=LOOKS[scene.style].line_width), size, (0, 0, 0))
    draw_figure(canvas, scene, canvas.image.copy())
    return canvas.reduced().convert("L")
