"""The model card: how the weights came about, sitting by sitting, and what the report found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

TRAINING, REPORT = "training.json", "report.json"

# What the card says of a figure, its name in the report, and that of real drawings.
ROWS: tuple[tuple[str, str, str | None], ...] = (
    *(
        (f"{said} as the caption says", f"{fact} right, pocket", f"{fact} right, real drawings")
        for said, fact in (
            ("class", "kind"),
            ("colour", "colour"),
            ("pattern", "pattern"),
            ("accessory", "accessory"),
            ("scene", "place"),
            ("look", "style"),
        )
    ),
    (
        "own caption first among 100",
        "judge: own caption first among 100, pocket",
        "judge: own caption first among 100, real",
    ),
    (
        "spread of 50 pictures of one prompt",
        "spread of 50 drawings of one prompt, pocket",
        "spread of 50 drawings of one prompt, real",
    ),
    (
        "squared Fréchet distance to drawings, x 1000",
        "judge: squared Fréchet distance to real drawings, x 1000, pocket",
        "judge: squared Fréchet distance to real drawings, x 1000, others of the same captions",
    ),
    (
        "energy of outlines, share of drawings'",
        "energy of outlines, share of real drawings', pocket",
        None,
    ),
    (
        "the same of drawings through the autoencoder",
        "energy of outlines, share of real drawings', through the autoencoder",
        None,
    ),
    ("autoencoder, unseen drawings, dB", "autoencoder PSNR, unseen drawings, dB", None),
)


@dataclass(frozen=True)
class Sitting:
    """One training of the weights, from nothing or from where the last one ended."""

    name: str
    date: str
    command: str
    machine: str
    time: str
    pictures: int
    samples: int  # that the UNet saw
    autoencoder: str
    figures: dict[str, float] = field(default_factory=dict)  # of the report, after it


def sittings_in(folder: Path) -> list[Sitting]:
    """Those that made the weights in that folder."""
    path = folder / TRAINING
    return [Sitting(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def cell(value: float | None) -> str:
    """A figure, or that there is none."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value > 2 else f"{value:.3f}"


def line(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def figures(sittings: list[Sitting]) -> str:
    """The report after each sitting, beside real drawings."""
    reported = [sitting for sitting in sittings if sitting.figures]
    if not reported:
        return "No report yet."
    latest = reported[-1].figures
    rows = [line(["", *(sitting.name for sitting in reported), "real drawings"])]
    rows.append("|---|" + "---|" * (len(reported) + 1))
    for title, name, real in ROWS:
        values = [sitting.figures.get(name) for sitting in reported]
        rows.append(line([title, *map(cell, values), cell(latest.get(real) if real else None)]))
    return "\n".join(rows)


def trainings(sittings: list[Sitting]) -> str:
    """What was run when, where and for how long."""
    head = ["", "date", "machine", "time", "pictures", "samples", "autoencoder", "command"]
    rows = [line(head), "|---" * len(head) + "|"]
    for one in sittings:
        cells = [one.name, one.date, one.machine, one.time, f"{one.pictures:,}"]
        cells += [f"{one.samples:,}", one.autoencoder, f"`{one.command}`"]
        rows.append(line(cells))
    return "\n".join(rows)


def write(folder: Path, sittings: list[Sitting]) -> None:
    """README.md and training.json; the last sitting's figures are those of report.json, if any."""
    report = folder / REPORT
    if report.exists() and sittings:
        last = asdict(sittings[-1]) | {"figures": json.loads(report.read_text())}
        sittings = [*sittings[:-1], Sitting(**last)]
    content = json.dumps([asdict(sitting) for sitting in sittings], indent=1)
    (folder / TRAINING).write_text(content + "\n")
    samples = sum(sitting.samples for sitting in sittings)
    (folder / "README.md").write_text(
        README.format(
            samples=f"{samples:,}", trainings=trainings(sittings), figures=figures(sittings)
        )
    )


README = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# The pocket

A text-to-image latent diffusion model of the anatomy of Stable Diffusion 1.x in miniature: 128 px,
latents of 4 x 32 x 32, CLIP text encoder of 4 x 192, UNet of 12.5 M parameters. Trained from
nothing but drawings that `personalization/pocket/world` makes; no photograph, no scraped picture,
no other model's weights. Licence: Apache-2.0.

20 steps, guidance 4. `held_out_words.safetensors` holds the embeddings of words that the UNet was
trained with and the tokenizer no longer has: the ceiling for a learned word.

## Training

{samples} samples in all; the weights are averages over the last steps. Each sitting but the first
goes on from the weights of the one before (`--continue-from-assets`). Seed 0.

{trainings}

## Figures

`python -m personalization.pocket.report`: 1,000 prompts of unseen scenes, read by a classifier that
never saw a picture of the pocket's; the same of real drawings beside it. `contact-sheet.png` shows
eight pictures a prompt, not chosen.

{figures}
"""
