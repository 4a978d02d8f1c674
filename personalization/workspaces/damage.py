"""What of a run is damaged, and what can be done: told by its files' ends, few are read whole.

Nothing is deleted or mended here: what cannot be read stays until its owner says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from personalization.errors import AdapterError
from personalization.evaluation.report import FORMAT as REPORT_FORMAT
from personalization.files import read_header
from personalization.training.run import Run

_PNG_BEGINS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
ANEW = "start it anew, its settings are still there"


def damaged(run: Run) -> list[str]:
    """A sentence for each part of the run that is damaged; none where all is whole.

    Raises `RunError` where it cannot be told how far the run is.
    """
    folder = run.folder
    photos = [folder / each.file for each in run.record.concept.photos]
    pictures = [
        p for kind in ("pictures", "previews", "seen") for p in folder.glob(f"{kind}/*.png")
    ]
    return [
        *_numbered(photos, "of its photos", f"{ANEW}, with the photo added again"),
        *_tensors(run.checkpoint_path, "checkpoint", f"it cannot go on from there: {ANEW}"),
        *_tensors(run.adapter_path, "adapter", f"take the copy among your adapters, or {ANEW}"),
        *_log(run),
        *_numbered(pictures, "of its pictures", "the others are shown"),
        *_report(folder),
    ]


def _numbered(paths: Iterable[Path], what: str, remedy: str) -> list[str]:
    count = sum(not is_whole_png(path) for path in paths)
    verb = "are" if count > 1 else "is"
    return [f"{count} {what} {verb} damaged or gone: {remedy}."] if count else []


def is_whole_png(path: Path) -> bool:
    """Whether a file begins and ends as a PNG does: one that was cut, or is all zeros, does not."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_PNG_BEGINS))
            file.seek(-len(_PNG_ENDS), 2)
            return begins == _PNG_BEGINS and file.read() == _PNG_ENDS
    except OSError:  # it is gone, or shorter than its end
        return False


def _tensors(path: Path, what: str, remedy: str) -> list[str]:
    try:
        if path.exists():
            read_header(path)
    except AdapterError:
        return [f"Its {what} is damaged: {remedy}."]
    return []


def _log(run: Run) -> list[str]:
    """A run's log ends where its checkpoint was, or after it."""
    rows, step = run.losses(), run.state.step
    last = rows[-1].step if rows else 0
    if last >= step:
        return []
    return [f"Its log is damaged after step {last} of {step}: the curve ends there, no more."]


def _report(folder: Path) -> list[str]:
    try:
        version = json.loads((folder / "report.json").read_bytes())["format"]
        if isinstance(version, int) and version > REPORT_FORMAT:
            return [
                "Its report is of a later version of the app: update the app, or measure again."
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return ["Its report is damaged: measure again."]
    return _numbered(folder.glob("report/*.png"), "of its report’s pictures", "measure again")
