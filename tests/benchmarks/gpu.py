"""Teaching at full size on a GPU, with random weights: seconds a step and memory, by method.

    python -m tests.benchmarks.gpu [--bases sd15 sdxl] [--methods word lora ...] [--steps 40]
        [--json FILE]

Each base is built from its configuration, in the precision that the app would load it in, and
taught by its own recipes on pictures of noise; every step costs what it would with real weights.
Beside what was measured stands what the app says beforehand, and the share of the card's peak that
the step reaches. With --bases tiny it runs anywhere, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer

from personalization import bases
from personalization.bases import memory
from personalization.bases.architectures import ARCHITECTURES
from personalization.bases.base import Base
from personalization.bases.catalog import CATALOG
from personalization.bases.loading import precision
from personalization.bases.unet import UNetBase
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.events import StepDone
from personalization.recipe import LowRank, Prior, Recipe
from personalization.sampling.pace import PEAKS
from personalization.training import loop
from personalization.training.estimate import estimate
from personalization.training.run import Run
from tests.support import tiny

WARM = 10  # steps until kernels are chosen and memory has settled
PIPELINES = {
    "sd15": diffusers.StableDiffusionPipeline,
    "sd21": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
}


def words(entries: int) -> CLIPTokenizer:
    """A tokenizer of as many entries as the text encoder has rows, most of them never used."""
    small = tiny.tokenizer()
    filler = {f"filler{i}</w>": len(small) + i for i in range(entries - len(small))}
    return CLIPTokenizer(vocab=small.get_vocab() | filler, merges=[], model_max_length=77)


def random_base(name: str, device: torch.device) -> Base:
    """The base at full size, without anything learned."""
    if name == "tiny":
        return tiny.family_base("sd15")
    parts: dict[str, Any] = {}
    for part, described in ARCHITECTURES[name].parts.items():
        module = described.on_meta().to(precision(CATALOG[name], device)).to_empty(device=device)
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    tensor.normal_(0, 0.02)
        parts[part] = module
        if part.startswith("text_encoder"):
            position = module.get_submodule(next(
                n for n, _ in module.named_modules() if n.endswith("embeddings")
            ))  # fmt: skip
            position.position_ids = torch.arange(77, device=device)[None]
            rows = module.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
            parts[part.replace("text_encoder", "tokenizer")] = words(rows)
    schedule = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )
    if name != "sdxl":
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    return UNetBase(CATALOG[name], PIPELINES[name](scheduler=schedule, **parts), device)


def recipes(name: str, steps: int) -> Iterator[tuple[str, Recipe]]:
    """The base's own, by each method and with each way to keep the class."""
    own = CATALOG["sd15" if name == "tiny" else name].recipes
    short: dict[str, Any] = {"steps": steps, "preview_every": 0, "checkpoint_every": steps}
    few = Prior("images", images=4)  # drawing them is not what is measured
    yield "word", own["word"].changed(**short)
    subject = own["subject"].changed(**short)
    assert isinstance(subject.method, LowRank)
    yield "lora", subject
    yield "lora, class images", subject.changed(prior=few)
    yield "lora, checkpointing", subject.changed(gradient_checkpointing=True)
    yield "lora, text encoder", subject.changed(method=replace(subject.method, text_encoder=True))
    for kind in ("loha", "lokr", "dora"):
        yield kind, subject.changed(method=replace(subject.method, kind=kind))
    yield "full", own["full"].changed(**short, prior=few)


def noise(size: int) -> tuple[Photo, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        Photo(str(i), Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)))
        for i in range(4)
    )


def measure(base: Base, recipe: Recipe) -> dict[str, float]:
    """Seconds a step after the first ones, and the peak of the memory, in GiB."""
    cuda = base.device.type == "cuda"
    concept = Concept("object", "sks", "dog", noise(base.spec.size))
    started = 0.0
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", concept, recipe, base.spec.name)
        for event in loop.train(base, run):
            if isinstance(event, StepDone) and event.step in (WARM, recipe.steps):
                if cuda:
                    torch.cuda.synchronize()
                started, before = time.perf_counter(), started
        found = {"seconds": (started - before) / (recipe.steps - WARM)}
        if cuda:
            found["GiB"] = ((run.state.memory or 0) + memory.CONTEXT) / memory.GIB
    return found


def told(name: str, recipe: Recipe, device: str) -> dict[str, float]:
    """What the app says beforehand, and the least that the card could take."""
    if name == "tiny":
        return {}
    said = estimate(CATALOG[name], recipe)
    figures = {"GiB said": said.memory / memory.GIB, "TFLOP": said.flops / 1e12}
    peak = next((peak for card, peak in PEAKS.items() if card in device), None)
    if peak:
        figures |= {"seconds said": said.seconds(device) or 0, "least": said.flops / peak}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", default=["sd15", "sdxl"])
    parser.add_argument("--methods", nargs="+", help="only these, by how their names begin")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    device = bases.best_device()
    card = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    found: dict[str, Any] = {"card": card, "bases": {}}
    for name in arguments.bases:
        base = random_base(name, device)
        rows = found["bases"][name] = {}
        for title, recipe in recipes(name, arguments.steps):
            if arguments.methods and not any(title.startswith(m) for m in arguments.methods):
                continue
            try:
                rows[title] = measure(base, recipe) | told(name, recipe, card)
            except torch.OutOfMemoryError:
                rows[title] = {"out of memory": 1.0}
            if "least" in rows[title] and "seconds" in rows[title]:
                rows[title]["share of the peak"] = rows[title]["least"] / rows[title]["seconds"]
            shown = ", ".join(f"{key} {value:.3g}" for key, value in rows[title].items())
            print(f"{name}, {title}: {shown}", flush=True)
            if arguments.json:  # as far as it got
                arguments.json.write_text(json.dumps(found, indent=1) + "\n")
        del base
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
