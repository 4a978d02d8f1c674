"""The styles: how the same scene is laid down, and what is done to the picture afterwards."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from .canvas import Look
from .vocabulary import RGB, luminance, mix

PAPER: RGB = (250, 247, 238)
BLUEPRINT: RGB = (24, 70, 150)
CHALK: RGB = (226, 238, 252)


def grey(colour: RGB, near: bool) -> RGB:
    """Pencil tone: paper where the colour is light, soft grey where it is dark."""
    tone = (
        round(150 + 100 * luminance(colour) ** 0.8) if near else round(212 + 38 * luminance(colour))
    )
    return (tone, tone, tone - 4)


def pencil_detail(colour: RGB, near: bool) -> RGB:
    """Pencil tone of a detail: much darker on the figure than in the place."""
    tone = round((50 if near else 170) + (200 if near else 80) * luminance(colour))
    return (tone, tone, tone)


@lru_cache(maxsize=4)
def noise(size: int, grain: int) -> np.ndarray:
    """Smooth noise [2 * size, 2 * size] with mean 0 and std 1; features of `grain` / 128 frame."""
    cells = max(2, 2 * 128 // grain)
    raw = np.random.default_rng(grain).normal(size=(cells, cells)).astype(np.float32)
    smooth = Image.fromarray(raw).resize((2 * size, 2 * size), Image.Resampling.BICUBIC)
    field = np.asarray(smooth)
    return (field - field.mean()) / field.std()


def noise_at(size: int, grain: int, seed: int) -> np.ndarray:
    """A window [size, size] of the noise, chosen by the seed."""
    y, x = seed % size, seed // size % size
    return noise(size, grain)[y : y + size, x : x + size]


def from_float(values: np.ndarray) -> Image.Image:
    """[h, w, 3] in 0..255 to a picture."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def finish_sketch(image: Image.Image, seed: int) -> Image.Image:
    """Pencil hatching in the darker areas, on grained paper."""
    size = image.width
    values = np.asarray(image, dtype=np.float32)
    y, x = np.mgrid[0:size, 0:size] * (128 / size)
    hatch = (
        np.sin((x + y) * 1.5 + noise_at(size, 8, seed)) * np.clip(244 - values[..., 0], 0, 70) * 0.2
    )
    return from_float(values + (hatch + noise_at(size, 2, seed) * 3)[..., None])


@lru_cache(maxsize=2)
def border(size: int) -> np.ndarray:
    """Distance to the frame's nearest edge [size, size], in units of 1 / 128."""
    near = np.minimum(np.arange(size), np.arange(size)[::-1]) * (128 / size)
    return np.minimum(near[:, None], near[None, :]).astype(np.float32)


