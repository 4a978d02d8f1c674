"""What takes more than ten minutes is asked about first: of visitors by a button, of programs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from personalization.adapters.adapter import Adapter, Description
from personalization.bases import CATALOG
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.errors import RecipeError
from personalization.evaluation.evaluate import expected_seconds
from personalization.evaluation.plan import PLANS
from personalization.page import endpoints, long_work
from personalization.page.long_work import check_confirmed, drawing_seconds, sheet_seconds
from personalization.page.session import workspaces
from personalization.page.stack_endpoints import AxisRequest, draw_stack, sweep_stack
from personalization.sampling.settings import Settings
from personalization.sampling.sweep import Axis, Sweep
from personalization.stacking.regions import HALVES, Box, Region
from personalization.stacking.stack import Slot, Stack
from personalization.training.run import Run, State
from tests.support import tiny
from tests.support.server import ROOT

PHOTOS = sorted((ROOT / "assets" / "examples" / "crowned-dog").glob("*.png"))[:3]


def adapter(box: Box | None) -> Slot:
    about = Description("lora", "sd1", title="a dog")
    region = Region(box, "a dog") if box else None
    return Slot(Adapter(about, {"x": torch.zeros(1)}), region=region)


def sweep(*guidance: float) -> Sweep:
    return Sweep(Stack(()), Settings("a dog", steps=30), Axis("guidance", guidance))


def test_a_sheet_takes_what_its_pictures_take() -> None:
    sd15 = CATALOG["sd15"]
    one = drawing_seconds(sd15, Settings("a dog", steps=30, guidance=4.0))
    assert one
    assert sheet_seconds(sd15, sweep(4.0, 4.0, 4.0)) == pytest.approx(3 * one)


@pytest.mark.parametrize(
    ("stack", "passes"),
    [
        (Stack((adapter(HALVES["left"]), adapter(HALVES["right"]))), 2),
        (Stack((adapter(HALVES["left"]), adapter(None))), 2),  # and what is outside of it
        (Stack((adapter(None), adapter(None), adapter(None)), combine="composite"), 3),
        (Stack((adapter(None), adapter(None))), 1),
    ],
)
def test_a_picture_takes_as_long_as_the_stack_asks_the_model_often(
    stack: Stack, passes: int
) -> None:
    sd15, settings = CATALOG["sd15"], Settings("a dog", steps=30)
    alone = drawing_seconds(sd15, settings)
    assert alone
    assert drawing_seconds(sd15, settings, stack) == pytest.approx(passes * alone)
    assert ("up to" in " ".join(long_work.passes(stack))) == (passes > 1)
    plan = Sweep(stack, settings, Axis("guidance", (4.0, 5.0)))
    of_two = drawing_seconds(sd15, replace(settings, guidance=4.0), stack)
    assert of_two
    assert sheet_seconds(sd15, plan) == pytest.approx(2 * of_two)


def test_a_program_is_refused_with_the_time_until_it_confirms() -> None:
    check_confirmed(599.0, confirm=False)
    check_confirmed(None, confirm=False)
    check_confirmed(36000.0, confirm=True)
    with pytest.raises(
        RecipeError, match=r"takes about 2\.0 h on this machine\. .*confirm as true"
    ):
        check_confirmed(7200.0, confirm=False)


def test_the_page_asks_before_a_long_sheet_and_goes_on_with_its_axes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import app

    panel = app.stack_tab.draw_panel
    values: dict[Any, Any] = {panel.adapter_list.base: "sd15"}
    asked = panel.too_long_a_sheet(values, sweep(*[4.0] * 60), ("guidance", ""))
    assert asked is not None
    assert "Drawing 60 pictures takes" in asked[panel.long.note]
    assert asked[panel.asked_of] == ("guidance", "")
    drawn: list[Any] = []
    monkeypatch.setattr(panel, "paint_grid", lambda *given, told: drawn.append((given, told)) or {})
    panel.paint_all_the_same({**values, panel.asked_of: ["guidance", ""]})
    assert drawn == [(({**values, panel.asked_of: ["guidance", ""]}, ("guidance", "")), True)]


def trained() -> tuple[str, str]:
    """The session and the name of a run that is not measured."""
    workspace = workspaces().new()
    concept = Concept("object", "sks", "dog", tiny.photos(3))
    recipe = CATALOG["pocket"].recipes["subject"]
    run = Run.create(workspace.new_run_folder(concept.name), concept, recipe, "pocket")
    run.set_state(State("finished", recipe.steps, 1.0))
    return workspace.id, run.folder.name


def test_what_a_report_takes_is_what_its_pictures_take(monkeypatch: pytest.MonkeyPatch) -> None:
    sd15, cpu = CATALOG["sd15"], torch.device("cpu")
    monkeypatch.setattr("personalization.sampling.pace.previewed", lambda *_: 10.0)
    least = PLANS[-1]
    for word in (True, False):
        told = expected_seconds(sd15, cpu, word=word, seconds=60)
        assert told == 10 * least.pictures(word=word)  # none is as cheap as that
    assert expected_seconds(sd15, cpu, word=False, seconds=1e6) == 10 * PLANS[0].pictures(
        word=False
    )


@pytest.mark.parametrize("name", ["draw", "sweep", "word", "subject", "report"])
def test_every_endpoint_that_works_long_asks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(long_work, "LONG", 0.0)  # so that the pocket takes long
    photos = [str(path) for path in PHOTOS]
    calls: dict[str, Any] = {
        "draw": lambda: draw_stack([], "a dog"),
        "sweep": lambda: sweep_stack(
            [], "a dog", AxisRequest(what="guidance", values=[1.0, 2.0], slot=0)
        ),
        "word": lambda: next(endpoints.train_word(photos, "<w>", "dog")),
        "subject": lambda: next(endpoints.train_subject(photos, "sks", "dog")),
        "report": lambda: next(endpoints.report(*trained())),
    }
    with pytest.raises(RecipeError, match="confirm as true") as caught:
        calls[name]()
    assert caught.value.field == "confirm"


def test_a_confirmed_drawing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "LONG", 0.0)
    pictures, records = draw_stack([], "a dog", steps=1, confirm=True)
    assert len(pictures) == len(records) == 1


def test_what_is_asked_before_a_run_and_what_the_form_says_are_of_the_same_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import app

    monkeypatch.setattr("personalization.page.training_tab.LONG", 0.0)
    tab = app.subject_tab
    workspace = workspaces().new()
    photos = [Photo(path.name, Image.open(path).convert("RGB")) for path in PHOTOS]
    values: dict[Any, Any] = {part: part.value for part in tab.form.inputs}
    values |= {tab.stored.keys: workspace.save_photos(photos), tab.photos.captions: ""}
    values |= {tab.word.kind: "creature", tab.word.placeholder_token: "sks"}
    values |= {tab.word.class_noun: "dog", tab.base: "pocket", tab.visitor: workspace.id}
    values |= {tab.photos.framing: "shape", tab.photos.resolution: 0}
    values[tab.form.parts["steps"]] = 725
    asked = tab.begin(values)
    duration = re.search(r"takes (about [\d.]+ \w+) on this", asked[tab.long.note])
    assert duration
    assert duration[1] in asked[tab.estimate].replace("About", "about")
    assert not workspace.runs()
    workspace.delete()
