"""Build the pocket: `python -m personalization.pocket.build`.

Stages, each resumed or skipped by what lies in the work folder: pictures, autoencoder, latents,
text, unet, decoder, export; then the judges, see judge.py, and what guides a picture beside its
prompt, by `--only reference` and `--only structure`. Run it again and it continues; stop it
with SIGTERM and it saves first. `--continue-from-assets` begins with the published weights.

On a CPU, `python -m torch.distributed.run --nproc_per_node CORES -m personalization.pocket.build`
is up to three times as fast, see parallel.py; on two cores the defaults take some hours. With CUDA
it takes bf16, and pictures are drawn while it trains. What an NVIDIA H200 does in ten minutes:

    python -m personalization.pocket.build --continue-from-assets --pictures 240000 --batch 384
        --lr 2e-3 --text-lr 4e-4 --seconds 330 --fall 0.65 --average 0.05 --compile
        --decoder-seconds 100 --decoder-batch 32
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from . import autoencoder as autoencoders
from . import card, parallel, reference, sampled, structure, text, unet
from . import latents as latent_files
from .anatomy import make_autoencoder, make_text_encoder, make_unet
from .checkpoints import REPOSITORY, load_state
from .dataset import Drawing, load_pictures
from .export import export
from .start import lay_out
from .tokens import tokenizers_in, training_folder

BESIDE = ("reference", "structure")  # trained beside the UNet as it is published; when asked for
STAGES = ("pictures", "autoencoder", "latents", "text", "unet", "decoder", "export")
# The autoencoder learns from so many pictures at most; they lie in memory.
AUTOENCODER_PICTURES = 24_000
FIRST_PICTURES = 10_000  # on a GPU the UNet begins with so many, and more come

Tokenizers = tuple[CLIPTokenizer, CLIPTokenizer]


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
    decoder_seconds: float | None
    decoder_batch: int
    decoder_sampled: int
    bf16: bool
    text_steps: int
    unet_steps: int
    half_steps: int
    batch: int
    lr: float
    text_lr: float
    fall: float
    average: float
    finish: int | None
    seconds: float | None
    compile: bool
    continue_from_assets: bool
    workers: int
    name: str
    took: str

    @property
    def cuda(self) -> bool:
        """Whether it runs on a GPU, beside which the CPU has time to draw."""
        return torch.device(self.device).type == "cuda"


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
    """The autoencoder's scaling factor: that of the published weights where it goes on from them,
    else what makes the latents' deviation one, and one where none are yet."""
    if build.continue_from_assets:
        return float(AutoencoderKL.load_config(build.out, subfolder="vae")["scaling_factor"])
    path = latent_files.path_of(build.work / "latents", 0)
    return latent_files.scaling_factor(np.load(path)) if path.exists() else 1.0


