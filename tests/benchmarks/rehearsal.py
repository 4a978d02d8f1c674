"""A first visit at full size, with random weights: what the estimates say, and what is measured.

    python -m tests.benchmarks.rehearsal --base sd15 [--reduced] [--size N] [--drawn STEPS]
                                         [--folder DIR] [--json FILE]

A repository of the base's real architecture, with weights of noise and OpenAI's vocabulary, is
written in diffusers' layout and served by a Hub on the loopback, with an LCM-LoRA and a small
autoencoder beside it. The app starts on it; by its endpoints a word and a subject are taught for
two steps, pictures are drawn, a report is begun, the adapter is exported; then it is loaded into an
untouched pipeline. Every step costs what it would with weights that have learned.

--reduced keeps the widths and leaves out layers (`full_size.REDUCED`), for bases that this machine
has no memory or no time for whole; the estimates are then of what is left. The app is told nothing
of it, and refuses what the whole base would not fit. --size is of the photos that are taught. The
figures so far are written after each part, and one that fails is said and passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from gradio_client import Client, handle_file
from PIL import Image
from safetensors.torch import load_file

from personalization.bases import memory
from personalization.bases.catalog import CATALOG, BaseSpec
from personalization.recipe import Recipe
from personalization.sampling import pace
from personalization.training.estimate import outlook_on
from personalization.workspaces.workspace import Workspaces
from tests.support.full_size import KINDS, reduced, served_by
from tests.support.hub_server import hub
from tests.support.server import App, running

STEPS = 2
POLL = 0.05  # seconds
PATIENCE = 1200.0  # seconds for the first pictures of a report
CPU = torch.device("cpu")
WITHIN = {"GiB": 0.25, "seconds": 0.40}  # how near an estimate is meant to be


@dataclass
class Row:
    """A figure as it was told and as it was measured."""

    what: str
    unit: str
    told: float | None
    measured: float

    @property
    def off(self) -> float | None:
        """How far the estimate is from what was measured, as a share of that."""
        return self.told / self.measured - 1 if self.told is not None else None

    def __str__(self) -> str:
        if self.told is None or self.off is None:
            return f"{self.what}: {self.measured:.2f} {self.unit}"
        kept = "" if abs(self.off) <= WITHIN[self.unit] else ", outside what it is meant to be"
        return (
            f"{self.what}: told {self.told:.2f}, measured {self.measured:.2f} {self.unit} "
            f"({self.off:+.0%}{kept})"
        )


@dataclass
class Findings:
    """All rows, printed and written as they come."""

    of: str
    path: Path | None = None
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, what: str, unit: str, told: float | None, measured: float) -> None:
        self.rows.append(Row(what, unit, told, measured))
        print(self.rows[-1], flush=True)
        self.write()

    def write(self) -> None:
        if self.path:
            rows = [vars(row) for row in self.rows]
            found = {self.of: rows, "failed": self.failed}
            self.path.write_text(json.dumps(found, indent=1) + "\n")

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What fails in it is said, and the visit goes on."""
        try:
            yield
        except Exception as error:
            self.failed.append(f"{what}: {type(error).__name__}: {str(error)[:500]}")
            print(f"FAILED {self.failed[-1]}", flush=True)
            self.write()


@contextmanager
def peak(app: App) -> Iterator[list[float]]:
    """Fills the list with the GiB that the app's process holds at most meanwhile (Linux)."""
    found: list[float] = []
    assert app.process
    Path(f"/proc/{app.process.pid}/clear_refs").write_text("5")
    yield found
    found.append(app.peak_memory() / memory.GIB)


def photos(folder: Path, size: int) -> list[Path]:
    """Two pictures of noise."""
    paths = []
    rng = np.random.default_rng(0)
    for i in range(2):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


