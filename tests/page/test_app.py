"""The page: events become updates, what visitors write stays text, endpoints explain themselves."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from personalization.adapters.adapter import Description
from personalization.bases.catalog import CATALOG
from personalization.data.frames import Canvas
from personalization.data.photos import Photo
from personalization.events import (
    Checkpointed,
    Finished,
    Preview,
    SliceEnded,
    Stage,
    StepDone,
)
from personalization.page import html, progress
from personalization.page.lending import fits
from personalization.sampling.picture_record import AdapterRecord, PictureRecord
from personalization.training.base_selection import POCKET, Option
from personalization.training.estimate import Outlook
from personalization.workspaces.library import Entry


def step(number: int, steps: int = 4, loss: float = 0.5) -> StepDone:
    return StepDone(number, steps, loss, None, 0.1, (steps - number) * 0.1)


@pytest.fixture
def view() -> progress.RunView:
    return progress.RunView("sks dog", 4)


def test_each_event_names_the_parts_that_it_changes(view):
    assert view.take(Stage("class images", 8, 32)) == {"status"}
    assert view.take(step(1)) == {"status", "curve"}
    assert view.take(Preview(1, (Path("a.png"),))) == {"strip", "curve"}
    assert view.take(Checkpointed(1)) == set()
    assert view.take(SliceEnded(1, 4)) == {"status"}
    assert view.take(Finished(4, Path("adapter.safetensors"), 1.0, False)) == {"status", "curve"}


def test_a_run_goes_through_its_phases(view):
    seen = [view.phase]
    for event in (Stage("photos", 0, 1), step(1), SliceEnded(1, 4), step(2)):
        view.take(event)
        seen.append(view.phase)
    view.take(Finished(4, Path("adapter.safetensors"), 1.0, False))
    assert [*seen, view.phase] == [
        "waiting", "preparing", "learning", "stopped", "learning", "drawing",
    ]  # fmt: skip


def test_steps_that_are_done_again_replace_the_lost_ones(view):
    for number in (1, 2, 3):
        view.take(step(number, loss=1.0))
    view.take(Preview(2, (Path("old.png"),)))
    view.take(step(2, loss=0.25))  # the slice was killed; the checkpoint held step 1
    view.take(Preview(2, (Path("new.png"),)))
    assert [(row.step, row.loss) for row in view.rows] == [(1, 1.0), (2, 0.25)]
    assert view.previews == [(2, (Path("new.png"),))]


def test_the_status_says_how_far_and_how_long(view):
    view.take(Stage("class images", 8, 32))
    assert "8 of 32" in progress.status(view)
    view.take(StepDone(1, 4, 0.5, None, 0.1, 42.0))
    said = progress.status(view)
    assert "Step 1 of 4" in said
    assert "about 40 s left" in said
    assert 'aria-valuenow="1"' in said
    view.take(SliceEnded(1, 4))
    assert "Kept up to step 1 of 4" in progress.status(view)


def test_a_preview_is_inside_the_page_and_the_newest_comes_first(view, tmp_path):
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (8, 8)).save(paths[-1])
        view.take(Preview(number, (paths[-1],)))
    said = progress.strip(view)
    assert said.index("step 2") < said.index("step 1")
    assert said.count("data:image/webp;base64,") == 2
    assert str(tmp_path) not in said


def test_only_the_parts_that_changed_are_drawn(view):
    assert set(progress.drawn(view, view.take(step(1)))) == {"status", "curve"}


BAD = '<img src=x onerror="alert(1)">'


def test_what_a_visitor_wrote_is_text_and_never_markup(view):
    photo = Photo(BAD, Image.new("RGB", (64, 64)))
    entry = Entry(
        "x", Path("x"), 1, True, Description("lora", "pocket", placeholder_token=BAD, title=BAD)
    )
    view.name, view.error, view.phase = BAD, BAD, "failed"
    for said in (
        progress.status(view),
        html.crops([("key", photo)], Canvas(32, 8)),
        html.problems([BAD]),
        html.word_chips(BAD, [BAD], [BAD], True),
        html.adapter_row(entry),
        html.record(PictureRecord(BAD, adapters=(AdapterRecord(BAD),))),
    ):
        assert "<img src=x" not in said
        assert "&lt;img" in said


def test_a_prompt_that_does_not_call_an_adapter_is_named():
    assert html.uncalled("a photo of sks dog", ["sks dog"]) == []
    assert "<mug>" in html.uncalled("a photo of sks dog", ["sks dog", "<mug>"])[0]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (42, "about 40 s"), (119, "about 2 min"), (7200, "about 2.0 h")],
)
def test_a_time_is_said_as_a_person_plans(seconds, said):
    assert html.duration(seconds) == said


def test_bases_that_cannot_be_had_are_named_with_the_reason_once():
    why = "only on a GPU"
    options = [Option(POCKET, ""), *(Option(CATALOG[n], why) for n in ("sd15", "sdxl"))]
    said = html.bases(options, "THE_VARIABLE")
    assert said.count(why) == 1
    assert f"<b>{CATALOG['sd15'].title}, {CATALOG['sdxl'].title}:</b> {why}" in said
    assert POCKET.title not in said
    assert html.bases([Option(POCKET, "")], "THE_VARIABLE") == ""
    mine = replace(POCKET, title=BAD)
    assert "<img" not in html.bases([Option(mine, why)], "V") + html.header(BAD, "cpu")


def test_a_picture_of_another_base_says_so():
    assert html.other_base("pocket", POCKET) == html.other_base(None, POCKET) == []
    (said,) = html.other_base("sdxl", POCKET)
    assert said.startswith("Stable Diffusion XL 1.0 drew this picture, and Pocket")


def test_what_a_run_takes_is_said_as_far_as_it_is_known():
    told = html.outlook(Outlook(42, 8 * 2**30, 3_200_000), "cuda", fits(42))
    assert "About 40 s of GPU time, a file of 3.2 MB, 8.0 GiB of the GPU’s memory" in told
    assert "which holds" not in told
    assert fits(42, "a word", 38).endswith("that anyone has, which holds a word beside it")
    assert "which holds" not in fits(42, "a word", 39)
    beside = html.outlook(Outlook(42, None, None), "cpu", pictures=5)
    assert "About 40 s here and about 5 s for its first pictures" in beside
    untold = html.outlook(Outlook(None, None, None), "mps")
    assert "How long shows after a few steps" in untold


def test_the_form_counts_the_pictures_of_a_class_that_does_not_come_with_the_base():
    import app

    tab = app.subject_tab
    fields = {part: part.value for part in tab.form.inputs} | {tab.base: "pocket"}
    fields |= {tab.word.kind: "object"}
    none, mug, owl = (
        tab.say_estimate(fields | {tab.word.class_noun: noun}) for noun in ("", " mug", "owl")
    )
    assert none == mug != owl
    assert " s here" in owl


def test_who_comes_back_finds_the_estimate_of_the_settings_that_were_left():
    import app
    from personalization.page.session import Visit, workspaces

    tab = app.subject_tab
    workspace = workspaces().new()
    visit = Visit(workspace, "pocket")
    few = {**{part: part.value for part in tab.form.kept}, tab.form.parts["steps"]: 3}
    left = ["pocket", *(few[part] for part in tab.form.kept)]
    stored = {tab.stored.keys: [], tab.stored.fields: ["sks", "dog", "creature"]}
    blank = {part: part.value for part in (*tab.form.inputs, tab.photos.framing)}
    values = {**blank, **stored, tab.stored.settings: left, tab.base: "pocket"}
    values[tab.visitor] = workspace.id
    new = tab.restore(visit, values | {tab.stored.settings: []})
    back = tab.restore(visit, values)
    assert back[tab.form.parts["steps"]] == 3
    assert back[tab.estimate] == tab.say_estimate({tab.base: "pocket", **back})
    assert back[tab.estimate] != new[tab.estimate]
    workspace.delete()


def test_every_endpoint_explains_each_of_its_arguments():
    import app

    for function in (fn.fn for fn in app.demo.fns.values() if fn.api_visibility == "public"):
        assert function.__doc__
        for name in inspect.signature(function).parameters:
            assert re.search(rf"^ +{name}: \w", function.__doc__, re.MULTILINE), name


def test_what_is_brushed_over_is_the_photos_mask_and_can_be_taken_back():
    import app
    from personalization.page.session import workspaces

    photos = app.subject_tab.photos
    workspace = workspaces().new()
    photo = Photo("a.png", Image.effect_noise((1200, 900), 80).convert("RGB"), None, "in a room")
    keys = workspace.save_photos([photo, Photo("b.png", Image.new("RGB", (64, 64)))])

    def given(keys, chosen) -> dict:
        visit = {photos.visitor: workspace.id, photos.base: "", photos.framing: "crop"}
        visit[photos.resolution] = 0
        visit |= {keys: [] for keys in photos.others}
        return visit | {photos.keys: keys, photos.mask.which: chosen}

    canvas = photos.mask.open(workspace.id, keys[0])
    assert max(canvas["background"].size) == 512
    layer = canvas["layers"][0]
    layer.paste((0, 0, 0, 255), (0, 0, 256, layer.height))
    reply = photos.brush(given(keys, keys[0]) | {photos.mask.editor: canvas})
    now = reply[photos.keys]
    assert (len(now), now[1]) == (2, keys[1])
    assert reply[photos.mask.which]["value"] == now[0]
    (masked,) = workspace.photos(now[:1])
    assert (masked.name, masked.caption, masked.mask.size) == ("a.png", "in a room", (1200, 900))
    assert [masked.mask.getpixel((x, 450)) for x in (100, 1100)] == [255, 0]
    again = photos.mask.open(workspace.id, now[0])["layers"][0].getchannel("A")
    assert [again.getpixel((x, 100)) for x in (50, 500)] == [255, 0]
    back = photos.brush(given(now, now[0]))
    assert back[photos.keys] == keys
    workspace.delete()
