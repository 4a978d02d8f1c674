"""Teaching beside diffusers' example scripts: the same base, photos and machine, in turn.

    python -m tests.benchmarks.training --diffusers PATH [--torchvision FOLDER] [--json FILE]
        [--seeds 0 1 2] [--tasks subject word] [--parts speed goal] [--work DIR]

PATH is a checkout of diffusers. Its scripts need torchvision, which the app does not: where it is
not installed, `pip install --no-deps --target FOLDER torchvision` keeps it apart.

speed: optimizer steps a second with the same rank, targets, batch and learning rate, without what
would change the result; the median over steps after the first ten, the ratio over seeds. Peak
memory is that of each process. The two losses are averages over the same steps, of different noise:
they must agree within their scatter.

goal: the script with the settings of its README, then the app's default recipe; the seconds of each
from the start of its process to its file, and what each learned by the report's measures. The app's
must be no worse, or the seconds say nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from personalization import bases
from personalization.adapters import formats
from personalization.adapters.adapter import Adapter
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.data.concept import Concept
from personalization.data.frames import crop
from personalization.data.photos import open_photos
from personalization.evaluation.evaluate import evaluate
from personalization.evaluation.metrics import interval
from personalization.evaluation.plan import PLANS, Budget
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import Finished, StepDone
from personalization.recipe import LearnedEmbedding, LowRank, Prior, Recipe
from personalization.sampling.sweep import STRENGTHS
from personalization.training import loop
from personalization.training.run import Run

from .external import Notes

SPEC = CATALOG["pocket"]
PHOTOS = ASSETS / "examples" / "crowned-dog"
NOUN, RARE, NEW = "dog", "sks", "<king>"
WARM = 10  # steps until caches and memory have settled
TARGETS = ("to_k", "to_q", "to_v", "to_out.0")  # the script's
LORA_STEPS, CLASS_IMAGES = 500, 200  # of the scripts' READMEs
WORD_STEPS = 3000


@dataclass(frozen=True)
class Scripts:
    """Where they are, and where what only they need is."""

    diffusers: Path
    torchvision: Path | None


def equal(task: str, steps: int, seed: int) -> Recipe:
    """What the script does, as a recipe: same trained weights, batch and learning rate."""
    if task == "subject":
        method = LowRank("lora", 4, 4.0, targets=TARGETS, learning_rate=1e-4)
        prior = Prior("images", 1.0, images=4)
        return Recipe(method, steps, batch_size=1, prior=prior, seed=seed, checkpoint_every=500)
    return Recipe(
        LearnedEmbedding(1, NOUN, learning_rate=2e-3),
        steps,
        batch_size=4,
        seed=seed,
        checkpoint_every=500,
    )


def script_command(
    diffusers: Path, task: str, photos: Path, out: Path, seed: int, steps: int | None
) -> list[str]:
    """The script as its README calls it; with `steps`, at the batch of `equal` and so many."""
    common = ["--pretrained_model_name_or_path", SPEC.source, "--resolution", str(SPEC.size)]
    common += ["--output_dir", str(out), "--seed", str(seed), "--checkpointing_steps", "100000"]
    common += ["--lr_scheduler", "constant", "--lr_warmup_steps", "0"]
    if task == "subject":
        return [
            str(diffusers / "examples/dreambooth/train_dreambooth_lora.py"),
            *common,
            *("--instance_data_dir", str(photos), "--instance_prompt", f"a photo of {RARE} {NOUN}"),
            *("--train_batch_size", "1", "--gradient_accumulation_steps", "1"),
            *("--learning_rate", "1e-4", "--max_train_steps", str(steps or LORA_STEPS)),
            *("--with_prior_preservation", "--prior_loss_weight", "1.0"),
            *("--class_data_dir", str(out / "class"), "--class_prompt", f"a photo of {NOUN}"),
            *("--num_class_images", str(4 if steps else CLASS_IMAGES)),
        ]
    batch = ("4", "1") if steps else ("1", "4")
    return [
        str(diffusers / "examples/textual_inversion/textual_inversion.py"),
        *common,
        *("--train_data_dir", str(photos), "--learnable_property", "object"),
        *("--placeholder_token", NEW, "--initializer_token", NOUN),
        *("--train_batch_size", batch[0], "--gradient_accumulation_steps", batch[1]),
        *("--learning_rate", "5e-4", "--scale_lr", "--max_train_steps", str(steps or WORD_STEPS)),
        *("--save_steps", "100000"),
    ]


def losses_said(output: str) -> list[float]:
    """The losses of a script's progress bar, one a step as far as it was drawn."""
    by_step: dict[int, float] = {}
    for step, loss in re.findall(r"(\d+)/\d+ \[[^\]]*loss=([\d.e-]+)", output):
        by_step[int(step)] = float(loss)
    return list(by_step.values())


