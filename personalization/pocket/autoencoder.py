"""The autoencoder (Kingma & Welling 2014; Rombach et al. 2022): pictures to latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from . import parallel, pictures
from .anatomy import make_autoencoder
from .checkpoints import load_state, save_state
from .muon import optimizers
from .schedules import cosine, course
from .textures import texture

WARMUP, SAVED = 30, 50  # steps
TEXTURES = 1500
CELL = 4  # pixels, as wide as a latent's cell


@dataclass(frozen=True)
class AutoencoderPlan:
    """How the autoencoder is trained. Batches are of `batch` whole pictures, or 4 times as many
    crops of a quarter: the same work, more variety."""

    steps: int = 620
    seconds: float | None = None  # by the clock instead
    batch: int = 4
    crops_until: float = 0.65  # the share of steps on 64 px crops; the rest on whole pictures
    textures: float = 0.2
    lr: float = 3e-3
    kl: float = 2e-5
    halved: float = 0.25  # the share of batches whose latents are halved, see `loss`
    noise: float = 0.0  # on the latents; once they are standardised, in their deviations
    decoder_only: bool = False  # the encoder stays, so latents and UNet stay valid
    outlines: float = 0.0  # the weight of `outline_loss` on clean latents
    bf16: bool = False  # compute in bfloat16, the weights staying float32
    seed: int = 0


def to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1, channels last in memory."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return tensor.contiguous(memory_format=torch.channels_last)


def to_images(tensor: Tensor) -> np.ndarray:
    """The inverse of `to_tensor`, clipped."""
    scaled = (tensor.detach().float().cpu() + 1) * 127.5
    return scaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours, across and down."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1, L2 and the L1 of edges."""
    across, down = ((a - b).abs().mean() for a, b in zip(edges(output), edges(target), strict=True))
    difference = output - target
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * (across + down)


def steepness(images: Tensor, cell: int) -> Tensor:
    """The root mean square of edges in cells of so many pixels a side: (n, 1, h/cell, w/cell)."""
    across, down = edges(images)
    energy = F.pad(across, (0, 1)).square() + F.pad(down, (0, 0, 0, 1)).square()
    return (F.avg_pool2d(energy.mean(1, keepdim=True), cell) + 1e-4).sqrt()


def outline_loss(output: Tensor, target: Tensor, cell: int) -> Tensor:
    """How far outlines are from as steep as the target's, and flat areas from as flat.

    Blind to where in its cell an edge lies.
    """
    return (steepness(output, cell) - steepness(target, cell)).abs().mean()


def sampled_loss(model: AutoencoderKL, sampled: tuple[Tensor, Tensor]) -> Tensor:
    """For the UNet's latents and the drawings they are of: colours cell by cell, and outlines.

    Pixel by pixel the decoder would make soft whatever the UNet put elsewhere (docs/LOG.md).
    """
    output, target = model.decode(sampled[0]).sample.float(), sampled[1]
    difference = F.avg_pool2d(output, CELL) - F.avg_pool2d(target, CELL)
    colours = difference.abs().mean() + 2 * difference.square().mean()
    return colours + 2 * outline_loss(output, target, 2 * CELL)


@dataclass(frozen=True)
class Sampled:
    """Latents as the UNet gives them, (n, 4, 32, 32), and the uint8 drawings (n, 128, 128, 3) that
    they are of; see sampled.py."""

    latents: np.ndarray
    drawings: np.ndarray


def loss(
    model: AutoencoderKL, images: Tensor, plan: AutoencoderPlan, halve: bool = False
) -> Tensor:
    """Reconstruction, with noise on the latents, and a small Kullback-Leibler term.

    With `halve`, latents averaged over 2 x 2 must decode to the picture of half the size: latents
    that commute with scaling are easier to diffuse (EQ-VAE, Kouzelis et al. 2025).
    """
    posterior = model.encode(images).latent_dist
    latents = posterior.sample()
    if plan.noise:
        latents = latents + plan.noise * torch.randn_like(latents)
    if halve:
        latents, images = F.avg_pool2d(latents, 2), F.avg_pool2d(images, 2)
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    output = model.decode(latents).sample.float()
    value = picture_loss(output, images) + plan.kl * divergence
    return value + plan.outlines * outline_loss(output, images, CELL) if plan.outlines else value


