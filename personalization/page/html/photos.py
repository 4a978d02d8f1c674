"""The photos of a form, as the framing leaves them, and the sets of examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image, ImageDraw

from personalization.data.frames import Canvas, Frame, frame
from personalization.data.photos import Photo

from ..examples import ExampleSet
from .words import _thumbnail, data_uri

SHOWN = 256  # pixels of a photo's longer side, as it is shown


def crops(photos: Sequence[tuple[str, Photo]], canvas: Canvas) -> str:
    """Each photo as it will be framed, with a button that takes it out."""
    if not photos:
        return ""
    frames = [frame(photo, canvas) for _, photo in photos]
    cells = "".join(
        f'<figure class="crop"><img src="{data_uri(_seen(photo, framed))}" '
        f'alt="{escape(photo.name)}">'
        f'<button type="button" data-key="{key}" title="Take {escape(photo.name)} out" '
        f'aria-label="Take {escape(photo.name)} out">×</button>'
        f"<figcaption>{escape(photo.name)}<br>{_size(framed)}</figcaption></figure>"
        for (key, photo), framed in zip(photos, frames, strict=True)
    )
    return f'<div class="crops">{cells}</div><p class="hint">{_framed(frames)}</p>'


def _size(framed: Frame) -> str:
    return f"{framed.size[0]} × {framed.size[1]}"


def _framed(frames: Sequence[Frame]) -> str:
    """What the model sees of the photos."""
    sizes = {_size(framed) for framed in frames}
    where = f"{sizes.pop()} pixels" if len(sizes) == 1 else f"{len(sizes)} shapes"
    least = min(framed.share for framed in frames)
    if least > 0.995:
        return f"In {where}: it sees all of each photo."
    return f"In {where}: it sees what is in the frame, {least:.0%} of a photo or more."


def example_sets(sets: Iterable[ExampleSet]) -> str:
    """A button each, with its photos fanned out."""
    buttons = "".join(
        f'<button type="button" class="example" data-key="{escape(each.key)}">'
        f'<span class="fan">{"".join(_thumbnail(path) for path in each.photos[:3])}</span>'
        f"{escape(each.title)}</button>"
        for each in sets
    )
    return (
        f'<div class="examples"><span class="hint">or try</span>{buttons}</div>' if buttons else ""
    )


def _seen(photo: Photo, framed: Frame) -> Image.Image:
    """The photo, faint where a mask leaves it out and nearly gone outside of its frame."""
    whole = photo.image.copy()
    whole.thumbnail((SHOWN, SHOWN))
    grey = Image.new("RGB", whole.size, (128, 128, 128))
    image = whole
    if photo.mask is not None:
        image = Image.composite(
            whole, Image.blend(whole, grey, 0.75), photo.mask.resize(whole.size)
        )
    if framed.share > 0.995:
        return image
    scale = whole.width / photo.image.width, whole.height / photo.image.height
    left, top, right, bottom = (
        round(side * by) for side, by in zip(framed.box, scale * 2, strict=True)
    )
    shown = Image.blend(whole, grey, 0.85)
    shown.paste(image.crop((left, top, right, bottom)), (left, top))
    outline = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(shown).rectangle(outline, outline=(255, 255, 255), width=2)
    return shown