class Rehearsal:
    """The visit, by the app's endpoints."""

    def __init__(self, app: App, spec: BaseSpec, folder: Path, found: Findings, drawn: int):
        self.app, self.spec, self.folder, self.found = app, spec, folder, found
        self.drawn = drawn
        forever = {"timeout": None}  # a step may take minutes
        self.client = Client(
            app.url, verbose=False, download_files=folder / "down", httpx_kwargs=forever
        )
        self.photos = [handle_file(path) for path in photos(folder, spec.size)]
        self.workspace = Workspaces(app.home / "workspaces").new()
        self.session = self.workspace.id

    def teach(self, what: str, api: str, words: tuple[str, str], recipe: Recipe) -> str:
        """Two steps of a recipe, without the pictures that the app draws then."""
        told = outlook_on(self.spec, recipe, CPU)
        preset = self.workspace.presets.keep(what, recipe)
        with peak(self.app) as held:
            job = self.client.submit(
                self.photos,
                *words,
                steps=STEPS,
                session=self.session,
                preset=preset,
                confirm=True,
                api_name=api,
            )
            name = next(status["run"] for status, *_ in job if "run" in status)
            run = self.workspace.run(name)
            # Stopped in its last step, which it makes to its end, it draws nothing afterwards.
            while not job.done() and len(run.losses()) < STEPS - 1:
                time.sleep(POLL)
            time.sleep(run.losses()[-1].seconds / 5 if run.losses() else 0)
            self.client.predict(self.session, name, api_name="/stop_run")
            error = job.exception()  # that it was stopped, where it is finished
        if error and run.state.status != "finished":
            raise error
        rows = run.losses()
        each = [row.seconds for row in rows]
        self.found.add(f"{what}, a step", "seconds", told.step, min(each))
        self.found.add(f"{what}, memory", "GiB", (told.memory or 0) / memory.GIB, held[0])
        shutil.copy(run.adapter_path, self.folder / f"{what}.safetensors")
        return name

    def adapters(self) -> list[str]:
        """The names of what is learned so far."""
        said = self.client.predict(self.session, api_name="/list_adapters")
        return [each["name"] for each in said]

    def draw(self, *, fast: bool) -> None:
        """One picture with the subject's adapter."""
        way = self.spec.fast
        sampling = way.sampling if fast and way else replace(self.spec.sampling, steps=self.drawn)
        told = pace.picture(self.spec, CPU, sampling)
        names = self.adapters()
        started = time.perf_counter()
        self.client.predict(
            [{"name": names[0], "weight": 1.0}],
            "a photo of sks dog",
            steps=sampling.steps,
            guidance=sampling.guidance,
            session=self.session,
            fast=fast,
            confirm=True,
            api_name="/draw_stack",
        )
        took = time.perf_counter() - started
        few = {1: "one step", 2: "two steps"}.get(self.drawn, f"{self.drawn} steps")
        how = "fast" if fast else f"of {few} with guidance"
        self.found.add(f"a picture {how}", "seconds", told, took)

    def report(self, run: str, pictures: int = 2) -> None:
        """The first pictures of a report."""
        asked = (self.session, run, True)  # however long it takes here
        job, began = self.client.submit(*asked, api_name="/report"), time.perf_counter()
        marks: dict[int, float] = {}
        for status, *_ in job:
            marks.setdefault(status.get("done", 0), time.perf_counter())
            if status.get("done", 0) > pictures or time.perf_counter() - began > PATIENCE:
                break
        job.cancel()
        times = sorted(marks.values())
        if len(times) > 2:
            way = self.spec.fast
            sampling = way.sampling if way else self.spec.sampling
            told = pace.picture(self.spec, CPU, sampling)
            self.found.add("a report, a picture", "seconds", told, times[-1] - times[-2])

    def export(self) -> list[Path]:
        """The subject's adapter as files for other programs."""
        subject = next(name for name in self.adapters() if "sks" in name)
        files = self.client.predict(subject, self.session, api_name="/export_adapter")
        return [Path(file if isinstance(file, str) else file["path"]) for file in files]


