"""The main job as a client does it, from photos in to first pictures out.

    python -m tests.benchmarks.main_job [--json FILE] [--rounds N]

Starts the app, teaches a word and a subject with the defaults, draws from a stack of two, and
prints the seconds of each, the seconds from `python app.py` to a page that answers, and the peak
memory of the app's process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from gradio_client import Client, handle_file

from tests.support.server import ROOT, running

EXAMPLE = ROOT / "assets" / "examples"
LIMITS = {
    "start to page, s": 15,
    "teach a word, s": 90,
    "teach a subject, s": 120,
    "picture from a stack of two, s": 3,
    "peak memory, GB": 3,
}


def measure(home: Path, pictures: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in LIMITS}
    with running(home) as app:
        figures["start to page, s"].append(app.seconds_to_page)
        client = Client(app.url, verbose=False, download_files=str(home / "client"))
        ready = client.predict("", api_name="/list_adapters")
        folder = sorted(path for path in EXAMPLE.iterdir() if path.is_dir())[0]
        photos = [handle_file(str(path)) for path in sorted(folder.glob("*.png"))]
        # The first picture pays for loading the base; a visitor who teaches does so as well.
        for name, endpoint, placeholder_token in (
            ("teach a word, s", "/train_word", "<my-thing>"),
            ("teach a subject, s", "/train_subject", "sks"),
        ):
            started = time.monotonic()
            client.predict(
                photos, placeholder_token, "dog", "creature", None, 0, "", api_name=endpoint
            )
            figures[name].append(time.monotonic() - started)
        stack = [{"name": adapter["name"], "weight": 0.8} for adapter in ready[:2]]
        for seed in range(pictures):
            started = time.monotonic()
            client.predict(stack, "a dog", "", seed, 1, None, None, "", api_name="/draw_stack")
            figures["picture from a stack of two, s"].append(time.monotonic() - started)
        figures["peak memory, GB"].append(app.peak_memory() / 1e9)
        client.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=1, help="starts of the app (default 1)")
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {name: [] for name in LIMITS}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as home:
            for name, values in measure(Path(home), pictures=5).items():
                figures[name] += values
    print(f"{'':34}{'median':>8}{'least':>8}{'most':>8}{'limit':>8}   ({os.cpu_count()} cores)")
    for name, values in figures.items():
        median = statistics.median(values)
        row = f"{name:34}{median:8.2f}{min(values):8.2f}{max(values):8.2f}{LIMITS[name]:8}"
        print(row, "" if median <= LIMITS[name] else "  OVER")
    if arguments.json:
        result = {"cores": os.cpu_count(), "limits": LIMITS, "figures": figures}
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
