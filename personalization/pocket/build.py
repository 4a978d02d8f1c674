"""Build the pocket: `python -m personalization.pocket.build`.

Stages, each resumed or skipped by what lies in the work folder: pictures, autoencoder, latents,
text, unet, export; then the judges, see judge.py. Run it again and it continues; stop it with
SIGTERM and it saves first.

On a CPU, `python -m torch.distributed.run --nproc_per_node CORES -m personalization.pocket.build`
is up to three times as fast, see parallel.py; on two cores the defaults take some hours. With CUDA
it takes bf16, and is worth
`--pictures 200000 --batch 256 --unet-steps 40000 --half-steps 10000 --autoencoder-steps 20000`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from . import autoencoder as autoencoders
from . import latents as latent_files
from . import parallel, pictures, text, unet
from .anatomy import make_autoencoder, make_text_encoder, make_unet
from .checkpoints import load_state
from .export import export
from .start import lay_out
from .tokens import tokenizers_in

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("pictures", "autoencoder", "latents", "text", "unet", "decoder", "export")


@dataclass(frozen=True)
class Build:
    """Where and how large; the fields are the command line's options."""

    work: Path
    out: Path
    seed: int
    device: str
    pictures: int
    autoencoder_steps: int
    decoder_steps: int
    text_steps: int
    unet_steps: int
    half_steps: int
    batch: int
    finish: int | None
    continue_from_assets: bool
    workers: int
    took: str


def load_autoencoder(build: Build) -> tuple[AutoencoderKL, int, int]:
    """The autoencoder as far as it is trained, and the steps of the whole and of the decoder."""
    model = make_autoencoder()
    done = load_state(build.work / "autoencoder.pt", {"model": model})
    refined = load_state(build.work / "decoder.pt", {"model": model})
    model.register_to_config(scaling_factor=scale_of(build))
    return model.to(memory_format=torch.channels_last).eval(), done, refined


def load_text(build: Build, training: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder as far as it is trained."""
    model = make_text_encoder(len(training), training.bos_token_id, training.eos_token_id)
    load_state(build.work / "text.pt", {"model": model})
    load_state(build.work / "unet.pt", {"text_average": model})
    return model.eval().requires_grad_(False)


def scale_of(build: Build) -> float:
    """The autoencoder's scaling factor, one where no latents are yet."""
    folder = build.work / "latents"
    if not latent_files.path_of(folder, 0).exists():
        return 1.0
    return latent_files.scaling_factor(latent_files.load_all(folder, pictures.CHUNK))


def run_latents(build: Build) -> None:
    """Encode the pictures."""
    model, _, _ = load_autoencoder(build)
    latent_files.encode_all(
        model.to(build.device),
        build.work / "pictures",
        build.work / "latents",
        build.pictures,
        build.device,
    )


def run_unet(build: Build, training: CLIPTokenizer) -> None:
    """Train the UNet on what is encoded."""
    latents = latent_files.load_all(build.work / "latents", build.pictures)
    data = unet.UnetData(
        latents=latents,
        captions=unet.caption_table(training, build.seed, len(latents)),
        empty=text.tokens(training, [""])[0],
        scale=latent_files.scaling_factor(latents),
    )
    torch.manual_seed(build.seed)
    plan = unet.UnetPlan(
        steps=build.unet_steps,
        half_steps=0 if build.continue_from_assets else build.half_steps,
        batch=build.batch,
        seed=build.seed,
        finish=build.finish,
    )
    unet.train(build.work, make_unet(), load_text(build, training), data, plan, build.device)


def run_export(build: Build, tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]) -> None:
    """Write assets/pocket from what there is, trained to the end or not."""
    autoencoder, autoencoder_steps, decoder_steps = load_autoencoder(build)
    average = make_unet()
    steps = load_state(build.work / "unet.pt", {"average": average})
    readme = README.format(
        command="python -m personalization.pocket.build",
        seed=build.seed,
        pictures=build.pictures,
        autoencoder_steps=autoencoder_steps,
        decoder_steps=decoder_steps,
        took=build.took,
        steps=steps,
        half_steps=min(steps, build.half_steps),
        samples=steps * build.batch,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {build.device}",
        date=time.strftime("%Y-%m-%d"),
    )
    export(build.out, autoencoder, load_text(build, tokenizers[0]), tokenizers, average, readme)
    print(f"export: {build.out}, UNet of {steps} steps", flush=True)


README = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# The pocket

A text-to-image latent diffusion model of the anatomy of Stable Diffusion 1.x in miniature: 128 px,
latents of 4 x 32 x 32, CLIP text encoder of 4 x 192, UNet of 12.5 M parameters. Trained from
nothing but drawings that `personalization/pocket/world` makes; no photograph, no scraped picture,
no other model's weights.

| | |
|---|---|
| command | `{command}` |
| seed | {seed} |
| training pictures | {pictures} |
| autoencoder | {autoencoder_steps} steps, then {decoder_steps} of its decoder alone |
| UNet | {steps} steps ({half_steps} of them at half size), {samples} samples, averaged weights |
| machine | {machine} |
| time | {took} |
| date | {date} |
| licence | Apache-2.0 |

20 steps, guidance 4. `held_out_words.safetensors` holds the embeddings of words that the UNet was
trained with and the tokenizer no longer has: the ceiling for a learned word. `report.json` and
`contact-sheet.png` are written by `python -m personalization.pocket.report`.
"""


def main() -> None:
    """Read the options and run the stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "pocket")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "assets" / "pocket")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--pictures", type=int, default=24_000, help="how many are drawn")
    parser.add_argument("--autoencoder-steps", type=int, default=620)
    parser.add_argument(
        "--decoder-steps", type=int, default=600, help="after the UNet, decoder only"
    )
    parser.add_argument("--text-steps", type=int, default=200)
    parser.add_argument("--unet-steps", type=int, default=6000)
    parser.add_argument("--half-steps", type=int, default=2500, help="of them at half size")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--finish", type=int, help="end the UNet in so many steps, decaying")
    parser.add_argument(
        "--continue-from-assets",
        action="store_true",
        help="start from --out's weights, all of them",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--took", default="not noted", help="the time, for the model card")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    options = vars(parser.parse_args())
    stages = options.pop("only")
    build = Build(**options)
    torch.set_flush_denormal(True)
    parallel.start()

    if build.continue_from_assets and parallel.rank() == 0:
        training, _ = tokenizers_in(build.work, build.seed)
        lay_out(build.work, build.out, training, build.autoencoder_steps, build.text_steps)
    parallel.wait()
    if "pictures" in stages and parallel.rank() == 0:
        pictures.draw_all(build.work / "pictures", build.seed, build.pictures, build.workers)
    parallel.wait()
    if "autoencoder" in stages:
        autoencoders.train(
            build.work,
            pictures.load_all(build.work / "pictures", build.pictures),
            autoencoders.AutoencoderPlan(steps=build.autoencoder_steps),
            build.seed,
            build.device,
        )
    parallel.wait()
    if "latents" in stages:
        run_latents(build)
    parallel.wait()
    if {"text", "unet", "export"} & set(stages):
        if parallel.rank() == 0:
            tokenizers_in(build.work, build.seed)
        parallel.wait()
        tokenizers = tokenizers_in(build.work, build.seed)
    if "text" in stages:
        text.train(build.work, tokenizers[0], build.seed, build.device, build.text_steps)
        parallel.wait()
    if "unet" in stages:
        run_unet(build, tokenizers[0])
    if "decoder" in stages and build.decoder_steps:
        autoencoders.train(
            build.work,
            pictures.load_all(build.work / "pictures", build.pictures),
            autoencoders.AutoencoderPlan(
                steps=build.decoder_steps, crops_until=0.4, lr=2e-3, halved=0.0, noise=0.08
            ),
            build.seed + 1,
            build.device,
            decoder_only=True,
        )
    parallel.wait()
    if "export" in stages and parallel.rank() == 0:
        run_export(build, tokenizers)


if __name__ == "__main__":
    main()
