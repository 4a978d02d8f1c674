"""How long a visitor waits for the page after `python app.py`, and until all of it is loaded.

    python -m tests.benchmarks.start --json FILE

Five starts after one that warms the disk, each in a process of its own: wall-clock seconds until
the page answers, and the seconds of processor time that this took. Other work on the machine
lengthens the first and hardly the second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.support.server import running

STARTS = 5


def start(home: Path) -> dict[str, float]:
    """Seconds to the page's first answer."""
    with running(home) as app:
        return {"wall": app.seconds_to_page, "processor": app.processor_seconds_to_page}


def processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def measure(starts: int) -> dict[str, Any]:
    """The seconds of each start, their median and spread."""
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / str(i) for i in range(starts + 1)]
        _, *seconds = [start(home) for home in homes]
    figures: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],  # over the last minute: work of others lengthens a start
        "starts": seconds,
    }
    for clock in ("wall", "processor"):
        values = [each[clock] for each in seconds]
        figures[f"{clock}_seconds"] = {
            "median": statistics.median(values),
            "least": min(values),
            "most": max(values),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--starts", type=int, default=STARTS)
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.starts), indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
