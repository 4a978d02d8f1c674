"""The stack tab's handlers, called as the page calls them: what they show, refuse and keep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.errors import AdapterError, StackError
from personalization.page.adapter_rows import Row, as_json, stacked
from personalization.page.draw_panel import _axis
from personalization.page.exchange import files_of
from personalization.page.interference import interference, suggested
from personalization.page.pictures import painted
from personalization.page.requests import AdapterRequest
from personalization.page.stack_endpoints import draw_stack, save_stack, sweep_stack
from personalization.sampling.picture_record import KEY
from personalization.sampling.sweep import STRENGTHS, Axis
from personalization.stacking.interference import overlaps
from tests.support import random_adapters


@pytest.fixture(scope="module")
def tab():
    import app

    return app.stack_tab


@pytest.fixture
def workspace():
    from personalization.page.session import workspaces

    workspace = workspaces().new()
    yield workspace
    workspace.delete()


@pytest.fixture
def ready(workspace) -> Adapter:
    """The ready LoRA, for the base that the page has."""
    return workspace.library.get("crowned-dog")


def listed(tab, workspace, rows: list[Row], base: str = "") -> dict:
    """What the page sends of the list: whose it is, the rows, and every slider."""
    adapter_list = tab.adapter_list
    weights = [row.weight for row in rows] + [1.0] * (len(adapter_list.weights) - len(rows))
    return {
        adapter_list.visitor: workspace.id,
        adapter_list.base: base,
        adapter_list.stored: as_json(rows),
        **dict(zip(adapter_list.weights, weights, strict=True)),
    }


def combined(tab, workspace, rows: list[Row], combine="sum", density=0.5, rank=0) -> dict:
    how = dict(zip(tab.combining.how, (combine, density, rank), strict=True))
    return listed(tab, workspace, rows) | how


def test_a_list_survives_the_browser_and_one_of_an_older_page_is_read(tab, workspace) -> None:
    rows = [Row("a", 0.5, None, {"mid_block": 0.0}), Row("b", -1.0, 0.3)]
    values = listed(tab, workspace, rows)
    values[tab.adapter_list.stored] = json.loads(json.dumps(as_json(rows)))
    assert tab.adapter_list.rows_in(values) == rows
    older = listed(tab, workspace, [Row("a", 0.7)]) | {tab.adapter_list.stored: [["a", 1.0]]}
    assert tab.adapter_list.rows_in(older) == [Row("a", 0.7)]


def test_weights_inside_an_adapter_reach_the_stack(workspace) -> None:
    rows = [Row("crowned-dog", 0.8, 0.0, {"mid_block": 0.5})]
    (slot,) = stacked("", workspace.library, rows, combine="ties", density=0.3).slots
    assert (slot.weight, slot.text_weight, slot.blocks) == (0.8, 0.0, {"mid_block": 0.5})
    with pytest.raises(StackError, match="between -2 and 2"):
        stacked("", workspace.library, [Row("crowned-dog", 1.5, None, {"mid_block": 2.0})])


def test_fine_weights_are_shown_and_kept_for_the_chosen_adapter_alone(tab, workspace) -> None:
    combining, rows = tab.combining, [Row("a", 1.0), Row("b", 0.5)]
    fields = [combining.text, *combining.blocks]
    entered = dict(zip(fields, (0.2, 1.0, 0.0, None), strict=True))
    changed = combining.keep_fine(
        listed(tab, workspace, rows) | entered | {combining.fine_for: "b"}
    )
    assert changed == [["a", 1.0, None, None, None], ["b", 0.5, 0.2, {"mid_block": 0.0}, None]]
    rows = [Row(*row) for row in changed]
    for name, factors in (("b", [0.2, 1.0, 0.0, 1.0]), ("a", [None, 1.0, 1.0, 1.0])):
        shown = combining.show_fine(listed(tab, workspace, rows) | {combining.fine_for: name})
        assert [shown[field] for field in fields] == factors


def bad_files(folder: Path, good: Adapter) -> dict[str, str]:
    """Files that are no adapters for this base, and what is said of each."""
    whole = good.save(folder / "good.safetensors").read_bytes()
    nan = dict(good.tensors)
    nan[next(iter(nan))] = torch.full_like(next(iter(nan.values())), float("nan"))
    Adapter(good.description, nan).save(folder / "nan.safetensors")
    good.described(family="sdxl").save(folder / "family.safetensors")
    for name, content in {
        "pickle": b"PK\x03\x04" + whole[:400],
        "short": whole[:-100],
        "liar": (2**40).to_bytes(8, "little") + whole[8:],
        "empty": b"",
    }.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return {
        "pickle": "is a zip archive",
        "short": "is cut short",
        "liar": "is not a whole safetensors file",
        "empty": "is empty",
        "nan": "values that are no numbers",
        "family": "was made for sdxl",
    }


def test_a_bad_file_gets_its_own_sentence_and_the_rest_of_the_stack_stays(
    tab, workspace, ready, tmp_path
) -> None:
    values = listed(tab, workspace, [Row("crowned-dog", 0.7)])
    before = [entry.name for entry in workspace.library.list()]
    for name, said in bad_files(tmp_path, ready).items():
        file = str(tmp_path / f"{name}.safetensors")
        reply = tab.adapter_list.take_file(values | {tab.adapter_list.upload: file})
        assert set(reply) == {tab.adapter_list.notes}
        assert said in reply[tab.adapter_list.notes], name
    assert [entry.name for entry in workspace.library.list()] == before
    good = tab.adapter_list.take_file(
        values | {tab.adapter_list.upload: str(tmp_path / "good.safetensors")}
    )
    assert [row[:2] for row in good[tab.adapter_list.stored]] == [
        ["crowned-dog", 0.7],
        ["good", ready.description.strength],
    ]


def test_two_adapters_of_one_word_are_named_and_stay_on_the_rack(tab, workspace) -> None:
    word = workspace.library.get("neon")
    workspace.library.add(word.described(title="another"), "another")
    rows = [Row("neon", 1.0), Row("another", 1.0)]
    with pytest.raises(StackError, match="both define the word"):
        tab.combining.stack(combined(tab, workspace, rows))
    rows[1] = Row("another", 0.0)
    assert tab.combining.stack(combined(tab, workspace, rows)).slots[1].weight == 0.0


def test_suggested_weights_go_onto_the_sliders_and_words_stay(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    names = ["crowned-dog", "neon", "twin"]
    reply = tab.combining.suggest_weights(listed(tab, workspace, [Row(n, 1.0) for n in names]))
    half = ready.description.strength / 2
    assert [row[1] for row in reply[tab.adapter_list.stored]] == [half, 1.0, half]
    assert f"Lowered to {half:.0%}" in reply[tab.combining.suggestion]
    assert "already" in suggested([0.4], [0.4])


def test_overlap_is_said_once_for_the_same_adapters(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    combining = tab.combining
    values = listed(tab, workspace, [Row("crowned-dog", 1.0), Row("twin", 0.2)])
    reply = combining.meet(values | {combining.met: []})
    assert "nearly the same" in reply[combining.meeting]
    again = combining.meet(values | {combining.met: reply[combining.met]})
    assert combining.meeting not in again


def test_interference_is_drawn_by_layer_and_what_was_named_stays_text() -> None:
    bad = "<img src=x>"
    three = [random_adapters.make(seed=i) for i in range(3)]
    said = interference([bad, "b", "c"], overlaps(three))
    assert bad not in said
    layers = len(three[0].tensors) // 2
    assert said.count("<rect x=") >= 3 * 2 * layers
    assert said.index(">text<") < said.index(">down<") < said.index(">middle<") < said.index(">up<")
    assert interference(["a"], {}) == ""


def test_files_to_take_away_hold_the_same_change(workspace, ready) -> None:
    files, errors = files_of(workspace, "crowned-dog")
    assert errors == []
    assert [Path(file).name for file in files] == [
        "crowned-dog-diffusers.safetensors",
        "crowned-dog-kohya.safetensors",
    ]
    for file in files:
        assert formats.difference(ready, formats.read(Path(file))) <= formats.TOLERANCE


def test_what_one_format_cannot_hold_is_said_and_the_other_is_offered(workspace, ready) -> None:
    flow = {n.replace("unet.", "transformer."): t for n, t in ready.tensors.items() if "unet" in n}
    workspace.library.add(Adapter(replace(ready.description), flow), "flow")
    files, errors = files_of(workspace, "flow")
    assert [Path(file).name for file in files] == ["flow-diffusers.safetensors"]
    assert "format has no name for a transformer" in errors[0]


def test_what_was_brushed_over_is_the_mask() -> None:
    layer = Image.new("RGBA", (20, 10))
    ImageDraw.Draw(layer).rectangle((0, 0, 4, 9), fill="#6366f1cc")
    mask = painted({"layers": [layer]})
    assert mask.size == (20, 10)
    assert mask.getbbox() == (0, 0, 5, 10)
    assert painted(None) is None


def test_the_sweeps_choices_are_axes() -> None:
    assert _axis("weight 1", "") == Axis("weight", STRENGTHS, slot=1)
    assert _axis("guidance", "").values[2] == 4.0
    assert "ties" in _axis("combine", "").values


PROMPT = "a photo of sks dog and zwx dog"


def drawing(tab, workspace, rows: list[Row], combine: str = "ties", **changed) -> dict:
    """The inputs of the draw panel's buttons, as the page sends them."""
    fields = {
        "prompt": PROMPT,
        "negative": "blur",
        "seed": 7,
        "vary": False,
        "count": 1,
        "steps": 2,
        "guidance": 3.0,
        "scheduler": "Euler a",
        "task": "text",
        "strength": 0.7,
        "image": None,
        "editor": None,
        "fast": False,
    } | changed
    panel = {getattr(tab.draw_panel.form, name): value for name, value in fields.items()}
    nothing = {part: part.value for part in tab.draw_panel.guides.inputs}
    return nothing | panel | combined(tab, workspace, rows, combine, 0.3, 5)


