"""What is tried before it is taught, and what was drawn by hand as a map."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from personalization.bases.catalog import ASSETS
from personalization.data.photos import open_photos
from personalization.page.first_try import Asked, FirstTry
from personalization.page.guides_panel import drawn
from personalization.page.session import workspaces
from personalization.sampling.picture_record import read_record


def asked(**changes) -> Asked:
    workspace = workspaces().new()
    photos, _ = open_photos(sorted((ASSETS / "examples" / "owl").glob("[0-9]*.png"))[:1])
    keys = tuple(workspace.save_photos(photos))
    said = {"class_noun": "bird", "kind": "creature", "keys": keys} | changes
    return Asked(workspace.id, "pocket", **said)


def test_each_prompt_is_drawn_with_the_photo_and_without_it() -> None:
    asks = asked()
    first, *_, last = FirstTry("subject").draw(asks)
    values = [part["value"] for part in first.values() if isinstance(part, dict)]
    ((path, caption),) = values[0]
    record = read_record(path)
    assert record is not None
    assert record.reference.pictures == asks.keys
    assert record.adapters == ()
    assert record.prompt in caption
    assert all(part["visible"] for part in last.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"class_noun": ""}, "class"), ({"keys": ()}, "photo"), ({"keys": ("nowhere",)}, "photo")],
)
def test_what_is_missing_is_said_and_nothing_is_drawn(changes, said) -> None:
    (reply,) = FirstTry("subject").draw(asked(**changes))
    (sentence,) = [part for part in reply.values() if isinstance(part, str)]
    assert said in sentence.lower()


def test_a_style_is_tried_by_its_style() -> None:
    assert asked(kind="style", class_noun="").guides().reference.reach == "style"


def test_what_is_inked_is_a_map_and_an_empty_sheet_is_none() -> None:
    sheet = Image.new("RGBA", (64, 64))
    assert drawn(None) is drawn({"composite": None}) is drawn({"composite": sheet}) is None
    assert drawn({"composite": Image.new("RGBA", (64, 64), "white")}) is None
    ImageDraw.Draw(sheet).line((8, 8, 56, 56), fill="black", width=3)
    found = np.asarray(drawn({"composite": sheet}))
    assert (found[32, 32], found[0, 63]) == (255, 0)