def finish_watercolour(image: Image.Image, seed: int) -> Image.Image:
    """Soft areas with darker rims, uneven washes, grained paper left white at the border."""
    size = image.width
    soft = image.filter(ImageFilter.GaussianBlur(0.9 * size / 128))
    wide = soft.filter(ImageFilter.BoxBlur(3 * size / 128))
    rim = np.asarray(soft, dtype=np.float32) - np.asarray(wide, dtype=np.float32)
    values = np.asarray(soft, dtype=np.float32) + np.minimum(rim, 0) * 0.55
    wash = 0.10 * noise_at(size, 16, seed) + 0.035 * noise_at(size, 2, seed)
    edge = border(size) - 6 - 2.5 * noise_at(size, 8, seed // 7)
    strength = np.clip(edge / 4, 0, 1) * np.clip(0.86 + wash, 0, 1)
    paper = np.array(PAPER, dtype=np.float32)
    return from_float(paper + (values - paper) * strength[..., None])


def glow_colour(colour: RGB, near: bool) -> RGB:
    """The colour of a neon tube: bright and saturated whatever the paint was."""
    low, high = min(colour), max(colour)
    if high - low < 40:
        tone = round(120 + 130 * luminance(colour))
        vivid = (tone, tone, min(255, tone + 14))
    else:
        red, green, blue = (round(40 + 215 * (value - low) / (high - low)) for value in colour)
        vivid = (red, green, blue)
    return vivid if near else mix(vivid, (40, 30, 110), 0.55)


def neon_detail(colour: RGB, near: bool) -> RGB:
    """Dark details light up on the figure; others glow at half strength."""
    if luminance(colour) < 0.2:
        return (250, 250, 255) if near else (16, 12, 34)
    return mix(glow_colour(colour, near), (14, 8, 30), 0.45)


def finish_neon(image: Image.Image, seed: int) -> Image.Image:
    """A glow around the tubes."""
    del seed
    unit = image.width / 128
    glow = image.filter(ImageFilter.BoxBlur(2 * unit)).filter(ImageFilter.BoxBlur(2 * unit))
    glow = ImageChops.multiply(glow, Image.new("RGB", image.size, (215, 215, 215)))
    return ImageChops.screen(image, glow)


def finish_pixel_art(image: Image.Image, seed: int) -> Image.Image:
    """Thirty-two pixels a side and twenty-four colours."""
    del seed
    small = image.resize((32, 32), Image.Resampling.BOX)
    small = (
        small.filter(ImageFilter.UnsharpMask(0.6, 50, 0))
        .quantize(24, Image.Quantize.MAXCOVERAGE)
        .convert("RGB")
    )
    return small.resize(image.size, Image.Resampling.NEAREST)


def finish_blueprint(image: Image.Image, seed: int) -> Image.Image:
    """A drafting grid over the paper."""
    del seed
    size = image.width
    values = np.asarray(image, dtype=np.float32).copy()
    step = max(2, size // 16)
    values[::step] += 26
    values[:, ::step] += 26
    return from_float(values)


def finish_stained_glass(image: Image.Image, seed: int) -> Image.Image:
    """Panes of uneven brightness with lead between them."""
    size = image.width
    rng = np.random.default_rng(seed)
    sites = rng.random((44, 2)) * size
    y, x = np.mgrid[0:size, 0:size]
    squared = (x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2
    first, second = np.moveaxis(np.argpartition(squared, (0, 1), axis=-1)[..., :2], -1, 0)
    gap = np.take_along_axis(squared, second[..., None], -1)[..., 0] - squared.min(axis=-1)
    to_border = gap / (2 * np.linalg.norm(sites[first] - sites[second], axis=-1) + 1e-6)
    lead = np.clip(to_border / (size / 128) - 0.5, 0, 1)
    pane = rng.uniform(0.8, 1.25, 44)[first]
    values = np.asarray(image, dtype=np.float32)
    centred = values - values.mean(axis=-1, keepdims=True)
    values = (values + 0.5 * centred) * pane[..., None]
    return from_float(values * lead[..., None] + np.array((24, 20, 26)) * (1 - lead[..., None]))


def finish_halftone(image: Image.Image, seed: int) -> Image.Image:
    """Print dots in dark blue ink on cream, red where the picture is warm."""
    del seed
    size = image.width
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(size / 128)), dtype=np.float32) / 255
    ink = 1 - np.asarray(image.convert("L"), dtype=np.float32) / 255
    y, x = np.mgrid[0:size, 0:size] * (128 / size)

    def dots(angle: float) -> np.ndarray:
        """A rotated screen of dots, 4.6 px apart, values in 0..1."""
        c, s = np.cos(angle), np.sin(angle)
        k = 2 * np.pi / 4.6
        return 0.5 + 0.25 * (np.cos((c * x + s * y) * k) + np.cos((c * y - s * x) * k))

    dark = 1 - soft @ np.array((0.5, 0.4, 0.1), dtype=np.float32)
    warm = np.clip(1 - (soft[..., 1] * 0.6 + soft[..., 2] * 0.4), 0, 1)
    red = np.clip((warm * 0.7 - dots(0.3)) * 7 + 0.5, 0, 1)[..., None]
    blue = np.clip((dark * 0.62 - dots(1.1)) * 7 + 0.5, 0, 1)
    blue = np.maximum(blue, np.clip((ink - 0.66) * 8, 0, 1))[..., None]
    page = np.array((252, 244, 224), dtype=np.float32)
    page = page * (1 - red * (1 - np.array((244, 92, 84)) / 255))
    return from_float(page * (1 - blue * (1 - np.array((34, 62, 122)) / 255)))


LOOKS: dict[str, Look] = {
    "cartoon": Look(),
    "sketch": Look(
        fill=grey,
        line=lambda colour, near: (74, 74, 78) if near else (158, 158, 160),
        detail=pencil_detail,
        line_width=0.009,
        shaded=False,
        finish=finish_sketch,
    ),
    "watercolour": Look(
        fill=lambda colour, near: mix(colour, PAPER, 0.12 if near else 0.42),
        line=lambda colour, near: None,
        detail=lambda colour, near: mix(colour, PAPER, 0.08 if near else 0.42),
        finish=finish_watercolour,
    ),
    "neon": Look(
        fill=lambda colour, near: mix(
            (12, 8, 28), glow_colour(colour, near), 0.1 if near else 0.05
        ),
        line=glow_colour,
        detail=neon_detail,
        line_width=0.011,
        shaded=False,
        finish=finish_neon,
    ),
    "pixel art": Look(finish=finish_pixel_art),
    "blueprint": Look(
        fill=lambda colour, near: mix(BLUEPRINT, CHALK, 0.1 if near else 0.0),
        line=lambda colour, near: CHALK if near else mix(BLUEPRINT, CHALK, 0.5),
        detail=lambda colour, near: CHALK if near else mix(BLUEPRINT, CHALK, 0.3),
        line_width=0.008,
        shaded=False,
        finish=finish_blueprint,
    ),
    "stained glass": Look(
        line=lambda colour, near: (24, 20, 26),
        line_width=0.016,
        finish=finish_stained_glass,
    ),
    "halftone": Look(
        line=lambda colour, near: (20, 24, 60) if near else None, finish=finish_halftone
    ),
}