def load_back(spec: BaseSpec, repository: Path, files: list[Path], folder: Path) -> None:
    """What was taught and exported, in an untouched pipeline of diffusers."""
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(repository, dtype=torch.bfloat16)
    words = load_file(folder / "word.safetensors")
    prompt = "a photo of sks dog"
    if hasattr(pipe, "load_textual_inversion"):  # those of flow transformers load no words
        prompt += " and <thing>"
        of_both = [key for key in ("clip_l", "clip_g") if key in words]
        for key in of_both:  # of two encoders, each has its own vectors
            part = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}[key]
            named = {"text_encoder": getattr(pipe, part)}
            named["tokenizer"] = getattr(pipe, part.replace("text_encoder", "tokenizer"))
            pipe.load_textual_inversion({"<thing>": words[key]}, token="<thing>", **named)
        if not of_both:
            pipe.load_textual_inversion(folder / "word.safetensors", token="<thing>")
    pipe.load_lora_weights(next(f for f in files if "diffusers" in f.name))
    side = 256 if spec.size > 256 else spec.size
    with torch.inference_mode():
        pipe(prompt=prompt, num_inference_steps=2, height=side, width=side)
    print("loaded back into an untouched pipeline, and drawn with", flush=True)


def visit(
    app: App, spec: BaseSpec, folder: Path, found: Findings, size: int, drawn: int
) -> list[Path]:
    """All that the visitor does; gives the exported files."""
    guest = Rehearsal(app, spec, folder, found, drawn)
    guest.client.predict(api_name="/list_bases")
    own = {n: r.changed(steps=STEPS, resolution=size) for n, r in spec.recipes.items()}
    run, files = "", []
    with found.part("word"):
        guest.teach("word", "/train_word", ("<thing>", "dog"), own["word"])
    with found.part("subject"):
        run = guest.teach("subject", "/train_subject", ("sks", "dog"), own["subject"])
    for fast in (True, False):
        if spec.fast or not fast:
            with found.part("a picture fast" if fast else "a picture"):
                guest.draw(fast=fast)
    with found.part("export"):
        files = guest.export()
    if spec.fast and run:  # at the base's own steps a picture takes minutes
        with found.part("report"):
            guest.report(run)
    return files


def rehearse(spec: BaseSpec, folder: Path, found: Findings, size: int, drawn: int) -> None:
    """The visit, and what comes after it."""
    hub_folder = folder / ("hub-reduced" if spec.architecture.endswith("reduced") else "hub")
    served = served_by(spec, hub_folder)
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    environment: dict[str, Any] = {
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "cache"),
        "PERSONALIZATION_BASE": spec.name,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # what is told is of as many
    }
    with hub(served) as server:
        started = time.perf_counter()
        with running(home, patience=1200, HF_ENDPOINT=server.url, **environment) as app:
            found.add("the page", "seconds", None, time.perf_counter() - started)
            files = visit(app, spec, folder, found, size, drawn)
    with found.part("loading back"):
        load_back(spec, hub_folder / spec.source, files, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="sd15", choices=[*KINDS])
    parser.add_argument("--reduced", action="store_true", help="fewer layers, of the same widths")
    parser.add_argument("--size", type=int, default=0, help="pixels a side of the photos taught")
    parser.add_argument("--drawn", type=int, default=2, help="steps of a picture with guidance")
    parser.add_argument("--folder", type=Path, help="keep the repository here, and take it again")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    # Calibrated in this run: what else the machine does now, it does to both figures.
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    spec = CATALOG[arguments.base]
    found = Findings(arguments.base + (", reduced" if arguments.reduced else ""), arguments.json)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        of = reduced(spec) if arguments.reduced else spec
        rehearse(of, folder, found, arguments.size, arguments.drawn)
    if found.failed:
        raise SystemExit("\n".join(found.failed))


if __name__ == "__main__":
    main()