class Batches:
    """Random crops or whole pictures, a share of them procedural textures; beside them as many
    drawings of which the UNet gave latents, if there are any."""

    def __init__(
        self, drawings: np.ndarray, plan: AutoencoderPlan, sampled: Sampled | None = None
    ) -> None:
        self.drawings, self.plan, self.sampled = drawings, plan, sampled
        rng = np.random.default_rng([plan.seed, 1])
        self.textures = np.stack([texture(rng, pictures.SIZE) for _ in range(TEXTURES)])

    def at(self, step: int, progress: float) -> np.ndarray:
        """This process's share of the batch of that step, a pure function of (seed, step) and of
        whether it is time for whole pictures."""
        rng = np.random.default_rng([self.plan.seed, 2, step])
        whole = progress >= self.plan.crops_until
        size = pictures.SIZE if whole else pictures.SIZE // 2
        batch = []
        for _ in range(self.plan.batch * (1 if whole else 4)):
            source = self.textures if rng.random() < self.plan.textures else self.drawings
            image = source[int(rng.integers(len(source)))]
            top, left = rng.integers(0, pictures.SIZE - size + 1, 2)
            image = image[top : top + size, left : left + size]
            if source is self.textures and rng.random() < 0.5:
                image = image[:, ::-1]
            batch.append(image)
        return np.stack(batch[parallel.rank() :: parallel.world()])

    def sampled_at(self, step: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Latents of the UNet's and their drawings, by the same rules."""
        if self.sampled is None:
            return None
        rng = np.random.default_rng([self.plan.seed, 3, step])
        rows = rng.integers(len(self.sampled.latents), size=self.plan.batch)
        rows = rows[parallel.rank() :: parallel.world()]
        latents = torch.from_numpy(self.sampled.latents[rows]).to(device).float()
        return latents, to_tensor(self.sampled.drawings[rows], device)


@torch.no_grad()
def psnr(model: AutoencoderKL, images: np.ndarray) -> float:
    """Mean peak signal-to-noise ratio in dB of the reconstructions of uint8 images."""
    device = next(model.parameters()).device
    values = []
    for start in range(0, len(images), 16):
        target = to_tensor(images[start : start + 16], device)
        output = model.decode(model.encode(target).latent_dist.mean).sample.clamp(-1, 1)
        error = ((output - target) / 2).square().mean(dim=(1, 2, 3))
        values.append(-10 * error.log10())
    return float(torch.cat(values).mean())


@torch.no_grad()
def standardise(model: AutoencoderKL, images: np.ndarray) -> None:
    """Fold shift and scale into the two 1 x 1 convolutions around the latents, in place.

    StableDiffusionPipeline knows one scaling factor and no shift; so the latents themselves are
    made of mean 0 and deviation 1 in each channel, and what comes out stays what it was.
    """
    device = next(model.parameters()).device
    means = torch.cat(
        [
            model.encode(to_tensor(images[start : start + 8], device)).latent_dist.mean
            for start in range(0, len(images), 8)
        ]
    )
    shift, scale = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    quant, post = model.quant_conv, model.post_quant_conv
    channels = len(scale)
    post.bias += post.weight[:, :, 0, 0] @ shift
    post.weight *= scale[None, :, None, None]
    quant.weight[:channels] /= scale[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - shift) / scale
    quant.bias[channels:] -= 2 * scale.log()


def precision(device: torch.device | str, bf16: bool) -> torch.autocast:
    """Computing in bfloat16 inside its block, the weights staying as they are, or as ever."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16)


class Pupil:
    """The autoencoder with its optimizers and its checkpoint."""

    def __init__(self, folder: Path, plan: AutoencoderPlan, device: str) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.device = plan, torch.device(device)
        self.model = make_autoencoder().to(device, memory_format=torch.channels_last)
        self.path = folder / "autoencoder.pt"
        if plan.decoder_only:
            load_state(self.path, {"model": self.model})
            self.model.encoder.requires_grad_(False)
            self.model.quant_conv.requires_grad_(False)
            self.path = folder / "decoder.pt"
        self.optims = optimizers(self.model, plan.lr)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.done = load_state(self.path, {"model": self.model}, self.optims)

    def learn(self, batches: Batches, step: int, progress: float) -> Tensor:
        """One step; its loss."""
        rng = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + step)
        halve = bool(torch.rand((), generator=rng) < self.plan.halved)
        target = to_tensor(batches.at(step, progress), self.device)
        sampled = batches.sampled_at(step, self.device)
        with precision(self.device, self.plan.bf16):
            value = loss(self.model, target, self.plan, halve)
            if sampled:
                value = value + sampled_loss(self.model, sampled)
        value.backward()
        parallel.average_gradients(self.trained)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optim in self.optims:
            for group in optim.param_groups:
                group["lr"] = self.plan.lr * min(1.0, (step + 1) / WARMUP) * cosine(progress)
            optim.step()
            optim.zero_grad(set_to_none=True)
        return value.detach()

    def save(self, step: int, unseen: np.ndarray, value: Tensor) -> None:
        """Write the checkpoint, and say how good it is."""
        quality = psnr(self.model.eval(), unseen)
        self.model.train()
        print(
            f"autoencoder: step {step}, loss {float(value):.4f}, unseen drawings {quality:.2f} dB",
            flush=True,
        )
        save_state(self.path, step, {"model": self.model}, self.optims)


def train(
    folder: Path,
    drawings: np.ndarray,
    plan: AutoencoderPlan,
    device: str,
    sampled: Sampled | None = None,
) -> AutoencoderKL:
    """Train or continue; the checkpoint lies in `folder`."""
    pupil, batches = Pupil(folder, plan, device), Batches(drawings, plan, sampled)
    unseen = pictures.drawn(plan.seed, range(pictures.UNSEEN, pictures.UNSEEN + 24))
    step, way = pupil.done, course(pupil.done, plan.steps, plan.seconds)
    started = step
    while (gone := parallel.agreed(way.progress(step), pupil.device)) < 1:
        value = pupil.learn(batches, step, gone)
        step += 1
        if step % SAVED == 0 and parallel.rank() == 0:
            pupil.save(step, unseen, value)
    if step > started and parallel.rank() == 0:
        if not plan.decoder_only:
            standardise(pupil.model, drawings[:300])
        pupil.save(step, unseen, value)
    return pupil.model.eval()
