"""The stack tab's handlers, called as the page calls them: what they show, refuse and keep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from personalization import formats
from personalization.adapter import Adapter
from personalization.errors import StackError
from personalization.merge import overlaps
from personalization.page.easel import _axis, painted
from personalization.page.exchange import files_of
from personalization.page.interference import interference, suggested
from personalization.page.rack import Row, kept, remember, stacked
from personalization.sweep import STRENGTHS, Axis
from tests import adapters


@pytest.fixture(scope="module")
def tab():
    import app

    return app.stack_tab


@pytest.fixture
def workspace():
    from personalization.page.common import WORKSPACES

    workspace = WORKSPACES.new()
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
    rack = tab.rack
    stored = kept([Row("a", 1.0), Row("b", 0.5)])
    changed = rack.keep_fine("", stored, "b", 0.2, 1.0, 0.0, None, 1.0, 0.5)
    assert changed == [["a", 1.0, None, None], ["b", 0.5, 0.2, {"mid_block": 0.0}]]
    assert rack.show_fine("", changed, "b") == [0.2, 1.0, 0.0, 1.0]
    assert rack.show_fine("", changed, "a") == [None, 1.0, 1.0, 1.0]


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
        "pickle": "is a pickle",
        "short": "is cut short",
        "liar": "its header claims",
        "empty": "its header claims",
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
        reply = tab.rack.take_file(workspace.id, "", stored, file, 0.7)
        assert set(reply) == {tab.rack.notes}
        assert said in reply[tab.rack.notes], name
    assert [entry.name for entry in workspace.library.list()] == before
    good = tab.rack.take_file(workspace.id, "", stored, str(tmp_path / "good.safetensors"), 0.7)
    assert [row[:2] for row in good[tab.rack.rack]] == [["crowned-dog", 0.7], ["good", 1.0]]


def test_two_adapters_of_one_word_are_named_and_stay_on_the_rack(tab, workspace) -> None:
    word = workspace.library.get("neon")
    workspace.library.add(word.described(title="another"), "another")
    rows = kept([Row("neon", 1.0), Row("another", 1.0)])
    with pytest.raises(StackError, match="both define the word"):
        tab.rack.taken(workspace.id, "", rows, "sum", 0.5, 0, 1.0, 1.0)
    assert tab.rack.taken(workspace.id, "", rows, "sum", 0.5, 0, 1.0, 0.0)[2][1].weight == 0.0


def test_suggested_weights_go_onto_the_sliders_and_words_stay(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", token="zwx"), "twin")
    names = ["crowned-dog", "neon", "twin"]
    reply = tab.rack.suggest_weights(workspace.id, "", kept([Row(n, 1.0) for n in names]), 1, 1, 1)
    assert [row[1] for row in reply[tab.rack.rack]] == [0.5, 1.0, 0.5]
    assert "Lowered to 50%" in reply[tab.rack.said_of_weights]
    assert "already" in suggested([0.4], [0.4])


def test_overlap_is_said_once_for_the_same_adapters(tab, workspace, ready) -> None:
    workspace.library.add(ready.described(title="twin", token="zwx"), "twin")
    rack = kept([Row("crowned-dog", 1.0), Row("twin", 0.2)])
    reply = tab.rack.meet(workspace.id, rack, [])
    assert "nearly the same" in reply[tab.rack.meeting]
    assert tab.rack.meeting not in tab.rack.meet(workspace.id, rack, reply[tab.rack.met])


def test_interference_is_drawn_by_layer_and_what_was_named_stays_text() -> None:
    bad = "<img src=x>"
    three = [adapters.make(seed=i) for i in range(3)]
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
