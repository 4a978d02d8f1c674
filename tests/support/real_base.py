"""A repository in the layout of Stable Diffusion 1.5 for the Hub here: tiny, of random weights."""

from __future__ import annotations

from pathlib import Path

from tests.support import tiny
from tests.support.hub_server import Repository

NAME = "a/real-one"


def repository(folder: Path) -> Repository:
    """Written by an untouched diffusers pipeline into an empty folder, which may go then."""
    pipeline = tiny.pipeline()
    pipeline.unet.register_to_config(sample_size=64)  # the real one's, of which all is counted
    pipeline.save_pretrained(folder)
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return Repository(files, revisions=None)
