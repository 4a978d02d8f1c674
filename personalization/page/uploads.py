"""Files in and out: what visitors upload, and copies of what they may download."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder
from pydantic import PlainValidator, WithJsonSchema

from personalization.data.photos import Photo, open_photos
from personalization.errors import PhotoError, WorkspaceError
from personalization.files import copy_atomically, on_disk
from personalization.workspaces.served import Shelf
from personalization.workspaces.workspace import Workspace

from .fetching import fetch, is_address
from .session import workspaces

if TYPE_CHECKING:
    from personalization.sampling.picture_record import Picture


def _file(upload: Any) -> str:
    """The path of a photo that a program sends: what it uploaded, or what is fetched here."""
    folder = get_upload_folder()
    match upload:
        case {"path": str(path), "meta": {"_type": "gradio.FileData"}}:
            with suppress(PhotoError):
                return str(uploaded(path))
        case str() if upload.startswith("data:"):
            with suppress(ValueError):
                return save_base64_to_cache(upload, folder)
        case str() if is_address(upload):
            with suppress(PhotoError):
                return str(fetch(upload, Path(folder)))
    raise ValueError("no file, and nothing that could be fetched")


def uploaded(path: str) -> Path:
    """The path of a file that was uploaded. Raises `PhotoError` for any other of the machine."""
    if Path(get_upload_folder()).resolve() not in Path(path).resolve().parents:
        raise PhotoError("This is no file that was uploaded.", field="photos")
    return Path(path)


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

    They go with the visitor's other things (`remember_files`), or once they are old.
    """
    return open_photos(Path(path) for path in paths or ())


def shelf_of(owner: Workspace) -> Shelf:
    """What is handed out to a visitor."""
    return Shelf(Path(get_upload_folder()), owner)


def publish_file(owner: Workspace | None, path: Path, name: str = "") -> str:
    """A copy among the files that Gradio serves: it serves nothing of the workspaces.

    It goes with the owner's things, and nobody's after a day.
    """
    with on_disk():
        if owner:
            return shelf_of(owner).copy(path, name).as_posix()
        return copy_atomically(path, served_path(owner, name or path.name)).as_posix()


def served_path(owner: Workspace | None, name: str) -> Path:
    """Where a file of that name is to be written, to be served under an address of its own."""
    if owner:
        return shelf_of(owner).new_path(name)
    target = Path(get_upload_folder()) / secrets.token_hex(16) / name
    target.parent.mkdir(parents=True)
    return target


def publish_pictures(owner: Workspace | None, pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Pictures with their records inside, and their prompts as captions."""
    with on_disk():
        return [
            (
                str(p.save(served_path(owner, f"picture-{i}-seed-{p.record.seed}.png"))),
                p.record.prompt,
            )
            for i, p in enumerate(pictures)
        ]


def remember_files(visitor: str, *data: Any) -> None:
    """Files in what a visitor sends or is sent: they are deleted with all else of theirs."""
    if paths := list(paths_in(data)):
        with suppress(WorkspaceError):
            shelf_of(workspaces().open(visitor)).remember(paths)


def forget_files(visitor: str) -> None:
    """Hand out nothing of this visitor's any more."""
    shelf_of(Workspace(workspaces().root / visitor)).clear()


def paths_in(data: Any) -> Iterator[str]:
    """The paths of the files in an event's data, as Gradio writes them."""
    match data:
        case {"path": str(path), "meta": {"_type": "gradio.FileData"}}:
            yield path
        case dict():
            for part in data.values():
                yield from paths_in(part)
        case list() | tuple():
            for part in data:
                yield from paths_in(part)
