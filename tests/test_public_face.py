"""What the package shows: names that are there, and are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import personalization

NAMES = {
    *("CATALOG", "Concept", "PersonalizationError", "Recipe", "Report", "Run", "Settings", "Slot"),
    *("Stack", "applied", "draw", "evaluate", "load", "open_photos", "read", "start", "sweep"),
    *("Sweep", "train"),
}


def test_the_public_names_are_these_and_all_are_there() -> None:
    assert set(personalization.__all__) == NAMES
    assert all(getattr(personalization, name) is not None for name in NAMES)
    assert set(dir(personalization)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = personalization.nothing


@pytest.mark.parametrize(
    "line",
    [
        "import personalization",
        "from personalization import CATALOG, Concept, Recipe, Run, open_photos, start",
        "from personalization.command_line.arguments import build_parser; build_parser()",
    ],
)
def test_what_needs_no_torch_does_not_load_it(line: str) -> None:
    check = "import sys; assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{line}; {check}"], check=True)
