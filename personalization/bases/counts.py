"""What was counted of the catalog's bases once and for all: `assets/counts.json`.

Running a base on the meta device takes from a second to half a minute, and what comes of it hangs
on this package's code alone. So it is looked up; what is not there is counted when it is asked for.
``python -m tests.counts`` writes the file, and tests count some of it again.
"""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from personalization.bases.catalog import ASSETS

PATH = ASSETS / "counts.json"
Row = dict[str, int | float]
ROWS = TypeAdapter(dict[str, Row])


def kept(key: str) -> Row | None:
    """What was counted under that key, by name; None where it was not."""
    return _rows().get(key)


@cache
def _rows() -> dict[str, Row]:
    try:
        return ROWS.validate_json(PATH.read_bytes())
    except (OSError, ValidationError):  # slower, and no worse
        return {}
