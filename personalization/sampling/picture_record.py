"""What a picture's PNG says of how it came to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

RECORD = "personalization"  # the key of the record in a PNG's text


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a PNG that the app drew, or None."""
    try:
        with Image.open(path) as image:
            record = json.loads(getattr(image, "text", {}).get(RECORD, ""))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
