"""Run someone else's training script untouched, and note when each optimizer step ended.

    python -m tests.benchmarks.external NOTES.json SCRIPT.py [ARGUMENTS ...]

torchvision's wheels are built for CUDA; with torch's CPU build its operators are missing, although
the transforms need none. They are declared here before it is imported.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def declare_operators() -> None:
    """Declare each operator that torchvision gives a shape function to, as far as it is missing."""
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        raise SystemExit("torchvision is missing: pip install --no-deps torchvision")
    source = (Path(found.origin).parent / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "FRAGMENT")
    names = re.findall(r'register_(?:meta\("|fake\("torchvision::)(\w+)"', source)
    for name in dict.fromkeys(names):
        try:
            library.define(f"{name}(Tensor anything) -> Tensor")
        except RuntimeError:  # a build that fits has its own
            continue
    globals()["_KEPT"] = library  # a library that is collected takes its operators with it


class Notes:
    """Times of steps and the peak memory of this process, written at the end."""

    def __init__(self) -> None:
        self.started = time.time()
        self.steps: list[float] = []
        register_optimizer_step_post_hook(self.step)

    def step(self, *_: Any) -> None:
        self.steps.append(time.time())

    def write(self, path: Path, **more: Any) -> None:
        status = Path("/proc/self/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        notes = {"started": self.started, "steps": self.steps, "ended": time.time()}
        notes |= {"peak": int(peak.split()[1]) * 1024, "cuda peak": cuda}
        path.write_text(json.dumps(notes | more))


def main() -> None:
    notes = Notes()
    path, script, *arguments = sys.argv[1:]
    declare_operators()
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
    notes.write(Path(path))


if __name__ == "__main__":
    main()
