"""What training sees of a photo: a box of it, and the pixels that the box becomes.

    frame(photo, Canvas(512, 64, "shape")) -> Frame

By what the recipe says: the square in the middle, the photo's own shape in one of a few sizes
("aspect buckets", as NovelAI described them in 2022), or what is around the subject of its mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import hypot

from PIL import Image

from personalization.data.mask_file import subject_box
from personalization.data.photos import Photo
from personalization.recipe import Framing

LONGEST = 2.5  # longer side by shorter side of a bucket
MARGIN = 0.1  # of the subject's sides, left around it

Box = tuple[int, int, int, int]  # left, top, right, bottom
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Canvas:
    """What photos are framed for: `size` pixels to a side of a base, in steps of `granularity`."""

    size: int
    granularity: int
    framing: Framing = "crop"


@dataclass(frozen=True)
class Frame:
    """The `box` of a photo of `photo` pixels, which becomes `size` pixels."""

    box: Box
    size: Size
    photo: Size

    def crop(self, photo: Photo) -> Image.Image:
        """What is learned of it, RGB."""
        return photo.image.resize(self.size, Image.Resampling.LANCZOS, box=self.box)

    def mask(self, photo: Photo) -> Image.Image | None:
        """The mask under `crop`, L, or None where the photo has none."""
        if photo.mask is None:
            return None
        return photo.mask.convert("L").resize(self.size, Image.Resampling.BOX, box=self.box)

    @property
    def share(self) -> float:
        """How much of the photo lies in it, from 0 to 1."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top) / (self.photo[0] * self.photo[1])

    @property
    def enlarged(self) -> bool:
        """Whether the photo has fewer pixels there than are learned."""
        left, top, right, bottom = self.box
        return right - left < self.size[0] or bottom - top < self.size[1]

    @property
    def mirrored(self) -> Frame:
        """The same of the mirrored photo."""
        left, top, right, bottom = self.box
        width = self.photo[0]
        return Frame((width - right, top, width - left, bottom), self.size, self.photo)

    @property
    def conditioning(self) -> tuple[float, ...]:
        """What SDXL is told of a picture (Podell et al. 2023, arXiv 2307.01952, 2.2 and 2.3).

        Six: height and width before, the crop's top and left in the pixels that it has become,
        height and width after.
        """
        left, top, right, bottom = self.box
        width, height = self.size
        across, down = width / (right - left), height / (bottom - top)
        return (self.photo[1], self.photo[0], top * down, left * across, height, width)


def frame(photo: Photo, canvas: Canvas) -> Frame:
    """How `photo` is framed. Without a mask there is no subject to follow: it keeps its shape."""
    width, height = photo.image.size
    subject = subject_box(photo.mask) if photo.mask is not None else None
    left, top, right, bottom = subject or (0, 0, width, height)
    if canvas.framing == "subject" and subject:
        wanted = ((right - left) * (1 + 2 * MARGIN), (bottom - top) * (1 + 2 * MARGIN))
    else:
        wanted = (width, height)
    size = (canvas.size, canvas.size) if canvas.framing == "crop" else bucket(wanted, canvas)
    # As large as the photo allows; of a subject only what it takes, and no more enlarged for it.
    scale = min(width / size[0], height / size[1])
    if canvas.framing == "subject" and subject:
        scale = min(scale, max(wanted[0] / size[0], wanted[1] / size[1], 1.0))
    sides = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
    x = int(min(max((left + right) / 2 - sides[0] / 2, 0), width - sides[0]))
    y = int(min(max((top + bottom) / 2 - sides[1] / 2, 0), height - sides[1]))
    return Frame((x, y, x + sides[0], y + sides[1]), size, (width, height))


def crop(photo: Photo, size: int) -> Image.Image:
    """The largest square around the middle, or the subject's, RGB of `size` × `size`."""
    return frame(photo, Canvas(size, size)).crop(photo)


def square(photo: Photo, size: int, framing: Framing) -> Image.Image:
    """What a report compares with: the square that is most like what was learned of it.

    Pictures are drawn as squares, and encoders see squares: of a photo in its own shape it is the
    largest one, around the subject where a mask says which; of one that follows its subject, what
    is around that alone.
    """
    return frame(photo, Canvas(size, size, framing)).crop(photo)


def bucket(wanted: tuple[float, float], canvas: Canvas) -> Size:
    """The size in which most of a picture of these sides is seen; of equals, the largest."""

    def seen(size: Size) -> tuple[float, int]:
        across, down = size[0] / wanted[0], size[1] / wanted[1]
        return round(min(across, down) / max(across, down), 6), size[0] * size[1]

    return max(buckets(canvas.size, canvas.granularity), key=seen)


@lru_cache(maxsize=64)
def buckets(size: int, granularity: int) -> tuple[Size, ...]:
    """The square of `size`, and sizes in steps of `granularity` of about its area and not more."""
    found = {(size, size)}
    for width in range(granularity, int(size * LONGEST) + 1, granularity):
        height = size * size // width // granularity * granularity
        if width >= height >= width / LONGEST and width > size:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found, key=lambda sides: hypot(*sides)))
