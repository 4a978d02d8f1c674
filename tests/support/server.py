"""The app as a process of its own, on a free port, with a root of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A test's app shares the cores with a browser and with other tests. On one thread it computes as
# much; on several each waits for the others at every step, and takes a core while it does.
ONE_CORE = {"OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(home: Path, *, patience: float = 120, **environment: str) -> Iterator[App]:
    """Start `python app.py`, wait until the page answers, end it afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    app = App(home, free_port())
    app.start(patience, environment)
    try:
        yield app
    finally:
        app.stop()


class App:
    """A running app."""

    def __init__(self, home: Path, port: int):
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / "app.log"
        self.port = port
        self.seconds_to_page = 0.0
        self.processor_seconds_to_page = 0.0
        self.process: subprocess.Popen | None = None

    def start(self, patience: float, environment: dict[str, str]) -> None:
        env = {
            **os.environ,
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_TEMP_DIR": str(self.home / "served"),
            "PERSONALIZATION_HOME": str(self.home / "workspaces"),
            "HF_HUB_OFFLINE": "1",
            **environment,
        }
        env.pop("OMP_NUM_THREADS", None)  # the tests' own setting, not the app's
        started = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"],
                cwd=ROOT,
                env=env | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the app ended at its start:\n{self.log.read_text()}")
            if time.monotonic() - started > patience:
                raise TimeoutError(f"no page after {patience} s:\n{self.log.read_text()}")
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    answer.read()
                    break
            except OSError:
                time.sleep(0.05)
        self.seconds_to_page = time.monotonic() - started
        self.processor_seconds_to_page = self.processor_seconds()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def processor_seconds(self) -> float:
        """What the process and its threads have computed so far (Linux)."""
        assert self.process
        # The fields after the command's name, which may hold spaces: utime and stime, in ticks.
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> int:
        """Bytes that the process has held at most (Linux)."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
