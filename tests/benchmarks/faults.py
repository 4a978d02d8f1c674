"""What a kill, a full disk, a home that turns read-only and a clock that jumps leave behind.

    python -m tests.benchmarks.faults [--each N] [--seed S] [--json FILE]

A process writes one kind of thing over and over (checkpoints, adapters, the library, pictures,
reports, the album, the cache, uploads, deletions and undos, downloads, publishing), and at a random
moment a fault comes: SIGKILL, either anywhere or between two calls to the disk; a disk on which
nothing more fits; one that takes no more writes; a clock that is days ahead or behind, with the
housekeeping that goes by it. Then the fault is over, the app starts anew, tidies up, and goes on.

Counted over N faults of each on each kind: what was told to be written and is lost, what is half,
what is neither the old nor the new, what was left over, and refusals that were no sentence. Disks
are tmpfs: run it as root, or in `unshare -rm`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from personalization.files import PART
from personalization.page.housekeeping import tidy
from personalization.page.messages import user_message
from personalization.workspaces import served
from personalization.workspaces.clock import Clock
from personalization.workspaces.workspace import Workspace, Workspaces
from tests.support import hub_server
from tests.support.disks import Disk, disk
from tests.support.results import conclude
from tests.support.writes import MOST, Kind, faults_in, kinds

Fault = Literal["kill", "full disk", "read-only", "clock"]
DAY = 24 * 3600.0
ON_DISK = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime")


@dataclass
class Trial:
    """One fault on one kind of write."""

    kind: Kind
    home: Path
    rng: random.Random

    def __post_init__(self) -> None:
        (self.home / "tmp").mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.home / "tmp")
        self.store = Workspaces(self.home / "workspaces")
        self.workspace = self.store.new()
        self.kind.prepare(self.workspace)

    def start(self, kill_at: int = 0) -> tuple[Any, Connection]:
        """The process that writes, and what it tells."""
        hears, tells = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=write, args=(self.kind, self.workspace, self.home, tells, kill_at)
        )
        process.start()
        tells.close()
        return process, hears

    def recover(self, now: float | None = None) -> list[str]:
        """What the next start does; what is left over then."""
        folder = served.new_folder(str(self.home / "served"))
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        lock = served.take(folder)
        self.workspace.trash.purge(older_than=0)
        tidy(self.store, folder, now=now)
        lock.close()
        left = list(self.home.rglob(f"*{PART}"))
        left += list((self.home / "tmp").iterdir())
        left += list((self.home / "workspaces").glob(".deleted-*"))
        left += self.workspace.trash.folder.glob("*")
        left += [each for each in folder.parent.glob("served-*/") if each != folder]
        return [f"left over: {path.relative_to(self.home)}" for path in left]


def write(kind: Kind, workspace: Workspace, home: Path, tells: Connection, kill_at: int) -> None:
    """Write until nothing more is written, and tell after each; or the sentence that refuses."""
    torch.set_num_threads(1)
    os.environ["GRADIO_TEMP_DIR"] = str(folder := served.new_folder(str(home / "served")))
    lock = served.take(folder)
    if kill_at:
        sys.addaudithook(killer(kill_at, home))
    for number in range(MOST):
        try:
            kind.write(workspace, number)
        except Exception as error:
            tells.send(user_message(error))
            break
        tells.send(number)
    lock.close()


def killer(at: int, home: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """Kills this process at its `at`-th call that changes what is on the disk, or just after."""
    calls, after = 0, random.Random(at).choice([0.0, 5e-5, 2e-4, 1e-3])  # seconds

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        if event in ON_DISK and str(arguments[0]).startswith(str(home)):
            calls += 1
            if calls == at and after:
                signal.setitimer(signal.ITIMER_REAL, after)  # SIGALRM ends it as SIGKILL does
            elif calls == at:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def heard(hears: Connection) -> tuple[int, str]:
    """How many writes were done, and the sentence that ended them."""
    done, said = 0, ""
    try:
        while hears.poll():
            told = hears.recv()
            done, said = (done + 1, said) if isinstance(told, int) else (done, told)
    except EOFError:
        pass
    return done, said


def strike(fault: Fault, trial: Trial, at: Disk, seconds: float) -> tuple[int, str]:
    """The fault at a random moment of a process that writes for so many seconds."""
    between = fault == "kill" and trial.rng.random() < 0.5
    process, hears = trial.start(trial.rng.randint(1, 120) if between else 0)
    if between:
        process.join(120)
    told: list[Any] = []
    while process.is_alive() and len(told) < trial.rng.randint(0, MOST - 2):
        told += [hears.recv()] if hears.poll(0.005) else []
    process.join(trial.rng.uniform(0, seconds / MOST))
    if fault == "kill" and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    elif fault == "full disk":
        at.fill()
    elif fault == "read-only":
        at.shut()
    elif fault == "clock":
        jump(trial)
    process.join(120)
    at.open()
    at.free()
    done, said = heard(hears)
    return done + len([each for each in told if isinstance(each, int)]), said


def jump(trial: Trial) -> None:
    """Housekeeping, beside the process that writes, by a clock that has jumped; then a restart."""
    ahead = trial.rng.choice([-400, -8, 8, 30, 4000]) * DAY
    passed = {"later": 0.0, "ahead": 0.0}

    def steady() -> float:
        return time.monotonic() + passed["later"]

    def wall() -> float:
        return time.time() + passed["later"] + passed["ahead"]

    clock, nothing = Clock(trial.store.root, wall, steady), trial.home / "served" / "none"
    for passed["ahead"] in (0.0, ahead):
        for _ in range(3):
            passed["later"] += 600.0
            tidy(trial.store, nothing, now=clock.now())
    clock = Clock(trial.store.root, wall, steady)  # a start with the wrong clock
    tidy(trial.store, nothing, now=clock.now())


def measure(name: str, kind: Kind, fault: Fault, at: Disk, rng: random.Random) -> dict[str, Any]:
    """One fault; what came of it."""
    trial = Trial(kind, at.folder / f"{rng.getrandbits(40):x}", rng)
    started = time.monotonic()
    process, hears = trial.start()
    process.join(120)
    seconds, (done, said) = time.monotonic() - started, heard(hears)
    if done != MOST:
        raise SystemExit(f"{name} fails by itself after {done} writes: {said}")
    trial = Trial(kind, at.folder / f"{rng.getrandbits(40):x}", rng)
    done, said = strike(fault, trial, at, seconds)
    found = [] if "did not foresee" not in said else [f"no sentence: {said}"]
    found += trial.recover()
    if not trial.workspace.folder.is_dir():
        return {"done": done, "said": said, "found": [*found, "lost: the whole workspace"]}
    found += faults_in(kind, trial.workspace, done)
    if done < MOST - 1:  # and it goes on
        kind.write(trial.workspace, done + 1)
    return {"done": done, "said": said, "found": found}


def at_work(fault: Fault, came: dict[str, Any]) -> bool:
    """Whether the fault came while there was something to be written."""
    return fault == "clock" or came["done"] < MOST


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--each", type=int, default=3, help="faults of each on each (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind of write")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    counts: Counter[str] = Counter()
    struck: dict[str, Counter[str]] = {fault: Counter() for fault in get_args(Fault)}
    faults: list[str] = []
    sentences: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, hub_server.hub({}) as hub:
        for name, kind in kinds(hub).items():
            for fault in get_args(Fault) if options.only in (None, name) else ():
                for number in range(options.each):
                    with disk(Path(folder) / f"{name}-{fault}-{number}") as at:
                        came = measure(name, kind, fault, at, rng)
                        tempfile.tempdir = None
                    struck[fault][name] += at_work(fault, came)
                    counts["faults"] += 1
                    sentences[came["said"][:90]] += bool(came["said"])
                    for each in came["found"]:
                        counts[each.partition(":")[0]] += 1
                        faults.append(f"{fault} on {name} after {came['done']}: {each}")
            print(name, dict(counts), *faults[-3:], sep="\n  ", flush=True)
    result = {
        "faults": counts["faults"],
        "while something was written": {fault: dict(each) for fault, each in struck.items()},
        **{what: counts[what] for what in ("lost", "half", "wrong", "left over", "no sentence")},
        "refused by": dict(sentences.most_common()),
        "found": faults,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, tmpfs",
    }
    conclude(result, options.json, faults)


if __name__ == "__main__":
    main()