def dropped(tab, workspace, file: str) -> dict:
    return listed(tab, workspace, []) | {tab.restoring.file: file}


@pytest.mark.parametrize("task", ["text", "image", "inpaint"])
def test_a_picture_dropped_back_brings_everything_back(tab, workspace, ready, task) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    draw_panel, adapter_list = tab.draw_panel, tab.adapter_list
    rows = [Row("crowned-dog", 0.8, 0.4, {"mid_block": 0.5}), Row("twin", -0.2, None, {})]
    photo = Image.new("RGB", (128, 128), (200, 30, 30))
    layer = Image.new("RGBA", (128, 128))
    ImageDraw.Draw(layer).rectangle((0, 0, 64, 128), fill=(0, 0, 0, 255))
    editor = {"background": photo, "layers": [layer], "composite": photo}
    drawn = draw_panel.paint(drawing(tab, workspace, rows, task=task, image=photo, editor=editor))
    file = drawn[draw_panel.gallery]["value"][0][0]
    back = tab.restoring.take_record(dropped(tab, workspace, file))
    said = {
        part: back[getattr(draw_panel.form, part)]
        for part in ("prompt", "negative", "seed", "steps", "guidance")
    }
    assert said == {"prompt": PROMPT, "negative": "blur", "seed": 7, "steps": 2, "guidance": 3.0}
    assert (
        back[draw_panel.form.scheduler],
        back[draw_panel.form.task],
        back[draw_panel.form.strength],
    ) == (
        "Euler a",
        task,
        0.7,
    )
    assert (
        back[tab.combining.combine]["value"],
        back[tab.combining.density],
        back[tab.combining.rank],
    ) == ("ties", 0.3, 5)
    assert [Row(*row) for row in back[adapter_list.stored]] == rows
    if task == "image":
        assert back[draw_panel.form.image].tobytes() == photo.tobytes()
    if task == "inpaint":
        again = painted(back[draw_panel.form.editor])
        assert again is not None
        assert again.tobytes() == painted(editor).tobytes()
        assert back[draw_panel.form.editor]["background"].tobytes() == photo.tobytes()
    assert not back[draw_panel.notes]


