"""The example photos and the ready adapters in assets/, made by the app's own means.

    python -m personalization.pocket.examples [--photos]

Photos are drawn by the world; adapters are taught from them with the recipes that visitors get.
To be run again whenever the pocket's weights change: an adapter belongs to its base.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from personalization import bases
from personalization.adapters.adapter import read
from personalization.adapters.formats import diffusers_metadata
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.bases.recipes import Purpose
from personalization.data.concept import Concept, Kind
from personalization.data.photos import open_photos
from personalization.evaluation.evaluate import reporting
from personalization.events import Finished, StepDone
from personalization.files import write_atomically
from personalization.pocket.world import SUBJECTS, Scene
from personalization.pocket.world import draw as draw_scene
from personalization.pocket.world.subjects import STYLE_SUBJECTS, held_out_word_scenes
from personalization.sampling.generate import draw
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training import loop
from personalization.training.run import Run

PHOTOS = ASSETS / "examples"
ADAPTERS = ASSETS / "adapters"
PHOTO_SIZE = 256  # pixels: twice what the pocket sees, so that they look like photos on the page
SEED = 2026


@dataclass(frozen=True)
class Example:
    """A set of photos, and what it fills into the form."""

    folder: str
    title: str
    kind: Kind
    class_noun: str
    scenes: list[Scene]
    tabs: tuple[str, ...] = ("word", "subject")
    placeholder_token: str = "sks"
    word: str = "<my-word>"

    def write(self) -> None:
        """Draw the photos, with what fills the form beside them."""
        folder = PHOTOS / self.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for index, scene in enumerate(self.scenes):
            # A palette of 96 colours shows no difference in flat drawings, at a third of the size.
            picture = draw_scene(scene, PHOTO_SIZE).quantize(96, method=Image.Quantize.MEDIANCUT)
            picture.save(folder / f"{index}.png", optimize=True)
        about = {
            "title": self.title,
            "kind": self.kind,
            "class_noun": self.class_noun,
            "tabs": self.tabs,
            "placeholder_token": {"word": self.word, "subject": self.placeholder_token},
        }
        write_atomically(folder / "example.json", json.dumps(about, indent=1) + "\n")


def examples() -> list[Example]:
    """Held-out subjects, a look that lost its word, and a held-out style."""
    return [
        Example("crowned-dog", "a dog with a crown", "creature", "dog",
                SUBJECTS["pocket"].scenes(5, SEED), word="<king>"),
        Example("hearts-bear", "a bear full of hearts", "creature", "bear",
                SUBJECTS["valentine"].scenes(5, SEED), word="<sweetheart>"),
        Example("owl", "an owl, which it never saw", "creature", "bird",
                SUBJECTS["professor"].scenes(5, SEED), word="<professor>"),
        Example("neon", "a look without a word", "style", "cartoon",
                held_out_word_scenes("neon", 5, SEED), tabs=("word",), word="<glow>"),
        Example("pixel-art", "a look: pixel art", "style", "cartoon",
                STYLE_SUBJECTS["pixel art"].scenes(5, SEED), tabs=("subject",)),
    ]  # fmt: skip


READY: tuple[tuple[str, Purpose, str], ...] = (
    ("neon", "word", "Neon, the look that lost its word"),
    ("crowned-dog", "subject", "The dog with the crown"),
)


def train(example: Example, purpose: Purpose, title: str) -> None:
    """A ready adapter, and the pictures that the page shows beside its photos."""
    spec = CATALOG["pocket"]
    base = bases.load(spec)
    photos, _ = open_photos(sorted((PHOTOS / example.folder).glob("*.png")))
    placeholder_token = example.word if purpose == "word" else example.placeholder_token
    concept = Concept(example.kind, placeholder_token, example.class_noun, tuple(photos))
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", concept, spec.recipes[purpose], spec.name)
        for event in loop.train(base, run):
            if isinstance(event, StepDone) and event.step % 25 == 0:
                print(f"{title}: step {event.step} of {event.steps}, loss {event.loss:.3f}")
            elif isinstance(event, Finished):
                print(f"{title}: {event.seconds:.0f} s")
        for _ in reporting(base, run):  # its recommended strength
            pass
        adapter = read(run.adapter_path).described(title=title)
        ADAPTERS.mkdir(parents=True, exist_ok=True)
        adapter.save(
            ADAPTERS / f"{example.folder}.safetensors", metadata=diffusers_metadata(adapter)
        )
    words = adapter.description.trigger
    prompts = (
        [f"a {thing}, {words} style" for thing in ("cat", "house", "robot")]
        if example.kind == "style"
        else [f"a photo of {words}{place}" for place in ("", " in the snow", " in the city")]
    )
    with applied(base, Stack((Slot(adapter, adapter.description.strength),))):
        for index, prompt in enumerate(prompts):
            picture = draw(base, Settings(prompt, seed=SEED + index))[0]
            picture.save(ADAPTERS / example.folder / f"{index}.png")


def main() -> None:
    """Write the examples, and teach the adapters that are ready from the start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", action="store_true", help="the photos only, no adapters")
    parser.add_argument("--only", help="the adapter of this example only")
    arguments = parser.parse_args()
    sets = {example.folder: example for example in examples()}
    for example in sets.values():
        example.write()
    if not arguments.photos:
        for folder, purpose, title in READY:
            if arguments.only in (None, folder):
                train(sets[folder], purpose, title)


if __name__ == "__main__":
    main()
