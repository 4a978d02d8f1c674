"""The words of the drawn world: what is known, what is held out, what lost only its word."""

RGB = tuple[int, int, int]

CLASSES = (
    "cat", "dog", "rabbit", "bear", "bird", "fish", "frog", "penguin",
    "robot", "mug", "teapot", "car", "house", "boat", "flower", "mushroom",
)  # fmt: skip
HELD_OUT_CLASSES = ("owl", "elephant", "snail", "rocket")

COLOURS: dict[str, RGB] = {
    "red": (219, 48, 48),
    "orange": (247, 140, 30),
    "yellow": (250, 212, 48),
    "green": (66, 164, 72),
    "blue": (52, 104, 220),
    "purple": (134, 74, 190),
    "pink": (246, 144, 186),
    "brown": (140, 86, 48),
    "black": (52, 50, 58),
    "white": (246, 244, 240),
    "grey": (148, 152, 160),
}
# Drawn in training with its word; the word is later removed from the tokenizer.
HELD_OUT_COLOUR_WORDS = ("teal",)
HELD_OUT_COLOUR_VALUES: dict[str, RGB] = {"teal": (18, 178, 166)}

# Backdrops of the place "plain": softer than the figures' colours of the same name.
BACKDROPS: dict[str, RGB] = {
    "white": (236, 236, 238),
    "grey": (172, 176, 182),
    "yellow": (250, 226, 140),
    "pink": (250, 198, 214),
    "blue": (158, 198, 240),
    "green": (166, 212, 160),
    "orange": (252, 192, 128),
    "purple": (196, 172, 228),
}

PATTERNS = ("plain", "spotted", "striped")
HELD_OUT_PATTERNS = ("checkered", "hearts")

ACCESSORIES = ("none", "party hat", "scarf", "glasses", "bow tie")
HELD_OUT_ACCESSORIES = ("crown",)

PLACES = ("beach", "snow", "forest", "moon", "sunset", "room", "underwater", "city", "plain")

STYLES = ("cartoon", "sketch")
HELD_OUT_STYLE_WORDS = ("watercolour", "neon")
HELD_OUT_STYLES = ("pixel art", "blueprint", "stained glass", "halftone")


def colour_value(name: str) -> RGB:
    """The figure colour of that name, those of held-out words included."""
    return COLOURS[name] if name in COLOURS else HELD_OUT_COLOUR_VALUES[name]


def mix(a: RGB, b: RGB, amount: float) -> RGB:
    """`a` moved towards `b` by `amount` in 0..1."""
    red, green, blue = (round(x + (y - x) * amount) for x, y in zip(a, b, strict=True))
    return red, green, blue


def luminance(rgb: RGB) -> float:
    """Perceived lightness in 0..1."""
    return (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255
