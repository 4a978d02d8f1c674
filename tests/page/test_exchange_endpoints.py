"""What comes in and goes out by program: files, links, pictures, recipes; and all forgotten."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from PIL import Image

from personalization.bases.catalog import ASSETS
from personalization.errors import AdapterError, PersonalizationError, PhotoError, WorkspaceError
from personalization.page.exchange_endpoints import (
    add_from_file,
    extract_lora,
    link_to_stack,
    read_picture,
)
from personalization.page.guides import StartRequest, start_in
from personalization.page.recipe_endpoints import asked_recipe, check_photos, suggest_recipe
from personalization.page.requests import AdapterRequest
from personalization.page.session import Visit, workspaces
from personalization.page.stack_endpoints import draw_stack
from personalization.page.stack_link import StackLink
from personalization.page.things_endpoints import forget_me
from personalization.recipe import LowRank, Recipe
from personalization.training.run import Run
from tests.support import tiny


@pytest.fixture
def visit():
    workspace = workspaces().new()
    yield Visit(workspace, "")
    if workspace.folder.exists():
        workspace.delete()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "green.png"
    Image.new("RGB", (96, 64), (20, 160, 60)).save(path)
    return str(path)


def test_a_file_comes_into_the_library_and_one_that_is_none_gets_a_sentence(visit, picture):
    file = ASSETS / "adapters" / "crowned-dog.safetensors"
    taken = add_from_file(str(file), visit.workspace.id, "my dog")
    assert taken["session"] == visit.workspace.id
    assert (taken["trigger"], taken["method"]) == ("sks dog", "lora")
    held = visit.workspace.library.entry(taken["name"]).description
    assert held
    assert held.title == "my dog"
    with pytest.raises(PersonalizationError, match="safetensors"):
        add_from_file(picture, visit.workspace.id)


def test_a_lora_is_extracted_of_a_full_fine_tune_alone(visit):
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4)
    run = Run.create(visit.workspace.new_run_folder("sks"), tiny.concept(count=1), recipe, "pocket")
    with pytest.raises(AdapterError, match="no full fine-tune that has finished"):
        extract_lora(visit.workspace.id, run.folder.name)


def test_a_link_opens_what_it_was_made_of_and_names_what_is_not_in_it(visit):
    own = add_from_file(str(ASSETS / "adapters" / "neon.safetensors"), visit.workspace.id, "mine")
    asked = [AdapterRequest(name="crowned-dog", weight=0.5), AdapterRequest(name=own["name"])]
    said = link_to_stack(asked, "sks dog", 7, "ties", visit.workspace.id)
    assert said["missing"] == [own["name"]]
    expected = StackLink((("crowned-dog", 0.5),), "sks dog", 7, "ties")
    assert StackLink.parse(dict(parse_qsl(said["query"][1:]))) == expected
    with pytest.raises(PersonalizationError, match="no adapter called “gone”"):
        link_to_stack([AdapterRequest(name="gone")])
    with pytest.raises(PersonalizationError, match="combines by “magic”"):
        link_to_stack([AdapterRequest(name="neon")], combine="magic")


def test_a_picture_begins_from_another_and_its_record_is_read(visit, picture, tmp_path):
    mask = tmp_path / "mask.png"
    half = Image.new("L", (96, 64))
    half.paste(255, (0, 0, 48, 64))
    half.save(mask)
    start = StartRequest.model_construct(picture=picture, mask=str(mask), strength=0.6)
    (drawn,), (record,) = draw_stack([], "a dog", steps=2, session=visit.workspace.id, start=start)
    assert (record["task"], record["strength"]) == ("inpaint", 0.6)
    assert read_picture(drawn[0]) == record
    right = Image.open(drawn[0]).convert("RGB").crop((100, 20, 120, 100))
    spread = right.getextrema()
    assert all(high - low < 40 for low, high in spread), "what is not brushed over stays"
    with pytest.raises(PersonalizationError, match="holds no settings"):
        read_picture(picture)
    small = tmp_path / "small.png"
    Image.new("L", (64, 64), 255).save(small)
    odd = StartRequest.model_construct(picture=picture, mask=str(small), strength=0.6)
    with pytest.raises(PhotoError, match="mask is 64 x 64 pixels, the picture 96 x 64"):
        start_in(odd, "", None)


def test_a_recipe_is_suggested_with_what_it_takes_and_taken_back():
    said = suggest_recipe("subject", exact="rough", method="dora")
    assert said["recipe"]["method"]["kind"] == "dora"
    assert said["seconds"] > 1
    assert said["memory"] > 1e6
    changed = said["recipe"] | {"steps": 7}
    taken = asked_recipe("", "", changed, "subject")
    assert (taken.steps, taken.method_name) == (7, "dora")
    with pytest.raises(PersonalizationError, match="are for “Teach a subject”"):
        asked_recipe("", "", changed, "word")
    with pytest.raises(PersonalizationError, match="unknown setting: magic"):
        asked_recipe("", "", changed | {"magic": 1}, "subject")
    with pytest.raises(PersonalizationError, match="send one of them"):
        asked_recipe("", "mine", changed, "subject")
    with pytest.raises(PersonalizationError, match="leave method empty"):
        suggest_recipe("word", method="lora")


def test_what_a_run_takes_knows_the_class_whose_pictures_must_be_drawn_first() -> None:
    known = suggest_recipe("subject", base="pocket", class_noun="mug")["seconds"]
    assert suggest_recipe("subject", base="pocket")["seconds"] == known
    drawn = suggest_recipe("subject", base="pocket", class_noun="owl")["seconds"]
    assert known + 5 < drawn < known + 10  # sixteen pictures of 0.4 s


def test_photos_are_looked_at_before_they_are_taught(picture, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    said = check_photos([picture, picture, str(broken)])
    assert "broken.jpg" in said[0]
    assert len(said) > 1, "the other two are small, and alike"


def test_everything_of_a_session_is_forgotten(visit):
    session = visit.workspace.id
    assert forget_me(session) == {"deleted": session}
    assert not visit.workspace.folder.exists()
    with pytest.raises(WorkspaceError):
        forget_me(session)
