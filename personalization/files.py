"""Files that are either the old one or the new one, never half."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PART = ".part"  # the end of a name while its content is written


def write_atomically(path: Path, content: bytes | str) -> Path:
    """Write beside `path`, flush to the disk, rename over it. Readers never see a part."""
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=PART)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path
