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
from personalization.errors import StackError
from personalization.page.adapter_list import Row, kept, remember, stacked
from personalization.page.draw_panel import _axis
from personalization.page.exchange import files_of
from personalization.page.interference import interference, suggested
from personalization.page.pictures import painted
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


def test_a_rack_survives_the_browser_and_one_of_an_older_page_is_read() -> None:
    rows = [Row("a", 0.5, None, {"mid_block": 0.0}), Row("b", -1.0, 0.3)]
    assert remember(json.loads(json.dumps(kept(rows))), 0.5, -1.0) == rows
    assert remember([["a", 1.0]], 0.7, 1.0, 1.0) == [Row("a", 0.7)]


def test_weights_inside_an_adapter_reach_the_stack(workspace) -> None:
    rows = [Row("crowned-dog", 0.8, 0.0, {"mid_block": 0.5})]
    (slot,) = stacked("", workspace.library, rows, combine="ties", density=0.3).slots
    assert (slot.weight, slot.text_weight, slot.blocks) == (0.8, 0.0, {"mid_block": 0.5})
    with pytest.raises(StackError, match="between -2 and 2"):
        stacked("", workspace.library, [Row("crowned-dog", 1.5, None, {"mid_block": 2.0})])


def test_fine_weights_are_shown_and_kept_for_the_chosen_adapter_alone(tab) -> None:
    adapter_list = tab.adapter_list
    stored = kept([Row("a", 1.0), Row("b", 0.5)])
    changed = adapter_list.keep_fine("", stored, "b", 0.2, 1.0, 0.0, None, 1.0, 0.5)
    assert changed == [["a", 1.0, None, None], ["b", 0.5, 0.2, {"mid_block": 0.0}]]
    assert adapter_list.show_fine("", changed, "b") == [0.2, 1.0, 0.0, 1.0]
    assert adapter_list.show_fine("", changed, "a") == [None, 1.0, 1.0, 1.0]


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
    stored = kept([Row("crowned-dog", 0.7)])
    before = [entry.name for entry in workspace.library.list()]
    for name, said in bad_files(tmp_path, ready).items():
        file = str(tmp_path / f"{name}.safetensors")
        reply = tab.adapter_list.take_file(workspace.id, "", stored, file, 0.7)
        assert set(reply) == {tab.adapter_list.notes}
        assert said in reply[tab.adapter_list.notes], name
    assert [entry.name for entry in workspace.library.list()] == before
    good = tab.adapter_list.take_file(
        workspace.id, "", stored, str(tmp_path / "good.safetensors"), 0.7
    )
    assert [row[:2] for row in good[tab.adapter_list.adapter_list]] == [
        ["crowned-dog", 0.7],
        ["good", ready.description.strength],
    ]


def test_two_adapters_of_one_word_are_named_and_stay_on_the_rack(tab, workspace) -> None:
    word = workspace.library.get("neon")
    workspace.library.add(word.described(title="another"), "another")
    rows = kept([Row("neon", 1.0), Row("another", 1.0)])
    with pytest.raises(StackError, match="both define the word"):
        tab.adapter_list.taken(workspace.id, "", rows, "sum", 0.5, 0, 1.0, 1.0)
    assert (
        tab.adapter_list.taken(workspace.id, "", rows, "sum", 0.5, 0, 1.0, 0.0)[2][1].weight == 0.0
    )


