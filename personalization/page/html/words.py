"""Sentences and small parts that every panel has: headings, notes, durations, a picture as text."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from personalization.training.run import Run

METHODS = {
    "textual_inversion": "a learned word",
    "lora": "a LoRA",
    "loha": "a LoHa",
    "lokr": "a LoKr",
    "dora": "a DoRA",
    "full": "a full fine-tune",
}
STACK_PROMISE = (
    '<p class="promise">Adapters add up. Put several on the base, say how much of each, and call '
    "them by their words.</p>"
)
MASKS = (
    '<p class="hint">A mask says which part of a photo is the subject: brush over it here, or add '
    "a picture of the same size, white there and black elsewhere, together with its photo, as "
    "mug-mask.png for mug.png. What it leaves out is shown faint, and hardly learned. Photos "
    "without one are left to the base, where it looks first (under Advanced).</p>"
)
EXTRACT = (
    '<p class="hint">This file holds the model’s own weights as they became. Other programs want '
    "an adapter: extract one, small enough to share and to stack.</p>"
)
EMPTY_LIST = '<p class="list-empty">Nothing on the list: pictures come from the base as it is.</p>'
RESTORE_HINT = (
    '<p class="hint restore-hint">A picture from here holds its settings. Drop it to get them '
    "back.</p>"
)
TAKE_HINT = (
    '<p class="hint">One file for diffusers, one for ComfyUI, A1111 and Forge, each read back and '
    "compared with the adapter before it is offered. Those three know a learned word by its "
    "file’s name: that file is called as the word is.</p>"
)
SIGN_IN_HINT = (
    '<p class="hint">A private repository opens to who is signed in. The token is used to look and '
    "to fetch, and kept nowhere.</p>"
)
DUPLICATE = (
    '<p class="hint">A duplicate is yours: private if you like, with no queue but your own. A free '
    "account’s runs on ZeroGPU as this one may; other hardware is chosen and paid by the hour in "
    "its settings. Files last where a storage bucket is mounted and "
    "<code>PERSONALIZATION_HOME</code> names it; without one they go with each restart.</p>"
)
NO_STORAGE = (
    "Nothing outlasts a restart of this Space: no storage bucket is mounted, so adapters, runs and "
    "photos go with it. In its settings mount one, and let PERSONALIZATION_HOME name its folder; "
    "or take away, or publish, what you want to keep."
)
LINK_HINT = (
    '<p class="hint">A link opens this stack: its adapters and weights, the prompt, the seed.</p>'
)
PHOTO_DAMAGED = "A photo that was kept is damaged, and was taken out. Add it again."
PHOTOS_GONE = (
    "Photos that were here are gone: your workspace was deleted, or not used for days, and a new "
    "one has begun. Add them again."
)
NOTHING_TO_TAKE = "There is nothing on the list to take away. Add an adapter first."
NO_START = (
    "The picture that it started from is no longer in your workspace: add it under “Start from”, "
    "or on the canvas."
)
NO_RECORD = "This picture holds no settings: only PNG files that the app drew do."


def trigger(run: Run) -> str:
    """The words that call what `run` teaches: a learned word carries its class itself."""
    return (
        run.concept.placeholder_token
        if run.recipe.method_name == "textual_inversion"
        else run.concept.name
    )


FACES = "A face is somebody’s: use it with their consent."


def section(number: int, title: str, hint: str = "") -> str:
    """The numbered head of a part of the form."""
    said = f'<p class="hint">{hint}</p>' if hint else ""
    return f'<div class="section"><h3><span class="number">{number}</span>{title}</h3>{said}</div>'


def reason(sentence: str) -> str:
    """Why this recipe."""
    return f'<p class="hint">{escape(sentence)}</p>'


def problems(sentences: Sequence[str]) -> str:
    """What is wrong and stops it: read out at once where a screen is read."""
    return _notes(sentences, "error", ' role="alert"')


def warnings(sentences: Sequence[str]) -> str:
    """What could be better and stops nothing."""
    return _notes(sentences, "warning", "")


def hint(text: str) -> str:
    """A quiet sentence."""
    return f'<p class="hint">{escape(text)}</p>'


def duration(seconds: float, *, about: bool = True) -> str:
    """ "about 40 s", "about 3 min": in steps that a person plans with."""
    lead = "about " if about else ""
    if seconds < 10:
        return f"{lead}{max(1, round(seconds))} s"
    if seconds < 100:
        return f"{lead}{5 * round(seconds / 5) if about else round(seconds)} s"
    if seconds < 5400:
        return f"{lead}{seconds / 60:.0f} min"
    return f"{lead}{seconds / 3600:.1f} h"


def data_uri(picture: Image.Image | Path, side: int = 256) -> str:
    """A picture inside the page itself: no address leads to it."""
    if isinstance(picture, Path):
        try:
            with Image.open(picture) as file:
                file.load()
                picture = file
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return "data:,"  # it is gone, or damaged: the rest is shown
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=88, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _thumbnail(path: Path) -> str:
    return f'<img src="{data_uri(path, 96)}" alt="">'


def _notes(sentences: Sequence[str], tone: str, role: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes {tone}"{role}>{items}</ul>'