class Stages:
    """What the stages do, one method each, in their order."""

    def __init__(self, build: Build, tokenizers: Tokenizers, drawing: Drawing | None) -> None:
        self.build, self.tokenizers, self.drawing = build, tokenizers, drawing

    def wait_for(self, count: int) -> None:
        """Until so many pictures are drawn, in all processes."""
        if self.drawing:
            self.drawing.wait_for(min(count, self.build.pictures))
        parallel.wait()

    def drawings(self) -> np.ndarray:
        """What the autoencoder learns from."""
        count = min(self.build.pictures, AUTOENCODER_PICTURES)
        self.wait_for(count)
        return load_pictures(self.build.work / "pictures", count)

    def pictures(self) -> None:
        """Begin to draw; beside a GPU the rest waits for the first ones only."""
        self.wait_for(FIRST_PICTURES if self.build.cuda else self.build.pictures)

    def autoencoder(self) -> None:
        """Train the autoencoder, if it is not."""
        build = self.build
        if load_autoencoder(build)[1] < build.autoencoder_steps:
            plan = autoencoders.AutoencoderPlan(steps=build.autoencoder_steps, seed=build.seed)
            autoencoders.train(build.work, self.drawings(), plan, build.device)

    def latents(self) -> None:
        """Encode the pictures that are drawn."""
        model = load_autoencoder(self.build)[0].to(self.build.device)
        latent_files.encode_all(model, self.build.work, self.build.pictures)

    def text(self) -> None:
        """Teach the text encoder to read."""
        build = self.build
        text.train(build.work, self.tokenizers[0], build.seed, build.device, build.text_steps)

    def unet(self) -> None:
        """Train the UNet on what is encoded, and on more as it comes."""
        build, training = self.build, self.tokenizers[0]
        model = load_autoencoder(build)[0].to(build.device).requires_grad_(False)
        pictures = latent_files.TrainingSet(model, build.work, build.pictures)
        while pictures.grow():
            pass
        given = build.continue_from_assets
        scale = scale_of(build) if given else latent_files.scaling_factor(pictures.latents)
        data = unet.UnetData(
            pictures,
            empty=text.tokens(training, [""])[0].to(build.device),
            scale=scale,
        )
        torch.manual_seed(build.seed)
        unet.train(build.work, make_unet(), load_text(build, training), data, unet_plan(build))

    def sampled(self, drawings: np.ndarray) -> autoencoders.Sampled | None:
        """Drawings' latents as the UNet gives them back, if they are asked for."""
        build, count = self.build, min(self.build.decoder_sampled, len(drawings))
        if not count:
            return None
        average = make_unet()
        load_state(build.work / "unet.pt", {"average": average})
        training = self.tokenizers[0]
        text_encoder = load_text(build, training)
        pipeline = sampled.pipeline_of(load_autoencoder(build)[0], text_encoder, training, average)
        pipeline.to(build.device)
        with autoencoders.precision(build.device, build.bf16):
            latents = sampled.draw_all(pipeline, build.work, build.seed, count)
        return autoencoders.Sampled(latents, drawings[:count])

    def decoder(self) -> None:
        """Refine the decoder: the encoder stays, and the UNet with it."""
        build = self.build
        if not build.decoder_steps and not build.decoder_seconds:
            return
        plan = autoencoders.AutoencoderPlan(
            steps=build.decoder_steps,
            seconds=build.decoder_seconds,
            batch=build.decoder_batch,
            crops_until=0.0,
            lr=5e-4 if build.decoder_sampled else 2e-3,
            halved=0.0,
            noise=0.08,
            decoder_only=True,
            outlines=0.3 if build.decoder_sampled else 0.0,
            bf16=build.bf16,
            seed=build.seed + 1,
        )
        drawings = self.drawings()
        again = self.sampled(drawings)
        autoencoders.train(build.work, drawings, plan, build.device, again)

    def export(self) -> None:
        """Write assets/pocket from what there is, trained to the end or not."""
        if parallel.rank():
            return
        build = self.build
        autoencoder, whole, decoder = load_autoencoder(build)
        average = make_unet()
        steps = load_state(build.work / "unet.pt", {"average": average})
        before = card.sittings_in(build.out) if build.continue_from_assets else []
        now = sitting(build, steps, f"{whole} steps, then {decoder} of its decoder alone")
        text_encoder = load_text(build, self.tokenizers[0])
        export(build.out, autoencoder, text_encoder, self.tokenizers, average)
        card.write(build.out, [*before, now])
        print(f"export: {build.out}, UNet of {steps} steps", flush=True)


def unet_plan(build: Build) -> unet.UnetPlan:
    """How the UNet is trained; published weights are past half size."""
    return unet.UnetPlan(
        steps=build.unet_steps,
        half_steps=0 if build.continue_from_assets else build.half_steps,
        finish=build.finish,
        seconds=build.seconds,
        batch=build.batch,
        lr=build.lr,
        text_lr=build.text_lr,
        fall=build.fall,
        average=build.average,
        seed=build.seed,
        compile=build.compile,
    )


def sitting(build: Build, steps: int, autoencoder: str) -> card.Sitting:
    """What the model card says of this training."""
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    return card.Sitting(
        name=build.name,
        date=time.strftime("%Y-%m-%d"),
        command=shlex.join(["python", "-m", "personalization.pocket.build", *sys.argv[1:]]),
        machine=f"one {torch.cuda.get_device_name()}" if build.cuda else cores,
        time=build.took,
        pictures=build.pictures,
        samples=steps * build.batch,
        autoencoder=autoencoder,
    )


