"""How a benchmark that looks for faults ends: its figures told and kept, and a status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from personalization.files import write_atomically


def conclude(result: Mapping[str, Any], path: Path | None, faults: Sequence[str]) -> NoReturn:
    """Print `result`, write it to `path` if there is one, and fail where there are faults."""
    text = json.dumps(result, indent=1)
    print(text)
    if path:
        write_atomically(path, text + "\n")
    raise SystemExit(bool(faults))
