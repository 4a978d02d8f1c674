"""A run on several processes is the run on one, and the first process alone writes."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from personalization.adapters.adapter import read_tensors
from personalization.command_line import main
from personalization.errors import RecipeError
from personalization.recipe import LowRank, Prior, Recipe
from personalization.training import processes
from personalization.training.run import Run

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "assets" / "examples" / "crowned-dog"
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1")
SETTLED = ("--mixed_precision", "no", "--dynamo_backend", "no")
# What each process writes under the folder, as the interpreter itself tells it.
WATCHED = """
import json, os, sys
folder, notes = sys.argv[1:3]
written = []

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        path, writes = (args or [""])[0], event in ("os.rename", "os.mkdir", "os.remove")
    if writes and str(path).startswith(folder):
        written.append(str(path))

sys.addaudithook(watch)
from personalization.command_line import main
code = main(sys.argv[3:])
with open(f"{notes}/{os.environ['RANK']}.json", "w") as file:
    json.dump(written, file)
sys.exit(code)
"""


def command(folder: Path, recipe: Path) -> list[str]:
    words = ["--token", "sks", "--noun", "dog", "--kind", "creature", "--base", "pocket"]
    return ["train", f"--run={folder}", f"--photos={PHOTOS}", *words, f"--recipe={recipe}"]


def launched(count: int, script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    call = [*LAUNCH, f"--num_processes={count}", f"--main_process_port={port}", *SETTLED]
    return subprocess.run(
        [*call, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_processes_have_the_loss_curve_of_one_and_the_first_alone_writes(tmp_path, capsys):
    # Three samples: one process has one of them, the other two.
    how = Recipe(
        LowRank(rank=2, learning_rate=1e-2),
        3,
        batch_size=3,
        checkpoint_every=2,
        prior=Prior("adapter_off"),
    )
    recipe, script = tmp_path / "recipe.json", tmp_path / "watched.py"
    recipe.write_text(how.changed(preview_every=3).to_json())
    script.write_text(WATCHED)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert main(command(alone, recipe)) == 0

    process = launched(2, script, shared, tmp_path, *command(shared, recipe))
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout == f"{Run.open(shared).adapter_path}\n"
    first, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert any("adapter.safetensors" in path for path in first)
    assert not other

    one, two = Run.open(alone), Run.open(shared)
    curves = [[(row.loss, row.prior_loss) for row in run.losses()] for run in (one, two)]
    assert len(curves[0]) == 3
    torch.testing.assert_close(*map(torch.tensor, curves), rtol=0, atol=1e-4)
    # Steep enough that each process by itself would lose its way by more than that.
    a, b = read_tensors(one.adapter_path), read_tensors(two.adapter_path)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-4)
    assert len(two.previews()) == 1


@contextmanager
def one_of(count: int, rank: int):
    """This process as one of several, of which the others say nothing."""
    distributed.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def test_a_batch_is_shared_without_rest_and_nobody_goes_without():
    for size, count in ((2, 2), (3, 2), (8, 3), (5, 5)):
        samples = []
        for rank in range(count):
            with one_of(count, rank):
                part = range(size)[processes.share(size)]
                assert part
                assert processes.first() == (rank == 0)
            samples += part
        assert samples == list(range(size))
    with one_of(3, 0), pytest.raises(RecipeError, match="A batch of 2 cannot be shared by 3"):
        processes.share(2)
    assert (processes.share(7), processes.count()) == (slice(0, 7), 1)
