"""A repository in the layout of Stable Diffusion 1.5 for the Hub here: tiny, of random weights."""

from __future__ import annotations

from pathlib import Path

from tests.support import tiny
from tests.support.hub_server import Repository

NAME = "a/real-one"


def repository(folder: Path, sample_size: int | None = None) -> Repository:
    """Written by an untouched diffusers pipeline into an empty folder, which may go then.

    sample_size: of the real one's 64 all is counted; the tiny one's own draws in seconds.
    """
    pipeline = tiny.pipeline()
    if sample_size:
        pipeline.unet.register_to_config(sample_size=sample_size)
    pipeline.save_pretrained(folder)
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return Repository(files, revisions=None)
