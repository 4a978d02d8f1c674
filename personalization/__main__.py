"""The command line: what the page does, on the same run folders and recipe files.

Exit codes: 0, it is done; 1, it cannot be done, and a sentence says why; 2, a wrong call; 130,
interrupted, with what was learned kept.

What takes seconds to import is imported once the arguments are read.
"""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, get_args

from tqdm import tqdm

from personalization import __version__
from personalization.data.concept import Kind
from personalization.errors import PersonalizationError
from personalization.events import Finished, Stage, StepDone
from personalization.recipe import LowRankKind

if TYPE_CHECKING:
    from personalization.bases.base import Base
    from personalization.bases.catalog import BaseSpec
    from personalization.data.photos import Photo
    from personalization.evaluation.report import Report
    from personalization.recipe import Recipe
    from personalization.sampling.settings import Settings
    from personalization.sampling.sweep import Axis
    from personalization.sharing.publish import Prepared
    from personalization.stacking.stack import Stack
    from personalization.training.run import Run

METHODS = ("textual_inversion", *get_args(LowRankKind), "full")
SWEPT = {"weight": float, "guidance": float, "steps": int, "seed": int, "combine": str}
INTERRUPTED = 128 + signal.SIGINT


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    try:
        return chosen.command(chosen, parser) or 0
    except (PersonalizationError, OSError) as error:
        tell(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


# The arguments


def build_parser() -> ArgumentParser:
    """All commands and what they take."""
    parser = ArgumentParser(
        "personalization", description="Teach a text-to-image model from photos."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands.add_parser("train", help="teach a word or a subject, or go on with a run"))
    add_draw(commands.add_parser("draw", help="draw pictures, with adapters or without"))
    add_sweep(commands.add_parser("sweep", help="draw one picture along one or two settings"))
    publishing = "put an adapter on the Hugging Face Hub, as who `hf auth login` says"
    add_publish(commands.add_parser("publish", help=publishing))
    add_report(commands.add_parser("report", help="measure how well a finished run has learned"))
    add_spectrum(commands.add_parser("spectrum", help="teach a run's photos in every way"))
    return parser


def add_train(parser: ArgumentParser) -> None:
    """What a run is made of. A run that exists needs none of it but its folder."""
    parser.set_defaults(command=train_command)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder, new or begun")
    parser.add_argument("--photos", type=Path, help="a folder of photos, or one photo")
    parser.add_argument("--token", help="the word that will stand for it, such as sks")
    parser.add_argument("--noun", default="", help="what it is, or starts from, such as dog")
    parser.add_argument("--kind", choices=get_args(Kind), default="object")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--method", choices=METHODS, default="lora", help="by the base's own recipe")
    how.add_argument("--recipe", type=Path, help="a recipe's file, as the page saves it")
    parser.add_argument("--steps", type=int, help="in place of the recipe's")
    parser.add_argument("--seed", type=int, help="in place of the recipe's")
    add_base(parser)


def add_base(parser: ArgumentParser) -> None:
    """Which base."""
    parser.add_argument(
        "--base", default="", help="a base's name, or its repository; by default what fits here"
    )


def add_picture(parser: ArgumentParser) -> None:
    """What a picture is drawn with, and where it goes."""
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative", default="", help="what is not to be in it")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="may be repeated; by default at the weight that the file recommends",
    )
    parser.add_argument("--combine", default="sum", help="how several adapters are combined")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of the sampler; by default the base's")
    parser.add_argument("--guidance", type=float, help="by default the base's")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the pictures")
    add_base(parser)


def add_draw(parser: ArgumentParser) -> None:
    """A picture, or several."""
    parser.set_defaults(command=draw_command)
    add_picture(parser)
    parser.add_argument("--count", type=int, default=1, help="pictures, each at the next seed")


def add_sweep(parser: ArgumentParser) -> None:
    """A picture, and what changes from one to the next."""
    parser.set_defaults(command=sweep_command)
    add_picture(parser)
    values = f"WHAT is one of {', '.join(SWEPT)}"
    for name, default in (("--across", "the first adapter's weight"), ("--down", "one row")):
        parser.add_argument(name, metavar="WHAT=VALUE,...", help=f"{values}; by default {default}")


def add_report(parser: ArgumentParser) -> None:
    """Which run, and how long it may take."""
    parser.set_defaults(command=report_command)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--seconds", type=float, default=60.0, help="that it may take, about")


def add_publish(parser: ArgumentParser) -> None:
    """What is published, as what, and who sees it."""
    parser.set_defaults(command=publish_command)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="a run's folder: its adapter, with its report")
    what.add_argument("--adapter", type=Path, help="an adapter's file")
    parser.add_argument("--name", required=True, help="of the repository, without its owner")
    parser.add_argument(
        "--public", action="store_true", help="for everybody; else you alone see it"
    )
    parser.add_argument("--licence", default="", help="by default what the base's own suggests")
    parser.add_argument("--with-photos", action="store_true", help="upload the run's photos too")
    parser.add_argument("--look", action="store_true", help="print the card, and publish nothing")
    add_base(parser)


def add_spectrum(parser: ArgumentParser) -> None:
    """Which run, and what to leave out."""
    from personalization.evaluation.spectrum_files import TITLES

    parser.set_defaults(command=spectrum_command)
    parser.add_argument("--run", type=Path, required=True, help="the finished run's folder")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=list(TITLES), help="ways to leave out"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each report, about")


# The commands


