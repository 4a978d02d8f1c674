"""The start: the page is there before what takes seconds is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = """
import sys, threading, pathlib, os
import app
heavy = {"torch", "diffusers", "transformers", "peft"} & set(sys.modules)
threads = [thread.name for thread in threading.enumerate() if thread.name != "MainThread"]
home = pathlib.Path(os.environ["PERSONALIZATION_HOME"])
print(sorted(heavy), threads, home.exists())
"""


@pytest.mark.slow
def test_the_page_is_built_without_torch_a_thread_or_a_folder(tmp_path):
    environment = os.environ | {"PERSONALIZATION_HOME": str(tmp_path / "home")}
    said = subprocess.run(
        [sys.executable, "-c", BUILT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip().splitlines()[-1] == "[] [] False"
