"""Anybody's adapter files: what one is, read into ours, ours as theirs.

    describe(path) -> Description    read(path) -> Adapter    export(adapter, path, format) -> paths

Each format of others is a file here with `detect`, `read` and `write`; `dispatch` chooses.
"""

from personalization.adapters.formats.comparison import difference
from personalization.adapters.formats.diffusers import metadata as diffusers_metadata
from personalization.adapters.formats.dispatch import (
    FORMATS,
    TOLERANCE,
    Contents,
    FormatName,
    contents,
    contents_of_header,
    describe,
    export,
    read,
)

__all__ = [
    "FORMATS",
    "TOLERANCE",
    "Contents",
    "FormatName",
    "contents",
    "contents_of_header",
    "describe",
    "difference",
    "diffusers_metadata",
    "export",
    "read",
]
