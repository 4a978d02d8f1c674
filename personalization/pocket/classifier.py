"""A small CNN that reads a drawing's facts: kind, colour, pattern, accessory, place, style.

The report counts with it what the pocket got right. It is trained on drawings alone, some passed
through the autoencoder, never on the UNet's pictures.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import parallel, pictures
from .autoencoder import to_tensor
from .checkpoints import load_state, save_state
from .muon import optimizers
from .schedules import warmup_then_cosine
from .text import ANSWERS, answers

WIDTHS = (32, 64, 128, 192)


class Classifier(nn.Module):
    """(n, 3, 128, 128) in -1..1 to logits a fact; 0.6 M parameters.

    Four neighbouring pixels become channels: half the size, and no spot or stripe is averaged away.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 12
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if width > WIDTHS[0]:
                layers += [
                    nn.Conv2d(width, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
            before = width
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(before * 4, len(options)) for name, options in ANSWERS.items()}
        )

    def features(self, images: Tensor) -> Tensor:
        """(n, 768): the last 4 x 4 map, averaged over quarters."""
        return F.adaptive_avg_pool2d(self.body(F.pixel_unshuffle(images, 2)), 2).flatten(1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (n, options) by fact."""
        features = self.features(images)
        return {name: head(features) for name, head in self.heads.items()}


def disturbed(images: Tensor, rng: torch.Generator) -> Tensor:
    """Light noise, shifts and changes of contrast, so that a soft decoder does not matter."""
    n = len(images)
    shift = torch.randint(-6, 7, (2,), generator=rng)
    images = torch.roll(images, (int(shift[0]), int(shift[1])), dims=(2, 3))
    gain = 1 + 0.1 * torch.randn(n, 1, 1, 1, generator=rng)
    noise = 0.1 * torch.rand(n, 1, 1, 1, generator=rng) * torch.randn(images.shape, generator=rng)
    return images * gain.to(images) + noise.to(images)


@torch.no_grad()
def read(model: Classifier, images: np.ndarray) -> dict[str, list[str]]:
    """The facts that the classifier sees in uint8 images (n, 128, 128, 3)."""
    found: dict[str, list[str]] = {name: [] for name in ANSWERS}
    for start in range(0, len(images), 64):
        logits = model(to_tensor(images[start : start + 64]))
        for name, options in ANSWERS.items():
            found[name] += [options[int(i)] for i in logits[name].argmax(1)]
    return found


def accuracy(model: Classifier, seed: int, count: int = 300) -> dict[str, float]:
    """The share right on unseen drawings; colours of sketches are not counted, they show none."""
    numbers = range(pictures.UNSEEN, pictures.UNSEEN + count)
    scenes = [pictures.scene_at(seed, number) for number in numbers]
    found = read(model, pictures.drawn(seed, numbers))
    right: dict[str, float] = {}
    for index, (name, options) in enumerate(ANSWERS.items()):
        counted = [
            found[name][i] == options[answers(scene)[index]]
            for i, scene in enumerate(scenes)
            if not (name == "colour" and scene.style == "sketch")
        ]
        right[name] = sum(counted) / len(counted)
    return right


def train(
    folder: Path,
    drawings: np.ndarray,
    autoencoder: AutoencoderKL,
    seed: int,
    steps: int = 700,
    batch: int = 64,
) -> Classifier:
    """Train or continue; a sixteenth of each batch has been through the autoencoder."""
    torch.manual_seed(seed)
    model = Classifier()
    lr = 2e-3
    optims = optimizers(model, lr, weight_decay=0.02)
    path = folder / "classifier.pt"
    truth = torch.tensor([answers(pictures.scene_at(seed, n)) for n in range(len(drawings))])
    sketch = truth[:, -1] == ANSWERS["style"].index("sketch")
    truth[sketch, list(ANSWERS).index("colour")] = -100  # ignored by cross_entropy
    started, first = time.time(), load_state(path, {"model": model}, optims)
    for step in range(first, steps):
        rng = torch.Generator().manual_seed(seed * 31 + step)
        rows = torch.randint(len(drawings), (batch,), generator=rng)
        images = to_tensor(drawings[rows.numpy()])
        with torch.no_grad():
            some = images[: batch // 16]
            images[: batch // 16] = autoencoder(some).sample.clamp(-1, 1)
        logits = model(disturbed(images, rng))
        losses = [F.cross_entropy(logit, truth[rows, i]) for i, logit in enumerate(logits.values())]
        torch.stack(losses).sum().backward()
        parallel.average_gradients(list(model.parameters()))
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = lr * warmup_then_cosine(step, steps, warmup=30)
            optim.step()
            optim.zero_grad(set_to_none=True)
        if step % 50 == 49 or step == steps - 1:
            seen = ", ".join(f"{n} {float(x):.2f}" for n, x in zip(ANSWERS, losses, strict=True))
            pace = (step + 1 - first) * batch / (time.time() - started)
            print(f"classifier: step {step + 1}, losses {seen}, {pace:.0f} samples/s", flush=True)
            save_state(path, step + 1, {"model": model}, optims)
    return model.eval()


def save_classifier(model: Classifier, path: Path) -> None:
    """fp16 weights."""
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, path)


def load_classifier(path: Path) -> Classifier:
    """What `save_classifier` wrote, in fp32."""
    model = Classifier()
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model.eval()