def run_script(command: list[str], out: Path, torchvision: Path | None) -> dict[str, Any]:
    """The notes of a script, with its losses."""
    notes = out / "notes.json"
    whole = [sys.executable, "-m", "tests.benchmarks.external", str(notes), *command]
    seen = {"PYTHONPATH": str(torchvision)} if torchvision else {}
    done = subprocess.run(
        whole, env=ENVIRONMENT | seen, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(notes.read_text()) | {"losses": losses_said(done.stderr)}


def run_ours(task: str, photos: Path, out: Path, seed: int, steps: int | None) -> dict[str, Any]:
    """The notes of the app's own run, in a process of its own as well."""
    whole = [sys.executable, "-m", "tests.benchmarks.training", "--ours", task]
    whole += ["--photos", str(photos), "--work", str(out), "--seeds", str(seed)]
    whole += ["--steps", str(steps or 0)]
    done = subprocess.run(whole, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the app's run failed:\n{done.stderr[-3000:]}")
    return json.loads((out / "notes.json").read_text())


def ours(task: str, photos: Path, out: Path, seed: int, steps: int) -> None:
    """One run with its notes; `steps` of the equal recipe, or the default one."""
    notes = Notes()
    taken, _ = open_photos(sorted(photos.glob("*.png")))
    placeholder_token = RARE if task == "subject" else NEW
    concept = Concept("creature", placeholder_token, NOUN, tuple(taken))
    default = SPEC.recipes["subject" if task == "subject" else "word"]
    recipe = equal(task, steps, seed) if steps else default.changed(seed=seed, preview_every=0)
    run = Run.create(out / "run", concept, recipe, SPEC.name)
    losses: list[float] = []
    for event in loop.train(bases.load(SPEC), run, cache=out / "cache"):
        if isinstance(event, StepDone):
            losses.append(event.loss + (event.prior_loss or 0.0))
        elif isinstance(event, Finished):
            notes.write(out / "notes.json", losses=losses, adapter=str(run.adapter_path))


def pace(notes: dict[str, Any]) -> float:
    """Steps a second, by the median step after the first ones."""
    steps = notes["steps"][WARM:]
    return 1 / statistics.median(b - a for a, b in itertools.pairwise(steps))


def fidelity(
    adapter: Adapter, photos: Path, strengths: tuple[float, ...] = STRENGTHS
) -> dict[str, float]:
    """The report's figures at the strength that it recommends, of these."""
    taken, _ = open_photos(sorted(photos.glob("*.png")))
    budget = Budget(None, (replace(PLANS[0], strengths=strengths),))
    report = evaluate(bases.load(SPEC), TrainedAdapter.of_adapter(adapter, taken), budget)
    assert report.figures is not None, report.limits
    found = report.figures
    return {
        "subject_fidelity": found.balance.subject_fidelity.mean,
        "subject_fidelity low": found.balance.subject_fidelity.low,
        "subject_fidelity high": found.balance.subject_fidelity.high,
        "subject_fidelity_share": found.balance.subject_share.mean,
        "prompt_fidelity_share": found.balance.prompt_share.mean,
        "drift": found.drift.towards.mean,
        "strength": found.balance.strength,
    }


def described(adapter: Adapter, task: str) -> Adapter:
    """A script's file says little of itself: what it was asked to teach is added."""
    placeholder_token = RARE if task == "subject" else NEW
    about = adapter.description
    return adapter.described(
        placeholder_token=placeholder_token, class_noun=NOUN, kind="creature", method=about.method
    )


def speed(scripts: Scripts, task: str, seed: int, steps: int) -> dict[str, Any]:
    """The two in turn, `steps` each."""
    with tempfile.TemporaryDirectory() as folder:
        photos = photos_in(Path(folder))
        theirs_out, ours_out = Path(folder) / "script", Path(folder) / "app"
        theirs_out.mkdir()
        ours_out.mkdir()
        command = script_command(scripts.diffusers, task, photos, theirs_out, seed, steps)
        theirs = run_script(command, theirs_out, scripts.torchvision)
        mine = run_ours(task, photos, ours_out, seed, steps)
    return {
        "script steps/s": pace(theirs),
        "app steps/s": pace(mine),
        "ratio": pace(mine) / pace(theirs),
        "script peak MB": theirs["peak"] / 1e6,
        "app peak MB": mine["peak"] / 1e6,
        "memory": mine["peak"] / theirs["peak"],
        "script losses": theirs["losses"],
        "app losses": mine["losses"],
    }


def goal(scripts: Scripts, task: str, seed: int, work: Path) -> dict[str, Any]:
    """README settings against the app's default, by the clock and by what came of it.

    `work` keeps the script's side, which takes by far the longest.
    """
    kept = work / f"goal-{task}-{seed}-script.json"
    with tempfile.TemporaryDirectory() as folder:
        photos, out = photos_in(Path(folder)), Path(folder) / "out"
        out.mkdir()
        if not kept.exists():
            command = script_command(scripts.diffusers, task, photos, out, seed, None)
            notes = run_script(command, out, scripts.torchvision)
            name = "pytorch_lora_weights" if task == "subject" else "learned_embeds"
            adapter = formats.read(out / f"{name}.safetensors", bases.load(SPEC))
            found = fidelity(described(adapter, task), photos)
            taken = {"seconds": notes["ended"] - notes["started"]}
            kept.write_text(json.dumps(taken | {"fidelity": found}, indent=1))
        theirs = json.loads(kept.read_text())
        notes = run_ours(task, photos, out, seed, None)
        adapter = formats.read(Path(notes["adapter"]), bases.load(SPEC))
        seconds = notes["ended"] - notes["started"]
        return {
            "script seconds": theirs["seconds"],
            "app seconds": seconds,
            "ratio": theirs["seconds"] / seconds,
            "script": theirs["fidelity"],
            "app": fidelity(adapter, photos),
            "app, as close": as_close(adapter, photos, theirs["fidelity"]["subject_fidelity"]),
        }


def as_close(adapter: Adapter, photos: Path, least: float) -> dict[str, float]:
    """The figures at the least strength with this subject fidelity: what else it costs there."""
    return next(
        found
        for strength in STRENGTHS
        if (found := fidelity(adapter, photos, (strength,)))["subject_fidelity"] >= least
        or strength == STRENGTHS[-1]
    )


def photos_in(folder: Path) -> Path:
    """The example's photos, cropped to the base's size, alone in a folder: the scripts read all."""
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    taken, _ = open_photos(sorted(PHOTOS.glob("[0-9]*.png")))
    for index, photo in enumerate(taken):
        crop(photo, SPEC.size).save(photos / f"{index}.png")
    return photos


def mean_loss(values: list[list[float]]) -> str:
    """Over all seeds' steps after the first ones."""
    found = interval(torch.tensor([value for some in values for value in some[WARM:]]))
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def of(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    lines = []
    for part, tasks in found.items():
        for task, rounds in tasks.items():
            lines.append(f"{part}, {task} ({len(rounds)} seeds): median (least to most)")
            names = [n for n, v in rounds[0].items() if isinstance(v, float)]
            for name in names:
                lines.append(f"    {name:20}{of([r[name] for r in rounds])}")
            for name in rounds[0]:
                if name.endswith(" losses"):
                    lines.append(f"    {name:20}{mean_loss([r[name] for r in rounds])}")
                elif isinstance(rounds[0][name], dict):
                    lines.append(f"    {name}")
                    for figure in rounds[0][name]:
                        values = of([r[name][figure] for r in rounds], 3)
                        lines.append(f"        {figure:16}{values}")
    return "\n".join(lines)


ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffusers", type=Path, help="a checkout of diffusers")
    parser.add_argument("--torchvision", type=Path, help="the folder that it was installed in")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60, help="of the speed part")
    parser.add_argument("--tasks", nargs="+", default=["subject", "word"])
    parser.add_argument("--parts", nargs="+", default=["speed", "goal"])
    parser.add_argument("--work", type=Path, help="keep what was measured; what is there is used")
    parser.add_argument("--photos", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        ours(arguments.ours, arguments.photos, arguments.work, arguments.seeds[0], arguments.steps)
        return
    if not arguments.diffusers:
        parser.error("--diffusers: a checkout of diffusers, whose examples are run")
    scripts = Scripts(arguments.diffusers, arguments.torchvision)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for part in arguments.parts:
            for task in arguments.tasks:
                rounds = found.setdefault(part, {}).setdefault(task, [])
                for seed in arguments.seeds:
                    path = work / f"{part}-{task}-{seed}.json"
                    if not path.exists():
                        started = time.time()
                        got = (
                            speed(scripts, task, seed, arguments.steps)
                            if part == "speed"
                            else goal(scripts, task, seed, work)
                        )
                        path.write_text(json.dumps(got))
                        took = time.time() - started
                        print(f"{path.stem}: {took:.0f} s, ratio {got['ratio']:.2f}", flush=True)
                    rounds.append(json.loads(path.read_text()))
    print(table(found))
    if arguments.json:
        result = {"cores": os.cpu_count(), "torch": torch.__version__, "found": found}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
