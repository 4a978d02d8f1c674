"""Twenty visitors at once, then a thousand requests more: who waits how long, and what grows.

    python -m tests.benchmarks.load [--minutes M] [--requests N] [--json FILE]

The app runs as a process of its own. For M minutes two visitors train run after run, six draw with
seeds of their own, and twelve click: they open the page, look at their things and at adapters, and
ask how a word is read. Each picture is compared with the one that a lone visitor got by the same
seed before. Then the queue is filled until it takes no more. At last N requests follow, of which
every fiftieth draws: after the first 200, and at the end, the process's memory, its open files and
threads, and the files that lie in the temporary folder are counted.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from personalization.bases.catalog import ASSETS
from personalization.workspaces.workspace import Workspaces
from tests.benchmarks.hostile import Sender
from tests.support.results import conclude
from tests.support.server import App, running

TRAIN, DRAW, CLICK = 2, 6, 12
STEPS = 60  # of each run
SEEDS = 3  # of each who draws
BOUND = 2.0  # seconds of a cheap call, for 95 of 100
GROWTH = 1.05  # of what the process holds, after the first requests
SLACK = {"open files": 2, "threads": 2, "temporary files": 2}  # some more or less at any moment
FIRST = 200
SAME = 2  # of 255: what other numbers of threads may change in a picture
PROMPT = "a dog with a crown on the beach"


@dataclass
class Seen:
    """What the visitors have met."""

    calls: dict[str, list[float]] = field(default_factory=dict)  # seconds, by what was asked
    busy: list[float] = field(default_factory=list)  # of cheap calls while something trained
    training: int = 0
    trained: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    differences: list[int] = field(default_factory=list)  # of pictures, of 255
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, what: str, seconds: float) -> None:
        """A call of that kind."""
        with self.lock:
            self.calls.setdefault(what, []).append(seconds)
            if self.training and what not in ("draw", "train"):
                self.busy.append(seconds)


class Visitor(Sender):
    """Somebody with a workspace of their own."""

    def __init__(self, app: App, seen: Seen, session: str) -> None:
        super().__init__(app, "-")
        self.client.timeout = httpx.Timeout(600)
        self.seen, self.session = seen, session

    def ask(self, what: str, name: str, **said: Any) -> Any:
        """An endpoint's answer, timed; None where it was refused, which is counted."""
        event = self.event(name)
        fields = [label for label, _ in self.fields(event)]
        data = [
            said.get(n, value) for n, (_, value) in zip(fields, self.fields(event), strict=True)
        ]
        return self.timed(what, event, data)

    def timed(self, what: str, event: dict[str, Any], data: list[Any]) -> Any:
        """What came back as its data."""
        started = time.monotonic()
        answer, status = (self.queued if event["queue"] else self.direct)(event, data)
        self.seen.took(what, time.monotonic() - started)
        if status != 200 or answer.get("error") or "data" not in answer:
            with self.seen.lock:
                self.seen.refused[str(answer.get("error") or answer.get("detail") or answer)] += 1
            return None
        return answer["data"]

    def draw(self, seed: int) -> np.ndarray | None:
        """The picture of that seed: (height, width, 3)."""
        adapters = [{"name": "neon", "weight": 0.8}]
        said = {"adapters": adapters, "prompt": PROMPT, "seed": seed, "session": self.session}
        data = self.ask("draw", "draw_stack", **said)
        if data is None:
            return None
        path = data[0][0]["image"]["path"]
        content = self.client.get(f"/file={path}").content
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)

    def train(self, photos: list[dict[str, Any]], seed: int) -> None:
        """A whole run."""
        with self.seen.lock:
            self.seen.training += 1
        said = {"photos": photos, "placeholder_token": "sks", "class_noun": "dog"}
        done = self.ask(
            "train", "train_subject", **said, steps=STEPS, seed=seed, session=self.session
        )
        with self.seen.lock:
            self.seen.training -= 1
            self.seen.trained += done is not None

    def click(self, number: int) -> None:
        """One of the cheap calls."""
        match number % 5:
            case 0:
                self.ask("things", "list_things", session=self.session)
            case 1:
                self.ask("adapters", "list_adapters", session=self.session)
            case 2:
                word = f"<word-{number}>"
                self.ask("a word", "check_placeholder_token", placeholder_token=word)
            case 3:
                self.ask("bases", "list_bases")
            case 4:
                event = self.event("arrive")
                parts = [self.parts[each]["props"] for each in event["inputs"]]
                data = [
                    self.session
                    if props.get("storage_key") == "personalization-visitor"
                    else props.get("value", props.get("default_value"))
                    for props in parts
                ]
                self.timed("the page", event, data)


def drawing(
    visitor: Visitor, alone: dict[int, np.ndarray], seeds: list[int]
) -> Callable[[int], None]:
    """What one who draws does, over and over: the picture must be the lone visitor's."""

    def again(number: int) -> None:
        seed = seeds[number % len(seeds)]
        picture = visitor.draw(seed)
        if picture is not None:
            visitor.seen.differences.append(int(np.abs(picture - alone[seed]).max()))

    return again


def until(end: float, act: Callable[[int], None], pause: float) -> None:
    """Over and over, with time to look at what came."""
    number = 0
    while time.monotonic() < end:
        act(number)
        number += 1
        time.sleep(pause)


