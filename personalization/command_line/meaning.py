"""What the arguments stand for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .progress import tell

if TYPE_CHECKING:
    from personalization.bases.base import Base
    from personalization.bases.catalog import BaseSpec
    from personalization.data.photos import Photo
    from personalization.recipe import Recipe
    from personalization.sampling.settings import Settings
    from personalization.sampling.sweep import Axis
    from personalization.sharing.publish import Prepared
    from personalization.stacking.stack import Stack
    from personalization.training.run import Run

SWEPT = {"weight": float, "guidance": float, "steps": int, "seed": int, "combine": str}


def prepared(chosen: Namespace) -> Prepared:
    """What will be uploaded. Raises what is wrong with what is asked."""
    from personalization.adapters.formats import read
    from personalization.evaluation.evidence import Evidence
    from personalization.evaluation.report import Report
    from personalization.evaluation.spectrum_files import Kept
    from personalization.sharing.licences import suggested
    from personalization.sharing.publish import Wish, prepare
    from personalization.training.run import Run

    run = Run.open(chosen.run) if chosen.run else None
    adapter = read(run.adapter_path if run else chosen.adapter)
    spec = spec_named(chosen.base or adapter.description.base)
    photos = tuple(p.image for p in run.concept.photos) if run and chosen.with_photos else ()
    licence = chosen.licence or suggested(spec.licence)
    wish = Wish(chosen.name, not chosen.public, licence, photos)
    report = Report.open(run.folder) if run else None
    judged = Evidence.open(run.folder, report, adapter.description) if run and report else None
    return prepare(adapter, spec, wish, report, judged, Kept.open(run.folder) if run else None)


def opened_run(chosen: Namespace, parser: ArgumentParser) -> tuple[Run, Base]:
    """The run in the folder, else a new one, with its base."""
    from personalization.training.run import Run

    if (chosen.run / "run.json").exists():
        run = Run.open(chosen.run)
        tell(f"The run in {chosen.run} goes on from step {run.state.step}.")
        return run, load_base(run.base)
    if chosen.photos and chosen.token:
        return new_run(chosen)
    parser.error(f"{chosen.run} holds no run: a new one needs --photos and --token.")


def new_run(chosen: Namespace) -> tuple[Run, Base]:
    """The run that the arguments ask for, on its base. Raises what is wrong with them."""
    from personalization.data.concept import Concept
    from personalization.training.start import start

    noun = chosen.noun.strip()
    concept = Concept(chosen.kind, chosen.token, noun, tuple(photos_in(chosen.photos)))
    base = load_base(chosen.base)
    return start(chosen.run, base, concept, recipe_of(chosen, base.spec)), base


def photos_in(path: Path) -> list[Photo]:
    """A folder's photos, or a single one. Those that cannot be read are named on stderr."""
    from personalization.data.photos import open_photos

    files = sorted(path.iterdir()) if path.is_dir() else [path]
    photos, errors = open_photos(f for f in files if not f.name.startswith(".") and not f.is_dir())
    for error in errors:
        tell(error)
    return photos


def recipe_of(chosen: Namespace, spec: BaseSpec) -> Recipe:
    """The file's recipe or the base's own for the method, with what is asked for in its place."""
    from personalization.errors import RecipeError
    from personalization.recipe import Recipe
    from personalization.training import presets

    if chosen.recipe:
        try:
            recipe = Recipe.from_json(chosen.recipe.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{chosen.recipe} cannot be read ({error}).") from error
    elif chosen.method == "textual_inversion":
        recipe = spec.recipes["word"]
    else:
        recipe = presets.recipe_of(spec, chosen.method, presets.Intent(chosen.kind))
    asked = {"steps": chosen.steps, "seed": chosen.seed}
    return recipe.changed(**{name: value for name, value in asked.items() if value is not None})


def load_base(name: str) -> Base:
    """The base of that name; the one that fits here where there is none. Raises `BaseError`."""
    from personalization.bases import load

    return load(spec_named(name))


def spec_named(name: str) -> BaseSpec:
    """What is known of that base, as `load_base` takes it. Raises `BaseError`."""
    from personalization.bases import best_device
    from personalization.training import base_selection

    default = base_selection.default(best_device())
    return default if name in ("", default.name) else base_selection.named(name)


def stack_and_base(chosen: Namespace) -> tuple[Stack, Base]:
    """The adapters with their weights, and the base that is named, or else that of the first.

    Whether they go together is not yet looked at.
    """
    from personalization.adapters.formats import read
    from personalization.stacking.stack import Slot, Stack

    slots = []
    for text in chosen.adapter:
        path, weight = path_and_weight(text)
        adapter = read(path)
        slots.append(Slot(adapter, adapter.description.strength if weight is None else weight))
    base = load_base(chosen.base or (slots[0].adapter.description.base if slots else ""))
    return Stack(tuple(slots), combine=chosen.combine), base


def path_and_weight(text: str) -> tuple[Path, float | None]:
    """``FILE:WEIGHT``, or ``FILE`` alone."""
    path, _, weight = text.rpartition(":")
    try:
        return (Path(path), float(weight)) if path else (Path(text), None)
    except ValueError:
        return Path(text), None


def settings_of(chosen: Namespace, count: int = 1) -> Settings:
    """What to draw."""
    from personalization.sampling.settings import Settings

    return Settings(
        chosen.prompt,
        negative=chosen.negative,
        seed=chosen.seed,
        count=count,
        steps=chosen.steps,
        guidance=chosen.guidance,
    )


def axis(text: str | None, parser: ArgumentParser) -> Axis | None:
    """``seed=1,2,3`` as an axis of a sweep."""
    from personalization.sampling.sweep import Axis

    if text is None:
        return None
    what, _, values = text.partition("=")
    if what not in SWEPT:
        parser.error(f"“{what}” cannot be swept: take one of {', '.join(SWEPT)}.")
    try:
        return Axis(what, tuple(SWEPT[what](value) for value in values.split(",")))  # type: ignore[arg-type]
    except ValueError:
        parser.error(f"“{values}” are no values of {what}: write them as {what}=1,2,3.")


def file_name(prompt: str, seed: int) -> str:
    """A picture's, by what it shows."""
    from personalization.workspaces.library import slug

    return f"{slug(prompt)[:60].strip('-')}-{seed}.png"
