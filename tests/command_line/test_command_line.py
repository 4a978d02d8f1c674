"""The command line does what the page does, on the same folders and files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from personalization.bases import CATALOG
from personalization.command_line import main
from personalization.command_line.meaning import path_and_weight
from personalization.command_line.progress import interruption
from personalization.recipe import LowRank, Recipe
from personalization.sampling.picture_record import read_record
from personalization.training.run import Run, State
from tests.support import tiny

PHOTOS = Path(__file__).parents[2] / "assets" / "examples" / "crowned-dog"
RECIPE = Recipe(LowRank(rank=1), 2, checkpoint_every=1)
DRAW = ["--prompt", "a photo of a dog", "--base", "pocket", "--steps", "1"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(RECIPE.to_json())
    return path


def new(folder: Path, *more: object) -> list[str]:
    words = ["--token", "sks", "--noun", "dog", "--kind", "creature", "--base", "pocket"]
    return ["train", "--run", str(folder), "--photos", str(PHOTOS), *words, *map(str, more)]


@pytest.mark.slow
def test_a_run_is_trained_drawn_with_swept_and_measured(tmp_path: Path, recipe: Path, capsys):
    folder, out = tmp_path / "run", tmp_path / "out"
    assert main(new(folder, "--recipe", recipe, "--seed", 3)) == 0
    run = Run.open(folder)
    printed, told = capsys.readouterr()
    assert printed == f"{run.adapter_path}\n"
    assert "example.json is not a picture" in told
    assert (run.concept.name, run.recipe.seed, run.state.status) == ("sks dog", 3, "finished")

    assert main(["train", "--run", str(folder)]) == 0  # again: it is there already
    assert "goes on from step 2" in capsys.readouterr().err

    adapter = f"{run.adapter_path}:0.5"
    assert main(["draw", *DRAW, "--adapter", adapter, "--seed", "7", "--out", str(out)]) == 0
    (picture,) = map(Path, capsys.readouterr().out.splitlines())
    record = read_record(picture)
    assert record is not None
    assert (record.seed, record.adapters[0].weight) == (7, 0.5)

    axes = ["--across", "weight=0,1", "--down", "seed=1,2"]
    assert main(["sweep", *DRAW, "--adapter", adapter, *axes, "--out", str(out)]) == 0
    (grid,) = map(Path, capsys.readouterr().out.splitlines())
    with Image.open(grid) as image:
        assert min(image.size) > 2 * CATALOG["pocket"].size

    assert main(["report", "--run", str(folder), "--seconds", "1"]) == 0
    *_, report = capsys.readouterr().out.splitlines()
    assert Path(report) == folder / "report.html"
    assert Path(report).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["draw", *DRAW, "--adapter", "nowhere.safetensors", "--out", "o"], "nowhere.safetensors"),
        (["draw", *DRAW, "--base", "no base", "--out", "o"], "“no base” is no base"),
        (["report", "--run", "nowhere"], "holds no run that can be read"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(arguments, sentence, capsys):
    assert main(arguments) == 1
    printed, told = capsys.readouterr()
    assert not printed
    assert sentence in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--token", "s k s"], "has a space"),
        (["--token", "cat"], "knows the word “cat” already"),
        (["--noun", ""], "class noun is empty"),
        (["--photos", "nowhere"], "nowhere is no longer there"),
        (["--steps", "0"], "steps is 0"),
        (["--recipe", __file__], "not a recipe"),
        (["--recipe", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_a_run_that_cannot_start_leaves_no_folder(tmp_path: Path, more, sentence, capsys):
    assert main(new(tmp_path / "run", *more)) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required"),
        (["paint"], "invalid choice"),
        (["train", "--run", "nowhere"], "a new one needs --photos and --token"),
        (["train", "--run", "r", "--method", "dora", "--recipe", "x"], "not allowed with"),
        (["sweep", *DRAW, "--across", "size=1", "--out", "o"], "“size” cannot be swept"),
        (["sweep", *DRAW, "--across", "seed=a", "--out", "o"], "“a” are no values of seed"),
    ],
)
def test_a_wrong_call_is_told_what_is_missing(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_report_needs_a_run_that_has_finished(tmp_path: Path, capsys):
    run = Run.create(tmp_path, tiny.concept(), RECIPE, "pocket")
    run.set_state(State("running", 1))
    assert main(["report", "--run", str(tmp_path)]) == 1
    assert "has not finished" in capsys.readouterr().err


def test_a_damaged_run_is_told_and_kept(tmp_path: Path, capsys):
    Run.create(tmp_path, tiny.concept(), RECIPE, "pocket")
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"format": 3}))
    assert main(new(tmp_path)) == 1
    assert "a later version of the app" in capsys.readouterr().err


def test_the_first_interruption_asks_to_stop_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruption() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_files_weight_stands_behind_its_name() -> None:
    assert path_and_weight("a.safetensors:0.5") == (Path("a.safetensors"), 0.5)
    assert path_and_weight("a.safetensors") == (Path("a.safetensors"), None)
    assert path_and_weight("C:a.safetensors") == (Path("C:a.safetensors"), None)