def together(app: App, seen: Seen, sessions: list[str], minutes: float) -> None:
    """The twenty, at once."""
    visitors = [Visitor(app, seen, session) for session in sessions]
    photos = [
        visitors[0].upload(path.name, path.read_bytes())
        for path in sorted((ASSETS / "examples" / "crowned-dog").glob("[0-9]*.png"))
    ]
    seeds = {n: [1000 * n + each for each in range(SEEDS)] for n in range(TRAIN, TRAIN + DRAW)}
    alone = {}
    for seed in [seed for each in seeds.values() for seed in each]:
        picture = visitors[0].draw(seed)
        assert picture is not None, seen.refused
        alone[seed] = picture
    seen.calls.clear()
    end = time.monotonic() + 60 * minutes
    with ThreadPoolExecutor(len(visitors)) as pool:
        done = []
        for number, visitor in enumerate(visitors):
            act: Callable[[int], None]
            if number < TRAIN:
                act, pause = partial(visitor.train, photos), 0.0
            elif number < TRAIN + DRAW:
                act, pause = drawing(visitor, alone, seeds[number]), 1.0
            else:
                act, pause = visitor.click, 1.0
            done.append(pool.submit(until, end, act, pause))
        for each in done:
            each.result()


def filled(app: App, seen: Seen) -> list[str]:
    """What a visitor is told where the queue takes no more."""
    visitor = Visitor(app, seen, "")
    event = visitor.event("draw_stack")
    said = {"prompt": PROMPT, "adapters": []}
    data = [said.get(label, value) for label, value in visitor.fields(event)]
    sessions, answers = [f"full{number}" for number in range(80)], []
    for session in sessions:
        body = {"data": data, "fn_index": event["id"], "session_hash": session}
        answer = visitor.client.post("/queue/join", json=body)
        if answer.status_code != 200:
            answers.append(str(answer.json().get("detail", answer.text)))
    return answers


def state(app: App, home: Path) -> dict[str, int]:
    """What the process holds."""
    assert app.process
    process = psutil.Process(app.process.pid)
    return {
        "memory, MB": process.memory_info().rss // 2**20,
        "open files": process.num_fds(),
        "threads": process.num_threads(),
        "temporary files": sum(len(names) for _, _, names in os.walk(home / "tmp")),
    }


def many(app: App, seen: Seen, home: Path, sessions: list[str], requests: int) -> dict[str, Any]:
    """The same again and again, by visitors who come and go."""
    found: dict[str, Any] = {}
    visitors = [Visitor(app, seen, session) for session in sessions]
    for number in range(requests):
        visitor = visitors[number % len(visitors)]
        if number == FIRST:
            found["after the first"] = state(app, home)
        if number % 50 == 0:
            visitor.draw(number % 150)
        else:
            visitor.click(number)
    return found | {"at the end": state(app, home)}


def percentile(values: list[float], share: float) -> float:
    """Of a list of seconds."""
    return round(float(np.quantile(values, share)), 3) if values else 0.0


def met(seen: Seen, grown: dict[str, Any], told: list[str]) -> dict[str, bool]:
    """What is asked for, and whether it was so."""
    first, last = grown.get("after the first", {}), grown["at the end"]
    same = bool(seen.differences) and max(seen.differences) <= SAME
    return {
        "each picture is the lone visitor's": same,
        f"95 of 100 cheap calls within {BOUND:g} s while something trains": bool(seen.busy)
        and percentile(seen.busy, 0.95) <= BOUND,
        "a full queue says the position": bool(told) and "number" in told[0],
    } | {
        f"{what} within {GROWTH - 1:.0%}": last[what] <= GROWTH * first[what] + SLACK.get(what, 0)
        for what in first
    }


def measure(minutes: float, requests: int) -> dict[str, Any]:
    """All of it, on an app of its own."""
    seen, later = Seen(), Seen()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "tmp").mkdir()
        store = Workspaces(home / "workspaces")
        sessions = [store.new().id for _ in range(TRAIN + DRAW + CLICK)]
        with running(home, TMPDIR=str(home / "tmp")) as app:
            together(app, seen, sessions, minutes)
            grown = many(app, later, home, sessions, requests)
            told = filled(app, later)
    asked = met(seen, grown, told)
    faults = [f"refused: {said}" for said in seen.refused + later.refused]
    faults += [f"not met: {what}" for what, held in asked.items() if not held]
    return {
        "minutes": minutes,
        "visitors": {"train": TRAIN, "draw": DRAW, "click": CLICK},
        "runs finished": seen.trained,
        "pictures": len(seen.differences),
        "largest difference to a lone visitor's, of 255": max(seen.differences, default=0),
        "cheap calls while something trained": len(seen.busy),
        "their median and 95th percentile, seconds": [
            round(statistics.median(seen.busy), 3) if seen.busy else 0.0,
            percentile(seen.busy, 0.95),
        ],
        "95th percentile by kind, seconds": {
            what: percentile(took, 0.95) for what, took in sorted(seen.calls.items())
        },
        "a full queue says": told[:1],
        "requests then": requests,
        **grown,
        "asked": asked,
        "faults": faults,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--requests", type=int, default=1000 + FIRST)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.minutes, options.requests)
    try:
        conclude(result, options.json, result["faults"])
    finally:
        said = (f"{what}: {'yes' if held else 'NO'}" for what, held in result["asked"].items())
        print("Asked for, and met? " + "; ".join(said))


if __name__ == "__main__":
    main()
