"""What programs send: its schema resolves by itself, and what is wrong is said by its name."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from personalization.errors import PersonalizationError, StackError
from personalization.page.requests import AdapterRequest, Number, Whole, checked, schema_of
from personalization.page.stack_endpoints import AxisRequest, check_blocks
from personalization.page.uploads import Upload, take_uploads
from personalization.stacking.stack import Slot
from tests.support import random_adapters

ADAPTERS = list[AdapterRequest]
DOG = {"name": "dog"}


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (ADAPTERS, DOG, "adapters is an object: it takes a list"),
        (ADAPTERS, None, "adapters is nothing (null): it takes a list"),
        (ADAPTERS, ["dog"], "adapters[0] is the text “dog”: it takes an object with name, weight"),
        (ADAPTERS, [DOG, {"weight": 1}], "adapters[1].name is missing: it takes"),
        (ADAPTERS, [DOG | {"weight": None}], "adapters[0].weight is nothing (null)"),
        (ADAPTERS, [DOG | {"weight": True}], "adapters[0].weight is true"),
        (ADAPTERS, [DOG | {"weight": float("nan")}], "adapters[0].weight is NaN"),
        (ADAPTERS, [DOG | {"wieght": 0}], "adapters[0] has a field “wieght”, which is not known"),
        (ADAPTERS, [DOG | {"blocks": {"mid_block": "a"}}], "adapters[0].blocks.mid_block is"),
        (AxisRequest | None, {"what": "seed", "value": [1]}, "adapters.values is missing"),
        (AxisRequest | None, {"what": "size", "values": [1]}, "it takes one of weight, guidance"),
        (Whole | None, 2.5, "adapters is 2.5: it takes a whole number or nothing (null)."),
        (Whole, "5", "adapters is the text “5”: it takes a whole number."),
        (Number, [], "adapters is a list: it takes a number."),
        (str, 3, "adapters is 3: it takes a text."),
        (Literal["object", "style"], "thing", "it takes one of object, style."),
        (list[Upload], ["/etc/passwd"], "adapters[0] is the text “/etc/passwd”: it takes a file"),
        (list[Upload], "a.png", "adapters is the text “a.png”: it takes a list, each item a file"),
    ],
)
def test_a_wrong_value_is_said_with_its_field_and_what_that_takes(hint, value, said):
    with pytest.raises(PersonalizationError) as refused:
        checked("adapters", hint, value)
    assert said in str(refused.value)
    assert str(refused.value).endswith(".")


def test_what_is_right_is_taken_as_it_is():
    (dog,) = checked("adapters", ADAPTERS, [DOG | {"weight": 2, "blocks": {"mid_block": 0.5}}])
    assert (dog.name, dog.weight, dog.text_weight, dog.blocks) == (
        "dog",
        2,
        None,
        {"mid_block": 0.5},
    )
    assert checked("seed", Whole, 3.0) == 3
    assert checked("steps", Whole | None, None) is None


def test_a_schema_holds_all_that_it_refers_to():
    for hint in (ADAPTERS, AxisRequest | None, list[Upload]):
        assert "$" not in str(schema_of(hint))
    assert schema_of(ADAPTERS)["items"]["required"] == ["name"]


def test_a_block_that_the_base_does_not_have_is_refused():
    dog = Slot(random_adapters.make(rank=1), blocks={"mid_block": 0.5, "up_blocks.1": 0})
    check_blocks("pocket", dog)
    for block in ("up_block.1", "nosuch", "up_blocks.1.", ""):
        with pytest.raises(StackError, match="no part of the denoiser"):
            check_blocks("pocket", replace(dog, blocks={block: 0.0}))


def test_a_file_of_the_machine_is_no_upload(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    upload = {"path": str(tmp_path / "a.png"), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(PersonalizationError, match=r"photos\[0\] is an object: it takes a file"):
        checked("photos", list[Upload], [upload])


def test_uploads_are_read_and_stay_for_whoever_else_sent_the_same():
    folder = Path(get_upload_folder()) / "the-same"
    folder.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((96, 96), 80).save(folder / "a.png")
    for _ in range(2):
        photos, errors = take_uploads([str(folder / "a.png")])
        assert (len(photos), errors) == (1, [])
