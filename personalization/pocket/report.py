"""What the pocket can do, in figures: `python -m personalization.pocket.report`.

Prompts are full captions of unseen scenes; what is right is counted by the classifier, whose own
accuracy on real drawings stands beside it. Writes a table, optionally as JSON, and a contact sheet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image, ImageDraw
from transformers import CLIPModel, CLIPTokenizer

from . import card, classifier, judge, pictures, realism
from .autoencoder import psnr, to_images, to_tensor
from .checkpoints import REPOSITORY
from .text import tokens
from .world import Scene, facts, full_caption

STEPS, GUIDANCE = 20, 4.0
BATCHES = {"cpu": 16, "cuda": 128}  # pictures at a time: the noise is each one's own
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


def draw_prompts(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int) -> np.ndarray:
    """One picture a prompt, (n, 128, 128, 3) uint8; picture i from the noise of seed + i."""
    parts = []
    batch = BATCHES.get(pipeline.device.type, 16)
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
    """Unseen scenes whose facts words can say: nothing of held-out words, and no sketch."""
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


@torch.no_grad()
def reconstructed(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """The images through the autoencoder: the best that the UNet could draw."""
    device = next(vae.parameters()).device
    parts = []
    for start in range(0, len(images), 16):
        posterior = vae.encode(to_tensor(images[start : start + 16], device)).latent_dist
        parts.append(to_images(vae.decode(posterior.mean).sample))
    return np.concatenate(parts)


@torch.no_grad()
def embedded(model: CLIPModel, images: np.ndarray) -> np.ndarray:
    """The judge's unit vectors of uint8 images, (n, 128)."""
    parts = [
        judge.image_embeddings(model, to_tensor(images[start : start + 100])).numpy()
        for start in range(0, len(images), 100)
    ]
    return np.concatenate(parts)


def facts_right(
    reader: classifier.Classifier, scenes: list[Scene], drawn: np.ndarray, real: np.ndarray
) -> dict[str, float]:
    """How often the classifier reads what the caption said, in pictures and in real drawings."""
    figures = {}
    for source, images in (("pocket", drawn), ("real drawings", real)):
        for name, value in share_right(classifier.read(reader, images), scenes).items():
            figures[f"{name} right, {source}"] = value
    return figures


def spreads(
    pipeline: StableDiffusionPipeline, reader: classifier.Classifier, one: Scene, seed: int
) -> dict[str, float]:
    """How much drawings of one prompt differ, the pocket's and real ones."""
    drawn = draw_prompts(pipeline, [full_caption(one)] * 50, seed + 1)
    rng = np.random.default_rng(seed)
    others = [pictures.scene_at(seed, int(rng.integers(pictures.UNSEEN))) for _ in range(50)]
    real = np.stack([pictures.pixels(realism.variant(one, other)) for other in others])
    return {
        "spread of 50 drawings of one prompt, pocket": spread(reader, drawn),
        "spread of 50 drawings of one prompt, real": spread(reader, real),
    }


def judged(
    folder: Path,
    texts: list[str],
    drawn: np.ndarray,
    real: np.ndarray,
    again: np.ndarray,
    seed: int,
) -> dict[str, float]:
    """What the judge says: whose caption comes first, and how far the pictures are from drawings.

    again: real drawings of the same captions as `real`, so that the distance has a floor.
    """
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    figures = {"judge: own caption first among 100, real": judge.rank_one(model, tokenizer, seed)}
    seen, expected = embedded(model, drawn), embedded(model, real)
    if len(texts) >= 100:
        with torch.no_grad():
            said = judge.text_embeddings(model, tokens(tokenizer, texts[:100])).numpy()
        best = (seen[:100] @ said.T).argmax(1)
        hits = [texts[int(b)] == text for b, text in zip(best, texts[:100], strict=True)]
        figures["judge: own caption first among 100, pocket"] = sum(hits) / len(hits)
    distance = "judge: squared Fréchet distance to real drawings, x 1000"
    figures[f"{distance}, pocket"] = 1000 * realism.frechet(seen, expected)
    figures[f"{distance}, others of the same captions"] = 1000 * realism.frechet(
        embedded(model, again), expected
    )
    return figures


def sharpness(vae: AutoencoderKL, drawn: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The gradient's energy at outlines beside that of real drawings; what is lost is blurred."""
    whole = realism.outline_energy(real)
    best = realism.outline_energy(reconstructed(vae, real))
    return {
        "energy of outlines, share of real drawings', pocket": realism.outline_energy(drawn)
        / whole,
        "energy of outlines, share of real drawings', through the autoencoder": best / whole,
    }


def measure(
    pipeline: StableDiffusionPipeline, judge_folder: Path, prompts: int, seed: int
) -> dict[str, float]:
    """All figures of the report, by name."""
    reader = classifier.load_classifier(judge_folder / "classifier.safetensors")
    scenes = cartoon_scenes(seed, prompts)
    texts = [full_caption(scene) for scene in scenes]
    drawn = draw_prompts(pipeline, texts, seed)
    real = np.stack([pictures.pixels(scene) for scene in scenes])
    again = np.stack([pictures.pixels(scene) for scene in realism.variants(scenes, seed)])
    unseen = pictures.drawn(seed, range(pictures.UNSEEN, pictures.UNSEEN + 100))

    figures = facts_right(reader, scenes, drawn, real)
    figures["autoencoder PSNR, unseen drawings, dB"] = psnr(pipeline.vae, unseen)
    figures |= spreads(pipeline, reader, scenes[0], seed)
    figures |= judged(judge_folder, texts, drawn, real, again, seed)
    return figures | sharpness(pipeline.vae, drawn, real)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    assets = REPOSITORY / "assets"
    parser.add_argument("--pocket", type=Path, default=assets / "pocket")
    parser.add_argument("--judge", type=Path, default=assets / "pocket-judge")
    parser.add_argument("--prompts", type=int, default=1000, help="0: only time one picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures here, beside what is there")
    parser.add_argument("--sheet", type=Path, help="write the contact sheet here")
    parser.add_argument("--card", action="store_true", help="take them into the pocket's card")
    options = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(options.pocket, safety_checker=None)
    pipeline.to(options.device)
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
    if options.card:
        card.write(options.pocket, card.sittings_in(options.pocket))


if __name__ == "__main__":
    main()