def test_a_picture_that_was_guided_brings_its_guides_back(tab, workspace) -> None:
    photo = Image.new("RGB", (64, 64), (200, 30, 30))
    guides = tab.draw_panel.guides
    said = drawing(tab, workspace, [], combine="sum") | {
        guides.reference: [(photo, None)],
        guides.weight: 0.6,
        guides.reach: "style",
        guides.structure: photo,
        guides.until: 0.5,
    }
    file = tab.draw_panel.paint(said)[tab.draw_panel.gallery]["value"][0][0]
    back = tab.restoring.take_record(dropped(tab, workspace, file))
    (reference,) = back[guides.reference]
    assert reference.tobytes() == photo.tobytes()
    assert (back[guides.weight], back[guides.reach]) == (0.6, "style")
    assert back[guides.structure].tobytes() == photo.tobytes()
    assert (back[guides.strength], back[guides.until], back[guides.source]) == (1.0, 0.5, "picture")


def test_a_picture_whose_start_is_gone_says_so_and_the_rest_is_restored(tab, workspace) -> None:
    draw_panel = tab.draw_panel
    photo = Image.new("RGB", (128, 128), (200, 30, 30))
    form = drawing(tab, workspace, [], task="image", image=photo, combine="sum")
    file = draw_panel.paint(form)[draw_panel.gallery]["value"][0][0]
    workspace.delete_photos(workspace.photo_keys())
    back = tab.restoring.take_record(dropped(tab, workspace, file))
    assert "no longer in your workspace" in back[draw_panel.notes]
    assert (back[draw_panel.form.task], back[draw_panel.form.prompt]) == ("image", PROMPT)