def train_command(chosen: Namespace, parser: ArgumentParser) -> int:
    """Start a run, or go on with the one in the folder; print its adapter.

    Of several processes (`accelerate launch`) the first does that, and the others compute along.
    """
    from personalization.training import processes
    from personalization.training.loop import train
    from personalization.training.run import Run

    with processes.together(), interruption() as stop:
        if processes.first():
            run, base = opened_run(chosen, parser)
            processes.agreed()
            done = last(shown(train(base, run, stop=stop)))
        else:
            processes.agreed()  # the folder is there
            run = Run.open(chosen.run, writes=False)
            last(train(load_base(run.base), run))
            return 0
    if isinstance(done, Finished):
        print(done.adapter)
        return 0
    tell(f"Stopped. The run is kept up to step {run.state.step}: the same command continues it.")
    return INTERRUPTED


def draw_command(chosen: Namespace, _parser: ArgumentParser) -> None:
    """Draw pictures and print their files."""
    from personalization.sampling.generate import draw
    from personalization.stacking.application import applied

    stack, base = stack_and_base(chosen)
    settings = settings_of(chosen, count=chosen.count)
    with applied(base, stack), Bar() as bar:
        step = partial(bar.show, "drawing")
        pictures = draw(base, settings, stack=stack, on_step=step)
    for picture in pictures:
        print(picture.save(chosen.out / file_name(chosen.prompt, picture.record.seed)))


def sweep_command(chosen: Namespace, parser: ArgumentParser) -> None:
    """Draw a grid, and print its file."""
    from personalization.sampling.sweep import STRENGTHS, Axis, Grid, Sweep, sweeping

    across, down = (axis(text, parser) for text in (chosen.across, chosen.down))
    stack, base = stack_and_base(chosen)
    across = across or Axis("weight", STRENGTHS)
    grid = last(shown(sweeping(base, Sweep(stack, settings_of(chosen), across, down))))
    assert isinstance(grid, Grid)
    path = chosen.out / file_name(f"{chosen.prompt} sweep", chosen.seed)
    print(grid.sheet().save(path))


def report_command(chosen: Namespace, _parser: ArgumentParser) -> None:
    """Measure a finished run; print its verdict and the report's file."""
    from personalization.errors import RunError
    from personalization.evaluation.evaluate import reporting
    from personalization.training.run import Run

    run = Run.open(chosen.run)
    if run.state.status != "finished":
        raise RunError(f"The run in {chosen.run} has not finished. Train it to its end first.")
    base = load_base(run.base)
    run.clear_stop()  # it ended the learning, not the report
    report: Report = last(shown(reporting(base, run, seconds=chosen.seconds)))
    print(report.verdict)
    print(run.folder / "report.html")


def publish_command(chosen: Namespace, _parser: ArgumentParser) -> None:
    """Publish an adapter, and print where it is; or print the card as it will be."""
    from personalization.sharing.upload import own_token, upload

    made = prepared(chosen)
    if chosen.look:
        print(made.card)
        return
    done = upload(made, own_token())
    for change in done.changes:
        tell(change)
    print(done.address)


def spectrum_command(chosen: Namespace, _parser: ArgumentParser) -> None:
    """Teach a run's photos in every way; print what came of it and the sheet's file."""
    from personalization.evaluation import ways
    from personalization.training.run import Run

    run = Run.open(chosen.run)
    base = load_base(run.base)
    runs, missing = ways.queue(base, run, chosen.without)
    seconds = ways.seconds(base, runs)
    tell(f"{len(runs)} ways" + (f", about {seconds / 60:.0f} minutes." if seconds else "."))
    events = ways.teaching(base, run, runs, missing, report_seconds=chosen.seconds)
    spectrum = last(shown(events))
    assert isinstance(spectrum, ways.Spectrum)
    print(spectrum.comparison.verdict)
    print(run.folder / "spectrum.html")


# What the arguments stand for


def prepared(chosen: Namespace) -> Prepared:
    """What will be uploaded. Raises what is wrong with what is asked."""
    from personalization.adapters.formats import read
    from personalization.evaluation.evidence import Evidence
    from personalization.evaluation.report import Report
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
    return prepare(adapter, spec, wish, report, judged)


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
    """The adapters with their weights, on the base that is named, or else that of the first."""
    from personalization.adapters.formats import read
    from personalization.stacking.stack import Slot, Stack

    slots = []
    for text in chosen.adapter:
        path, weight = path_and_weight(text)
        adapter = read(path)
        slots.append(Slot(adapter, adapter.description.strength if weight is None else weight))
    base = load_base(chosen.base or (slots[0].adapter.description.base if slots else ""))
    return Stack(tuple(slots), combine=chosen.combine).check(base.spec), base


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


# What is told meanwhile


def tell(sentence: object) -> None:
    """Beside the results, which are all that stdout gets."""
    print(sentence, file=sys.stderr)


class Bar:
    """How far the work is, on a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self.part = ""
        self.bar: tqdm[Any] = tqdm(disable=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, part: str, done: int, total: int) -> None:
        """`done` of `total` of that part; another part gets a line of its own."""
        if part != self.part:
            self.bar.close()
            self.part = part
            self.bar = tqdm(desc=part, total=total, initial=done, disable=None)
        self.bar.total = total
        self.bar.update(done - self.bar.n)


def shown(events: Iterable[Any]) -> Iterator[Any]:
    """The events, as they come, told by a bar."""
    with Bar() as bar:
        for event in events:
            if isinstance(event, Stage):
                bar.show(event.name, event.done, event.total)
            elif isinstance(event, StepDone):
                bar.show("learning", event.step, event.steps)
                bar.bar.set_postfix(loss=f"{event.loss:.4f}", refresh=False)
            yield event


def last(events: Iterable[Any]) -> Any:
    """What the work ends with."""
    *_, result = events
    return result


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl+C was pressed while it lasts; the second time it ends all at once."""
    pressed = Event()

    def press(*_signal: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
