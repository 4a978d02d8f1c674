"""The recorded run: ``python -m tests.record [EXAMPLE]``.

Starts the app with a home of its own, teaches the example's subject through it by the base's own
recipe, has it measured, and keeps the run's folder as assets/recorded/: a run is a folder, so what
the page shows of a recorded one is what it shows of any other. What only a run that goes on needs
(checkpoint, cache) is left out. Beside it lie pictures with the adapter from none of it to twice as
much, in strengths/, each with its record; ``--strengths`` draws these alone anew. And the same
photos are taught in every way, whose table and sheet stay; ``--spectrum`` does this alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from gradio_client import Client, handle_file

from personalization import Run, Settings, Slot, Stack, applied, draw, load, read
from personalization.bases.catalog import ASSETS
from personalization.evaluation import ways
from personalization.evaluation.spectrum_files import PART, SHEET, TABLE, TITLES
from personalization.events import Stage
from tests.support.server import running

FOLDER = ASSETS / "recorded"
KEPT = ("run.json", "state.json", "log.jsonl", "adapter.safetensors", "report.json")
PICTURES = ("photos", "seen", "previews", "pictures", "report")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# The subject in a place, elsewhere, in another medium; and its class, which should stay.
PROMPTS = ("a photo of {} on the beach", "{} on the moon", "a sketch of {}", "a photo of a {noun}")
REPORT = 60.0  # seconds of a report in the whole spectrum
PATIENCE = "900"  # seconds of the report: enough for every strength and several seeds on two cores


def record(url: str, example: Path) -> tuple[str, str]:
    """Teach and measure; returns the session and the run's name."""
    about = json.loads((example / "example.json").read_text())
    photos = [handle_file(str(path)) for path in sorted(example.glob("[0-9]*.png"))]
    app = Client(url, verbose=False)
    word = about["placeholder_token"]["subject"]
    status, _, _ = app.predict(
        photos, word, about["class_noun"], about["kind"], api_name="/train_subject"
    )
    measured, _, _ = app.predict(status["session"], status["run"], api_name="/report")
    print(measured["verdict"])
    return status["session"], status["run"]


def keep(run: Path, folder: Path) -> None:
    """What of the run's folder is shown, in place of what was recorded before."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in PICTURES:
        shutil.copytree(run / name, folder / name)
    for name in KEPT:
        shutil.copyfile(run / name, folder / name)


def draw_strengths(folder: Path) -> None:
    """The same prompts and seeds at each strength."""
    run, adapter = Run.open(folder), read(folder / "adapter.safetensors")
    base, words = load(run.base), run.concept.name
    shutil.rmtree(folder / "strengths", ignore_errors=True)
    for strength in STRENGTHS:
        stack = Stack((Slot(adapter, strength, library_name="recorded"),))
        with applied(base, stack):
            for index, prompt in enumerate(PROMPTS):
                said = prompt.format(words, noun=run.concept.class_noun)
                (picture,) = draw(base, Settings(said, seed=run.recipe.seed + index), stack=stack)
                picture.save(folder / "strengths" / f"{index}-{strength:.2f}.png")


def teach_spectrum(folder: Path) -> None:
    """Every way on the recorded run's photos; of it the table and what a page shows are kept."""
    with tempfile.TemporaryDirectory() as home:
        run = Run.open(shutil.copytree(folder, Path(home) / "run"))
        base = load(run.base)
        runs, missing = ways.queue(base, run)
        for event in ways.teaching(base, run, runs, missing, report_seconds=REPORT):
            if isinstance(event, Stage) and event.name in (*TITLES.values(), SHEET):
                print(event.name, f"{event.done} of {event.total}", flush=True)
        for name in (PART, TABLE):
            shutil.copyfile(run.folder / name, folder / name)


def teach(example: Path) -> None:
    """Record the example's run, in place of what was recorded before."""
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home), PERSONALIZATION_REPORT=PATIENCE) as app,
    ):
        session, run = record(app.url, example)
        keep(Path(home) / "workspaces" / session / "runs" / run, FOLDER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("example", nargs="?", default="crowned-dog")
    recorded = "of what was recorded before, alone"
    parser.add_argument("--strengths", action="store_true", help=recorded)
    parser.add_argument("--spectrum", action="store_true", help=recorded)
    arguments = parser.parse_args()
    anew = not (arguments.strengths or arguments.spectrum)
    if anew:
        teach(ASSETS / "examples" / arguments.example)
    if anew or arguments.strengths:
        draw_strengths(FOLDER)
    if anew or arguments.spectrum:
        teach_spectrum(FOLDER)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"assets/recorded: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
