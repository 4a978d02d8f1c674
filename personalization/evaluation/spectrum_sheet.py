"""The sheet of the whole spectrum: rows the ways, columns the same prompts and seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from personalization.adapters import adapter as adapters
from personalization.adapters.adapter import Adapter
from personalization.bases.base import Base
from personalization.data.frames import square
from personalization.evaluation.evaluate import sampling_of, untrained_guides
from personalization.evaluation.plan import Plan, seeds_of
from personalization.evaluation.prompts import Prompt, eval_prompts
from personalization.evaluation.renderer import ImageCache
from personalization.evaluation.spectrum_files import SHEET, TITLES
from personalization.events import SliceEnded, Stage
from personalization.files import size_words
from personalization.sampling import generate
from personalization.sampling.guides import NO_GUIDES, Guides
from personalization.sampling.guiding import guided
from personalization.sampling.image_grid import image_grid
from personalization.stacking.application import applied
from personalization.stacking.stack import Slot, Stack
from personalization.training.run import Run

UNTRAINED = "no training"
PROMPTS = 4
LEAST = 3.0  # seconds: with less of a slice left nothing is begun


def drawing(
    base: Base, run: Run, runs: Mapping[str, Run], out_of_time: Callable[[float], bool]
) -> Generator[Stage | SliceEnded, None, Image.Image | None]:
    """The sheet; its first row without training where the base reads a reference.

    Last in a row the class without the word. `out_of_time(seconds)`: whether so many are too many
    now; then there is none yet, and what was drawn is kept until there is.
    """
    taught = {way: adapters.read(each.adapter_path) for way, each in runs.items()}
    crops = [square(photo, base.spec.size, run.recipe.framing) for photo in run.concept.photos]
    guides = untrained_guides(base, crops, run.concept.kind)
    asked = _prompts(next(iter(taught.values())))
    rows: list[_Row] = []
    if guides is not NO_GUIDES:
        key = f"{UNTRAINED}/{run.photo_hashes[0]}"
        rows.append(_Row(UNTRAINED, key, [prompt.of_class for prompt in asked], guides=guides))
    for way, adapter in taught.items():
        label = f"{TITLES[way]}, {size_words(runs[way].adapter_path.stat().st_size)}"
        prompts = [prompt.of_subject for prompt in _prompts(adapter)]
        key = f"{adapter.sha256}/{adapter.description.strength:g}"
        rows.append(_Row(label, key, [*prompts, asked[0].of_class], adapter))
    cache = run.folder / "cache"
    cache.mkdir(exist_ok=True)
    kept = ImageCache(cache / "sheet")
    kept.agree(Plan(prompts=PROMPTS))
    drawn: list[list[Image.Image]] = []
    needed = LEAST
    for row in rows:
        yield Stage(SHEET, len(drawn), len(rows))
        if out_of_time(needed):
            yield SliceEnded(len(drawn), len(rows))
            return None
        began = time.monotonic()
        drawn.append(row.drawn(base, kept))
        needed = max(needed, 1.5 * (time.monotonic() - began))
    kept.delete()
    yield Stage(SHEET, len(rows), len(rows))
    columns = [prompt.of_class for prompt in asked] + [f"{asked[0].of_class}, without the word"]
    return image_grid(drawn, [row.label for row in rows], columns)


@dataclass(frozen=True)
class _Row:
    """A row of the sheet: as the report draws, at the adapter's own strength."""

    label: str
    key: str  # what its pictures depend on, beside base, prompt and seed
    prompts: Sequence[str]
    adapter: Adapter | None = None
    guides: Guides = NO_GUIDES

    def drawn(self, base: Base, kept: ImageCache) -> list[Image.Image]:
        """Its pictures, anew or as they were kept."""
        seeds = [*seeds_of(PROMPTS), seeds_of(1)[0]][: len(self.prompts)]
        asked = zip(self.prompts, seeds, strict=True)
        keys = [f"{base.fingerprint}/{self.key}/{seed}/{prompt}" for prompt, seed in asked]
        found = [picture for picture in map(kept.get, keys) if picture]
        if len(found) == len(keys):
            return found
        settings = sampling_of(base)
        slots = (Slot(self.adapter, self.adapter.description.strength),) if self.adapter else ()
        with (
            applied(base, Stack(slots)),
            guided(base, self.guides, guidance=settings.guidance or 0.0),
        ):
            pictures = generate.draw_each(base, self.prompts, seeds, settings)
        for key, picture in zip(keys, pictures, strict=True):
            kept.put(key, picture)
        return pictures


def _prompts(adapter: Adapter) -> list[Prompt]:
    return eval_prompts(adapter.description, PROMPTS)
