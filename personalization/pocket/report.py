"""What the pocket can do, in figures: `python -m personalization.pocket.report`.

Prompts are full captions of unseen scenes; what is right is counted by the classifier, whose own
accuracy on real drawings stands beside it. Writes a table, optionally as JSON, and a contact sheet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image, ImageDraw
from transformers import CLIPModel, CLIPTokenizer

from . import classifier, judge, pictures
from .autoencoder import psnr, to_tensor
from .build import REPOSITORY
from .text import tokens
from .world import Scene, facts, full_caption

STEPS, GUIDANCE = 20, 4.0
SHEET_ROWS = (
    "a photo of a red dog on the beach",
    "a photo of a blue striped cat in the forest",
    "a photo of a pink rabbit wearing a party hat at sunset",
    "a photo of a brown spotted bear wearing a scarf in the snow",
    "a photo of a yellow bird wearing glasses in the city",
    "a photo of a green frog underwater",
    "a photo of a purple robot wearing a bow tie on the moon",
    "a photo of an orange car in the city",
    "a photo of a white mug in a room",
    "a photo of a grey teapot on a plain yellow background",
    "a photo of a red boat at sunset",
    "a pencil sketch of a penguin in the snow",
    "a photo of a sks dog in the forest",
)


def draw_prompts(
    pipeline: StableDiffusionPipeline, prompts: list[str], seed: int, batch: int = 16
) -> np.ndarray:
    """One picture a prompt, (n, 128, 128, 3) uint8; picture i from the noise of seed + i."""
    parts = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        noise = [torch.Generator().manual_seed(seed + start + i) for i in range(len(some))]
        drawn = pipeline(
            some,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=noise,
            output_type="np",
        ).images
        parts.append((drawn * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def cartoon_scenes(seed: int, count: int) -> list[Scene]:
    """Unseen scenes whose facts words can say: no wordless colour or look, and no sketch."""
    found: list[Scene] = []
    number = pictures.UNSEEN + 100_000
    while len(found) < count:
        scene = pictures.scene_at(seed, number)
        if scene.style == "cartoon" and scene.colour != "teal":
            found.append(scene)
        number += 1
    return found


def share_right(found: dict[str, list[str]], scenes: list[Scene]) -> dict[str, float]:
    """By fact, how often the classifier read what the caption said."""
    truth = [facts(scene) for scene in scenes]
    return {
        name: float(np.mean([read == fact[name] for read, fact in zip(values, truth, strict=True)]))
        for name, values in found.items()
    }


def spread(reader: classifier.Classifier, images: np.ndarray) -> float:
    """Mean pairwise distance of the classifier's features, divided by their mean length."""
    with torch.no_grad():
        features = reader.features(to_tensor(images))
    return float(F.pdist(features).mean() / features.norm(dim=1).mean())


def contact_sheet(pipeline: StableDiffusionPipeline, columns: int, seed: int) -> Image.Image:
    """Rows of prompts, each with its words above it."""
    size, line = pictures.SIZE, 16
    sheet = Image.new("RGB", (columns * size, len(SHEET_ROWS) * (size + line)), "white")
    pen = ImageDraw.Draw(sheet)
    prompts = [prompt for prompt in SHEET_ROWS for _ in range(columns)]
    images = draw_prompts(pipeline, prompts, seed)
    for row, prompt in enumerate(SHEET_ROWS):
        top = row * (size + line)
        pen.text((3, top + 2), prompt, fill="black")
        for column in range(columns):
            picture = Image.fromarray(images[row * columns + column])
            sheet.paste(picture, (column * size, top + line))
    return sheet


def seconds_for_one(pipeline: StableDiffusionPipeline, rounds: int = 5) -> float:
    """The median time of one picture with guidance, after one that pays for caches."""
    taken = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        draw_prompts(pipeline, [SHEET_ROWS[0]], number)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def measure(
    pipeline: StableDiffusionPipeline, judge_folder: Path, prompts: int, seed: int
) -> dict[str, float]:
    """All figures of the report, by name."""
    reader = classifier.load_classifier(judge_folder / "classifier.safetensors")
    scenes = cartoon_scenes(seed, prompts)
    figures: dict[str, float] = {}

    texts = [full_caption(scene) for scene in scenes]
    images = draw_prompts(pipeline, texts, seed)
    real = np.stack([pictures.pixels(scene) for scene in scenes])
    for name, value in share_right(classifier.read(reader, images), scenes).items():
        figures[f"{name} right, pocket"] = value
    for name, value in share_right(classifier.read(reader, real), scenes).items():
        figures[f"{name} right, real drawings"] = value

    unseen = pictures.drawn(seed, range(pictures.UNSEEN, pictures.UNSEEN + 100))
    vae: AutoencoderKL = pipeline.vae
    figures["autoencoder PSNR, unseen drawings, dB"] = psnr(vae, unseen)

    one = scenes[0]
    rng = np.random.default_rng(seed)
    again = []
    for _ in range(50):
        other = pictures.scene_at(seed, int(rng.integers(pictures.UNSEEN)))
        varied = replace(
            one,
            x=other.x,
            scale=other.scale,
            flip=other.flip,
            lean=other.lean,
            individual=other.individual,
            seed=other.seed,
        )
        again.append(pictures.pixels(varied))
    figures["spread of 50 drawings of one prompt, pocket"] = spread(
        reader, draw_prompts(pipeline, [full_caption(one)] * 50, seed + 1)
    )
    figures["spread of 50 drawings of one prompt, real"] = spread(reader, np.stack(again))

    model = CLIPModel.from_pretrained(judge_folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(judge_folder)
    figures["judge: own caption first among 100, real"] = judge.rank_one(model, tokenizer, seed)
    if prompts >= 100:
        with torch.no_grad():
            seen = judge.image_embeddings(model, to_tensor(images[:100]))
            said = judge.text_embeddings(model, tokens(tokenizer, texts[:100]))
        best = (seen @ said.T).argmax(1)
        hits = [texts[int(b)] == text for b, text in zip(best, texts[:100], strict=True)]
        figures["judge: own caption first among 100, pocket"] = sum(hits) / len(hits)
    return figures


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    assets = REPOSITORY / "assets"
    parser.add_argument("--pocket", type=Path, default=assets / "pocket")
    parser.add_argument("--judge", type=Path, default=assets / "pocket-judge")
    parser.add_argument("--prompts", type=int, default=1000, help="0: only time one picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures here, beside what is there")
    parser.add_argument("--sheet", type=Path, help="write the contact sheet here")
    options = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(options.pocket, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if options.sheet:
        contact_sheet(pipeline, options.columns, options.seed).save(options.sheet)
    figures = {f"seconds for one picture of {STEPS} steps": seconds_for_one(pipeline)}
    if options.prompts:
        figures |= measure(pipeline, options.judge, options.prompts, options.seed)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value:.3f}")
    if options.json:
        before = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(before | figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