def test_a_record_that_anyone_may_have_written_sets_nothing_it_should_not(
    tab, workspace, tmp_path
) -> None:
    nonsense = {
        "prompt": ["x"],
        "seed": -5,
        "steps": "many",
        "guidance": float("inf"),
        "task": "rm",
        "scheduler": "pickle",
        "combine": {},
        "density": 7,
        "rank": None,
        "strength": True,
        "adapters": [3, {"name": "../../x", "weight": 99, "blocks": [1]}, *[{}] * 20],
        "start": "../../etc/passwd",
        "base": 3,
    }
    info, file = PngInfo(), tmp_path / "x.png"
    info.add_text(KEY, json.dumps(nonsense))
    Image.new("RGB", (8, 8)).save(file, pnginfo=info)
    back = tab.restoring.take_record(dropped(tab, workspace, str(file)))
    draw_panel, adapter_list = tab.draw_panel, tab.adapter_list
    assert (
        back[draw_panel.form.prompt],
        back[draw_panel.form.seed],
        back[draw_panel.form.steps],
    ) == ("", 0, 20)
    assert (
        back[draw_panel.form.task],
        back[draw_panel.form.scheduler],
        back[draw_panel.form.guidance],
    ) == (
        "text",
        "",
        4.0,
    )
    assert (
        back[tab.combining.combine]["value"],
        back[tab.combining.density],
        back[tab.combining.rank],
    ) == ("sum", 1, 0)
    assert back[adapter_list.stored] == []
    assert "no longer in the library" in back[adapter_list.notes]


@pytest.mark.parametrize(
    ("name", "weight", "set_to", "told"),
    [
        ("crowned-dog", 0.8, 1.0, 0.15),
        ("crowned-dog", 0.8, 0.6, None),  # as somebody has set it
        ("crowned-dog", 0.0, 0.15, 1.0),
        ("neon", 1.0, 1.0, 1.0),  # a style, which is no subject
    ],
)
def test_a_reference_beside_a_taught_subject_weighs_little(
    tab, workspace, name, weight, set_to, told
) -> None:
    guides = tab.draw_panel.guides
    values = listed(tab, workspace, [Row(name, weight)]) | {guides.weight: set_to}
    (update,) = tab.draw_panel.weigh_reference(values).values()
    assert update.get("value") == told


def test_one_of_another_family_is_left_out_with_a_sentence_and_the_rest_draws(
    tab, workspace, ready
) -> None:
    """On the page, along a sweep, and by program; where all count, it is refused."""
    other = workspace.library.add(ready.described(family="sdxl", title="Large"), "Large").name
    said = "“Large” was made for sdxl, and Pocket"
    panel, rows = tab.draw_panel, [Row(other, 1.0), Row("crowned-dog", 0.8)]
    values = {part: getattr(part, "value", None) for part in panel.inputs}
    values |= combined(tab, workspace, rows)
    values |= {panel.form.prompt: "sks dog", panel.form.steps: 2, panel.dark: False}
    drawn = panel.paint(values)
    assert said in drawn[panel.notes]
    labels = tab.for_base(tab.adapter_list.visit(values), rows)
    left_out = ["Left out" in labels[label] for label in tab.adapter_list.labels[:2]]
    assert left_out == [True, False]
    assert [each.name for each in drawn[panel.records][0].adapters] == ["crowned-dog"]
    swept = panel.paint_grid(values, ("weight 1", ""))
    assert said in swept[panel.notes]
    assert "take it out" in panel.paint_grid(values, ("weight 0", ""))[panel.notes]

    asked = [
        AdapterRequest(name=other, blocks={"up_blocks.9": 0.5}),  # which this base does not have
        AdapterRequest(name="crowned-dog", weight=0.8),
    ]
    _, (record,) = draw_stack(asked, "sks dog", steps=2, session=workspace.id)
    _, (cells,) = sweep_stack(asked, "sks dog", session=workspace.id)
    assert len(cells) == 2  # the base, and the one that fits
    for told in (record, *cells):
        assert [note for note in told["notes"] if said in note]
    with pytest.raises(AdapterError, match="take it out"):
        save_stack(asked, "both", workspace.id)
