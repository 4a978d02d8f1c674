"""Captions: the truth about a scene in words, some of it left out."""

import numpy as np

from .scene import Scene, pick

NOUNS = {
    "cat": ("cat", "cat", "cat", "kitten"),
    "dog": ("dog", "dog", "dog", "puppy"),
    "rabbit": ("rabbit", "rabbit", "bunny"),
    "bear": ("bear", "bear", "bear", "teddy bear"),
    "mug": ("mug", "mug", "cup"),
    "boat": ("boat", "boat", "boat", "sailing boat"),
}
PLACE_PHRASES = {
    "beach": ("on the beach", "on the beach", "at the beach", "by the sea"),
    "snow": ("in the snow", "in the snow", "in winter"),
    "forest": ("in the forest", "in the forest", "in the woods", "among trees"),
    "moon": ("on the moon", "on the moon", "in space"),
    "sunset": ("at sunset", "at sunset", "in the evening"),
    "room": ("in a room", "in a room", "indoors", "at home"),
    "underwater": ("underwater", "underwater", "under water", "under the sea"),
    "city": ("in the city", "in the city", "in a city street", "in town"),
}
BACKDROP_PHRASES = ("on a plain {} background", "on a {} background", "in front of a {} wall")
PATTERN_NOUNS = {
    "spotted": "spots",
    "striped": "stripes",
    "checkered": "checks",
    "hearts": "hearts",
}
PATTERN_ADJECTIVES = {
    "spotted": "spotted",
    "striped": "striped",
    "checkered": "checkered",
    "hearts": "heart-covered",
}
ACCESSORY_PHRASES = {
    "party hat": "a party hat",
    "scarf": "a scarf",
    "glasses": "glasses",
    "bow tie": "a bow tie",
    "crown": "a crown",
}
OPENINGS = ("a photo of {}", "a photo of {}", "a photo of {}", "{}", "{}", "a picture of {}")
# No other word may give away a style whose word is held out: nothing is left when it is removed.
STYLE_OPENINGS = {
    "cartoon": ("a cartoon of {}",),
    "sketch": ("a pencil sketch of {}", "a sketch of {}", "a pencil drawing of {}"),
    "watercolour": ("a watercolour of {}",),
}
STYLE_ENDINGS = {
    "cartoon": ("{}, cartoon", "{} in cartoon style"),
    "sketch": ("{}, pencil sketch", "{} in sketch style", "{}, sketch"),
}


def with_article(phrase: str) -> str:
    """ "a" or "an" before a phrase, by its first letter."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def place_phrases(scene: Scene) -> tuple[str, ...]:
    """The ways to say where it is, the canonical one first."""
    if scene.place == "plain":
        return tuple(phrase.format(scene.backdrop) for phrase in BACKDROP_PHRASES)
    return PLACE_PHRASES[scene.place]


def style_frames(style: str) -> tuple[str, ...]:
    """Frames with one blank that say the style of what is put in, the canonical one first."""
    openings = STYLE_OPENINGS.get(style, (f"{with_article(style)} picture of {{}}",))
    endings = STYLE_ENDINGS.get(style, (f"{{}}, {style}", f"{{}} in {style} style"))
    return openings + endings


def full_caption(scene: Scene) -> str:
    """The canonical caption, with every attribute that is not the default."""
    words = [scene.colour, PATTERN_ADJECTIVES.get(scene.pattern), scene.kind]
    phrase = with_article(" ".join(word for word in words if word))
    if scene.accessory != "none":
        phrase += f" wearing {ACCESSORY_PHRASES[scene.accessory]}"
    phrase += f" {place_phrases(scene)[0]}"
    frame = "a photo of {}" if scene.style == "cartoon" else style_frames(scene.style)[0]
    return frame.format(phrase)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random caption: a template, synonyms, some attributes dropped. Lower case.

    The class is named 97 times in 100, any style but cartoon always, so that no style leaks
    into captions without one; a sketch shows no colour and mostly does not claim one.
    """
    noun = pick(rng, NOUNS.get(scene.kind, (scene.kind,))) if rng.random() < 0.97 else "thing"
    has_colour = rng.random() < (0.3 if scene.style == "sketch" else 0.88)
    has_pattern = scene.pattern != "plain" and rng.random() < 0.85
    has_accessory = scene.accessory != "none" and rng.random() < 0.85
    has_place = rng.random() < 0.85
    accessory = ACCESSORY_PHRASES.get(scene.accessory, "")
    place = pick(rng, place_phrases(scene))
    template = rng.random()
    if template < 0.65:
        adjectives = [scene.colour] if has_colour else []
        pattern_behind = has_pattern and rng.random() < 0.25
        if has_pattern and not pattern_behind:
            adjectives.append(PATTERN_ADJECTIVES[scene.pattern])
        phrase = with_article(" ".join([*adjectives, noun]))
        if pattern_behind:
            phrase += f" with {PATTERN_NOUNS[scene.pattern]}"
        if has_accessory:
            joint = "and" if pattern_behind else pick(rng, ("wearing", "wearing", "with"))
            phrase += f" {joint} {accessory}"
        if has_place:
            phrase += f" {place}"
    else:
        pieces = [scene.colour] if has_colour else []
        if has_pattern:
            pieces.append(f"with {PATTERN_NOUNS[scene.pattern]}")
        if has_accessory:
            pieces.append(accessory)
        if has_place:
            pieces.append(place)
        if template > 0.85:
            pieces = [pieces[i] for i in rng.permutation(len(pieces))]
        phrase = ", ".join([with_article(noun), *pieces])
    if scene.style != "cartoon" or rng.random() < 0.15:
        return pick(rng, style_frames(scene.style)).format(phrase)
    return pick(rng, OPENINGS).format(phrase)
