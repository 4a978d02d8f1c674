"""What a base takes, counted for `assets/counts.json`: ``python -m tests.counts [--all]``.

It counts what is missing, which a test says, and with ``--all`` (some minutes) everything: where an
architecture, a method or diffusers has changed. Tests count some of it again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch

from personalization.bases import memory, work
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.bases.counts import PATH, ROWS, Row
from personalization.bases.recipes import Purpose
from personalization.files import write_atomically
from personalization.training import estimate
from personalization.training.base_selection import PHOTOGRAPHS
from personalization.training.presets import SMALLER

# Bases that a processor without bfloat16 may be asked about; the others would take 13 GB and more.
IN_FLOAT32 = ("pocket", *PHOTOGRAPHS, "sd21")
WORK: dict[str, Callable[[str, int], work.Work]] = {
    "forward": work.count_forward,
    "decoding": work.count_decoding,
    "encoding": work.count_encoding,
}


Counting = tuple[str, Callable[[], Row]]  # a row's key, and what counts it


def specs() -> list[BaseSpec]:
    """One base of each architecture."""
    return list({spec.architecture: spec for spec in reversed(CATALOG.values())}.values())


def sizes(spec: BaseSpec) -> tuple[int, ...]:
    """Pixels to a side that the page asks about, the base's own first."""
    return (spec.size, *SMALLER) if spec.name in PHOTOGRAPHS else (spec.size,)


def precisions(spec: BaseSpec) -> tuple[torch.dtype, ...]:
    """What its weights are kept in."""
    return (torch.bfloat16, torch.float32) if spec.name in IN_FLOAT32 else (torch.bfloat16,)


def of_base(spec: BaseSpec) -> Iterator[Counting]:
    """All that is kept of a base."""
    yield f"numbers {spec.architecture}", lambda: memory.count_numbers(spec.architecture)
    for size in sizes(spec):
        for what, count in WORK.items():
            made = partial(count, spec.architecture, size)
            yield work.work_key(what, spec.architecture, size), lambda made=made: asdict(made())
    purposes: tuple[Purpose, ...] = ("word", "subject")
    for precision in precisions(spec):
        for size in sizes(spec):
            for purpose in purposes:
                yield step(spec, purpose, size, precision)
    yield step(spec, "full", spec.size, torch.bfloat16)


def step(spec: BaseSpec, purpose: Purpose, size: int, precision: torch.dtype) -> Counting:
    """A step by the base's own recipe."""
    recipe = spec.recipes[purpose].changed(resolution=size)
    single = estimate.what_counts(spec, recipe)
    key = estimate.step_key(spec, single, precision)
    return key, lambda: asdict(estimate.count_step(spec, single, precision))


def whole(row: Row) -> Row:
    """Numbers as short as they can be written."""
    return {name: int(value) for name, value in row.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--all", action="store_true", help="count again what is there as well")
    again = parser.parse_args().all
    there = {} if again or not PATH.exists() else ROWS.validate_json(PATH.read_bytes())
    rows: dict[str, Row] = {}
    for spec in specs():
        started = time.monotonic()
        for key, count in of_base(spec):
            rows[key] = there[key] if key in there else whole(count())
        print(f"{spec.architecture}: {time.monotonic() - started:.0f} s", flush=True)
        # What is still to come stays, should this be cut off.
        write_atomically(PATH, ROWS.dump_json(dict(sorted((there | rows).items())), indent=1))
    write_atomically(PATH, ROWS.dump_json(dict(sorted(rows.items())), indent=1) + b"\n")
    print(PATH, PATH.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
