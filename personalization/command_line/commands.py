"""What each command does: takes what was chosen, prints its results, and returns the exit code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import TYPE_CHECKING

from personalization.events import Finished

from .meaning import (
    axis,
    file_name,
    load_base,
    opened_run,
    prepared,
    settings_of,
    stack_and_base,
)
from .progress import INTERRUPTED, Bar, interruption, last, shown, tell

if TYPE_CHECKING:
    from personalization.evaluation.report import Report


def train(chosen: Namespace, parser: ArgumentParser) -> int:
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


def draw(chosen: Namespace, _parser: ArgumentParser) -> None:
    """Draw pictures and print their files."""
    from personalization.sampling.generate import draw
    from personalization.stacking.application import applied

    whole, base = stack_and_base(chosen)
    stack, left_out = whole.fitting(base.spec)
    for sentence in left_out:
        tell(sentence)
    settings = settings_of(chosen, count=chosen.count)
    with applied(base, stack), Bar() as bar:
        step = partial(bar.show, "drawing")
        pictures = draw(base, settings, stack=stack, on_step=step)
    for picture in pictures:
        print(picture.save(chosen.out / file_name(chosen.prompt, picture.record.seed)))


def sweep(chosen: Namespace, parser: ArgumentParser) -> None:
    """Draw a grid, and print its file."""
    from personalization.sampling.sweep import STRENGTHS, Axis, Grid, Sweep, sweeping

    across, down = (axis(text, parser) for text in (chosen.across, chosen.down))
    whole, base = stack_and_base(chosen)
    stack, left_out = whole.fitting(base.spec)
    for sentence in left_out:
        tell(sentence)
    across = (across or Axis("weight", STRENGTHS)).fitting(whole, base.spec)
    down = down.fitting(whole, base.spec) if down else None
    grid = last(shown(sweeping(base, Sweep(stack, settings_of(chosen), across, down))))
    assert isinstance(grid, Grid)
    path = chosen.out / file_name(f"{chosen.prompt} sweep", chosen.seed)
    print(grid.sheet().save(path))


def report(chosen: Namespace, _parser: ArgumentParser) -> None:
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


def publish(chosen: Namespace, _parser: ArgumentParser) -> None:
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


def spectrum(chosen: Namespace, _parser: ArgumentParser) -> None:
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
