"""All commands, and what they take."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import get_args

from personalization import __version__
from personalization.data.concept import Kind
from personalization.recipe import LowRankKind

from . import commands as do
from .meaning import SWEPT

METHODS = ("textual_inversion", *get_args(LowRankKind), "full")


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
    parser.set_defaults(command=do.train)
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
    parser.set_defaults(command=do.draw)
    add_picture(parser)
    parser.add_argument("--count", type=int, default=1, help="pictures, each at the next seed")


def add_sweep(parser: ArgumentParser) -> None:
    """A picture, and what changes from one to the next."""
    parser.set_defaults(command=do.sweep)
    add_picture(parser)
    values = f"WHAT is one of {', '.join(SWEPT)}"
    for name, default in (("--across", "the first adapter's weight"), ("--down", "one row")):
        parser.add_argument(name, metavar="WHAT=VALUE,...", help=f"{values}; by default {default}")


def add_report(parser: ArgumentParser) -> None:
    """Which run, and how long it may take."""
    parser.set_defaults(command=do.report)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--seconds", type=float, default=60.0, help="that it may take, about")


def add_publish(parser: ArgumentParser) -> None:
    """What is published, as what, and who sees it."""
    parser.set_defaults(command=do.publish)
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

    parser.set_defaults(command=do.spectrum)
    parser.add_argument("--run", type=Path, required=True, help="the finished run's folder")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=list(TITLES), help="ways to leave out"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each report, about")