def test_suggested_weights_go_onto_the_sliders_and_words_stay(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    names = ["crowned-dog", "neon", "twin"]
    reply = tab.adapter_list.suggest_weights(
        workspace.id, "", kept([Row(n, 1.0) for n in names]), 1, 1, 1
    )
    half = ready.description.strength / 2
    assert [row[1] for row in reply[tab.adapter_list.adapter_list]] == [half, 1.0, half]
    assert f"Lowered to {half:.0%}" in reply[tab.adapter_list.said_of_weights]
    assert "already" in suggested([0.4], [0.4])


def test_overlap_is_said_once_for_the_same_adapters(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    adapter_list = kept([Row("crowned-dog", 1.0), Row("twin", 0.2)])
    reply = tab.adapter_list.meet(workspace.id, adapter_list, [])
    assert "nearly the same" in reply[tab.adapter_list.meeting]
    assert tab.adapter_list.meeting not in tab.adapter_list.meet(
        workspace.id, adapter_list, reply[tab.adapter_list.met]
    )


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
    files, errors = files_of(workspace.library, "crowned-dog")
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
    files, errors = files_of(workspace.library, "flow")
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


def given(tab, workspace, rows: list[Row], **form) -> list:
    """The inputs of the easel's buttons, as the page sends them."""
    values = {
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
    } | form
    how = (form.pop("combine", "ties"), 0.3, 5)
    stack = [workspace.id, "", kept(rows), *how, *[row.weight for row in rows]]
    return [*[v for key, v in values.items() if key != "combine"], *stack]


@pytest.mark.parametrize("task", ["text", "image", "inpaint"])
def test_a_picture_dropped_back_brings_everything_back(tab, workspace, ready, task) -> None:
    workspace.library.add(ready.described(title="twin", placeholder_token="zwx"), "twin")
    draw_panel, adapter_list = tab.draw_panel, tab.adapter_list
    rows = [Row("crowned-dog", 0.8, 0.4, {"mid_block": 0.5}), Row("twin", -0.2, None, {})]
    photo = Image.new("RGB", (128, 128), (200, 30, 30))
    layer = Image.new("RGBA", (128, 128))
    ImageDraw.Draw(layer).rectangle((0, 0, 64, 128), fill=(0, 0, 0, 255))
    editor = {"background": photo, "layers": [layer], "composite": photo}
    drawn = draw_panel.paint(*given(tab, workspace, rows, task=task, image=photo, editor=editor))
    file = drawn[draw_panel.gallery]["value"][0][0]
    back = draw_panel.take_record(workspace.id, "", file)
    said = {
        part: back[getattr(draw_panel, part)]
        for part in ("prompt", "negative", "seed", "steps", "guidance")
    }
    assert said == {"prompt": PROMPT, "negative": "blur", "seed": 7, "steps": 2, "guidance": 3.0}
    assert (back[draw_panel.scheduler], back[draw_panel.task], back[draw_panel.strength]) == (
        "Euler a",
        task,
        0.7,
    )
    assert (
        back[adapter_list.combine]["value"],
        back[adapter_list.density],
        back[adapter_list.rank],
    ) == ("ties", 0.3, 5)
    assert [Row(*row) for row in back[adapter_list.adapter_list]] == rows
    if task == "image":
        assert back[draw_panel.image].tobytes() == photo.tobytes()
    if task == "inpaint":
        again = painted(back[draw_panel.editor])
        assert again is not None
        assert again.tobytes() == painted(editor).tobytes()
        assert back[draw_panel.editor]["background"].tobytes() == photo.tobytes()
    assert not back[draw_panel.notes]


def test_a_picture_whose_start_is_gone_says_so_and_the_rest_is_restored(tab, workspace) -> None:
    draw_panel = tab.draw_panel
    photo = Image.new("RGB", (128, 128), (200, 30, 30))
    form = given(tab, workspace, [], task="image", image=photo, combine="sum")
    file = draw_panel.paint(*form)[draw_panel.gallery]["value"][0][0]
    workspace.delete_photos(workspace.photo_keys())
    back = draw_panel.take_record(workspace.id, "", file)
    assert "no longer in your workspace" in back[draw_panel.notes]
    assert (back[draw_panel.task], back[draw_panel.prompt]) == ("image", PROMPT)


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
    back = tab.draw_panel.take_record(workspace.id, "", str(file))
    draw_panel, adapter_list = tab.draw_panel, tab.adapter_list
    assert (back[draw_panel.prompt], back[draw_panel.seed], back[draw_panel.steps]) == ("", 0, 20)
    assert (back[draw_panel.task], back[draw_panel.scheduler], back[draw_panel.guidance]) == (
        "text",
        "",
        4.0,
    )
    assert (
        back[adapter_list.combine]["value"],
        back[adapter_list.density],
        back[adapter_list.rank],
    ) == ("sum", 1, 0)
    assert back[adapter_list.adapter_list] == []
    assert "no longer in the library" in back[adapter_list.notes]
