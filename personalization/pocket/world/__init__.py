"""The drawn world: scenes, their pictures and their captions, with the truth known."""

from .captions import caption, full_caption
from .drawing import draw, mask
from .scene import Scene, facts, sample
from .subjects import STYLE_SUBJECTS, SUBJECTS, StyleSubject, Subject, held_out_word_scenes

__all__ = [
    "STYLE_SUBJECTS",
    "SUBJECTS",
    "Scene",
    "StyleSubject",
    "Subject",
    "caption",
    "draw",
    "facts",
    "full_caption",
    "held_out_word_scenes",
    "mask",
    "sample",
]
