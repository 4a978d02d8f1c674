"""Files in and out: what visitors upload, and copies of what they may download."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gradio.processing_utils import save_base64_to_cache, ssrf_protected_download
from gradio.utils import get_upload_folder
from httpx import HTTPError
from pydantic import PlainValidator, WithJsonSchema

from personalization.data.photos import Photo, open_photos
from personalization.errors import PhotoError

if TYPE_CHECKING:
    from personalization.sampling.picture_record import Picture


def _file(upload: Any) -> str:
    """The path of a photo that a program sends: what it uploaded, or what is fetched here."""
    folder = get_upload_folder()
    match upload:
        case {"path": str(path), "meta": {"_type": "gradio.FileData"}}:
            if Path(folder).resolve() in Path(path).resolve().parents:
                return path
        case str() if upload.startswith("data:"):
            with suppress(ValueError):
                return save_base64_to_cache(upload, folder)
        case str() if upload.startswith(("http://", "https://")):
            with suppress(ValueError, HTTPError):  # an address inside this network is no photo's
                return ssrf_protected_download(upload, folder)
    raise ValueError("no file, and nothing that could be fetched")


# A photo from a program. Gradio's clients upload files; MCP's have no way to, and send texts.
Upload = Annotated[
    str,
    PlainValidator(_file),
    WithJsonSchema(
        {
            "type": "string",
            "description": "a file that was uploaded, the address of one (https://...) that can be "
            "fetched, or its content (data:image/png;base64,...)",
        }
    ),
]


def take_uploads(paths: Sequence[str] | None) -> tuple[list[Photo], list[PhotoError]]:
    """Read uploaded photos, and leave them: a file of the same content is another request's too.

    Gradio deletes what lies in its folder once it is old (`delete_cache`).
    """
    return open_photos(Path(path) for path in paths or ())


def publish_file(path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves: it serves nothing of the workspaces."""
    return shutil.copyfile(path, served_path(name or path.name)).as_posix()


def served_path(name: str) -> Path:
    """Where a file of that name is to be written, to be served under an address of its own."""
    target = Path(get_upload_folder()) / secrets.token_hex(16) / name
    target.parent.mkdir(parents=True)
    return target


def publish_pictures(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Pictures with their records inside, and their prompts as captions."""
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    return [
        (str(p.save(folder / f"picture-{i}-seed-{p.record.seed}.png")), p.record.prompt)
        for i, p in enumerate(pictures)
    ]