def parsed() -> tuple[Build, list[str]]:
    """The options, and the stages that are to run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cuda = torch.cuda.is_available()
    add = parser.add_argument
    add("--work", type=Path, default=REPOSITORY / "build" / "pocket")
    add("--out", type=Path, default=REPOSITORY / "assets" / "pocket")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if cuda else "cpu")
    add("--pictures", type=int, default=24_000, help="how many are drawn")
    add("--autoencoder-steps", type=int, default=620)
    add("--decoder-steps", type=int, default=600, help="after the UNet, decoder only")
    add("--decoder-seconds", type=float, help="so long instead, by the clock")
    add("--decoder-batch", type=int, default=4)
    add(
        "--decoder-sampled",
        type=int,
        default=0,
        help="learn, too, from so many drawings as the UNet gives them back, see sampled.py",
    )
    add("--bf16", action="store_true", help="the decoder in bfloat16, where the CPU computes in it")
    add("--text-steps", type=int, default=200)
    add("--unet-steps", type=int, default=6000)
    add("--half-steps", type=int, default=2500, help="of them at half size")
    add("--finish", type=int, help="so many UNet steps from here, instead")
    add("--seconds", type=float, help="train the UNet so long, by the clock, instead")
    add("--batch", type=int, default=32)
    add("--lr", type=float, default=1.5e-3)
    add("--text-lr", type=float, default=3e-4)
    add(
        "--fall", type=float, default=0.1, help="the last share, in which the rates fall to nothing"
    )
    add("--average", type=float, default=0.08, help="the averaged weights' horizon, a share")
    add("--compile", action="store_true", help="the UNet by torch.compile")
    add(
        "--continue-from-assets",
        action="store_true",
        help="start from --out's weights, all of them",
    )
    add("--workers", type=int, default=max(1, (os.cpu_count() or 1) - (3 if cuda else 0)))
    add("--name", default="unreleased", help="what the model card calls this training")
    add("--took", default="not noted", help="the time, for the model card")
    add("--only", nargs="+", choices=(*STAGES, *BESIDE), default=list(STAGES), metavar="STAGE")
    options = vars(parser.parse_args())
    stages = options.pop("only")
    return Build(**options), stages


def begin(build: Build) -> Tokenizers:
    """The work folder with what all stages need."""
    if parallel.rank() == 0:
        training, _ = tokenizers_in(build.work, build.seed)
        if build.continue_from_assets:
            lay_out(build.work, build.out, training, build.autoencoder_steps, build.text_steps)
    parallel.wait()
    return tokenizers_in(build.work, build.seed)


def drawing_of(build: Build) -> AbstractContextManager[Drawing | None]:
    """The pictures, being drawn by the first process."""
    if parallel.rank():
        return nullcontext()
    tokenizer = training_folder(build.work)
    folder = build.work / "pictures"
    return Drawing(folder, tokenizer, build.seed, build.pictures, build.workers)


def train_beside(build: Build, name: str) -> None:
    """Beside the UNet in `build.out`; each is a command of its own, too, with more to choose."""
    told = ["--work", str(build.work), "--assets", str(build.out.parent), "--seed", str(build.seed)]
    if name == "reference":
        reference.main(told)
        return
    for which in structure.MAPS:
        structure.main([*told, "--map", which])


def main() -> None:
    """Read the options and run the stages."""
    build, names = parsed()
    for name in BESIDE:
        if name in names:
            train_beside(build, name)
    if not set(names).intersection(STAGES):
        return
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    parallel.start()
    tokenizers = begin(build)
    with drawing_of(build) if "pictures" in names else nullcontext() as drawing:
        stages = Stages(build, tokenizers, drawing)
        for name in STAGES:
            if name in names:
                getattr(stages, name)()
                parallel.wait()


if __name__ == "__main__":
    main()
