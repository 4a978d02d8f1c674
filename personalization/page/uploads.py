"""Files in and out: what visitors upload, and copies of what they may download."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradio.utils import get_upload_folder

from personalization.data.photos import Photo, open_photos
from personalization.errors import PhotoError

if TYPE_CHECKING:
    from personalization.sampling.picture_record import Picture


def take_uploads(paths: Sequence[str] | None) -> tuple[list[Photo], list[PhotoError]]:
    """Read uploaded photos, and delete the uploads: Gradio serves what lies in its folder."""
    photos, errors = open_photos(Path(path) for path in paths or ())
    uploads = Path(get_upload_folder()).resolve()
    for path in map(Path, paths or ()):
        if uploads in path.resolve().parents:
            path.unlink(missing_ok=True)
    return photos, errors


def publish_file(path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves: it serves nothing of the workspaces."""
    target = Path(get_upload_folder()) / secrets.token_hex(16) / (name or path.name)
    target.parent.mkdir(parents=True)
    return shutil.copyfile(path, target).as_posix()


def publish_pictures(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Pictures with their records inside, and their prompts as captions."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    return [
        (str(p.save(folder / f"picture-{i}-seed-{p.record.seed}.png")), p.record.prompt)
        for i, p in enumerate(pictures)
    ]
