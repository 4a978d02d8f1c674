"""Format, lint, types and tests, as CI runs them.

    python3 -m tests.run                              everything
    python3 -m tests.run --quick                      all but the tests of a tier: slow, browser
    python3 -m tests.run tests/data/test_masks.py     these tests, and nothing before them

Any other argument is pytest's. Makes .venv where there is none, and installs what is missing: the
packages, and Debian's chromium for the browser tests. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "tests" / "requirements.txt"]
NOTHING_PICKED = 5  # pytest's exit code
DATA = ROOT / "tests" / "requirements-data.txt"  # of which the files are wanted, not the code


def run(*command: str | Path) -> int:
    print("$", *command, flush=True)
    return subprocess.run(list(map(str, command)), cwd=ROOT).returncode


def call(*command: str | Path) -> None:
    if code := run(*command):
        sys.exit(code)


def install_packages() -> None:
    """Once for each state of the requirements."""
    stamp = VENV / "installed"
    wanted = sha256(b"".join(path.read_bytes() for path in [*REQUIREMENTS, DATA])).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    call(PYTHON, "-m", "pip", "install", "-q", "-r", REQUIREMENTS[1])
    call(PYTHON, "-m", "pip", "install", "-q", "--no-deps", "-r", DATA)
    stamp.write_text(wanted)


def install_chromium() -> None:
    """Debian's, once."""
    if any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit("The browser tests need Chromium: install it, then run this again.")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    call("apt-get", "update", "-qq")
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")


def main() -> None:
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    if quick:
        arguments.remove("--quick")
    picked = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments)
    install_packages()
    if not quick:
        install_chromium()
    python = str(PYTHON)
    source = ["app.py", "personalization", "tests"]
    if not picked:
        call(python, "-m", "ruff", "format", "--check", *source)
        call(python, "-m", "ruff", "check", *source)
        call(python, "-m", "mypy")
    test = [python, "-m", "pytest", "--durations=10", *arguments]
    if picked:
        call(*test)
        return
    # A test takes one core, and so does the app that it starts, for which its test often waits. The
    # tiers come one after the other: what is broken in the first is known before the second starts.
    shared = ["-n", "2", "--dist", "loadfile"] if (os.cpu_count() or 1) > 1 else []
    tiers = ["not slow and not browser", *["slow or browser"] * (not quick)]
    found = False
    for tier in tiers:
        code = run(*test, *shared, "-m", tier)
        if code not in (0, NOTHING_PICKED):
            sys.exit(code)
        found |= code == 0
    sys.exit(0 if found else NOTHING_PICKED)


if __name__ == "__main__":
    main()
