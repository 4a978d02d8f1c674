"""All that a visitor has as one zip, which any program unpacks."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from zipfile import ZIP_STORED, ZipFile

from personalization.errors import WorkspaceError
from personalization.files import PART, size_words, writing
from personalization.workspaces.belongings import FOLDERS, Belonging, belongings
from personalization.workspaces.library import slug
from personalization.workspaces.workspace import Workspace

_LEFT_OUT = {"cache", "lock", "stop"}  # of a run: what is computed again, and what says who works


def write(workspace: Workspace, path: Path) -> Path:
    """Write the zip; photos are called as they were when they came.

    Nothing is packed: pictures and tensors get no smaller. Raises `WorkspaceError` where the disk
    has no room for a copy.
    """
    found = belongings(workspace)
    size = sum(each.size for each in found)
    if shutil.disk_usage(workspace.folder).free < size:
        raise WorkspaceError(
            f"The disk has no room for a copy of your {size_words(size)}. Delete what you no "
            "longer need, or download adapters and pictures one by one."
        )
    with (
        writing(path) as whole,
        ZipFile(whole, "w", ZIP_STORED, strict_timestamps=False) as archive,
    ):
        for each in found:
            inside = PurePosixPath(FOLDERS[each.kind], _called(each))
            for file in _files(each.path):
                archive.write(file, str(inside / file.relative_to(each.path).as_posix()))
    return path


def _called(each: Belonging) -> str:
    """A photo's file by its own name, and by some of its hash where several have that."""
    if each.kind != "photo" or each.error:
        return each.path.name
    return f"{slug(Path(each.title).stem)}-{each.path.name[:8]}.png"


def _files(source: Path) -> list[Path]:
    """The file itself, or the whole files of a folder."""
    if not source.is_dir():
        return [source]
    return [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != PART
        and not _LEFT_OUT.intersection(path.relative_to(source).parts)
    ]
