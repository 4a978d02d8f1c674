"""The text encoder, taught to read before the UNet meets it.

Stable Diffusion's text encoder comes pretrained and stays frozen; this one does too. It learns,
from captions alone, to say what the scene is: linear heads on its mean hidden state name kind,
colour, pattern, accessory, place and style. Words it does not know appear in a tenth of the
captions and change nothing, so that a rare word is a blank for a visitor's concept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import parallel, pictures
from .anatomy import TEXT_LENGTH, TEXT_WIDTH, make_text_encoder
from .checkpoints import load_state, save_state
from .muon import optimizers
from .schedules import warmup_then_cosine
from .world import Scene, caption, facts, full_caption
from .world import vocabulary as v

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ANSWERS: dict[str, tuple[str, ...]] = {
    "kind": v.CLASSES,
    "colour": (*v.COLOURS, *v.HELD_OUT_COLOUR_WORDS),
    "pattern": v.PATTERNS,
    "accessory": v.ACCESSORIES,
    "place": v.PLACES,
    "style": (*v.STYLES, *v.HELD_OUT_STYLE_WORDS),
}
# What captions say beyond the facts; a frozen encoder would drop what nobody asked it for.
SAID = {**ANSWERS, "backdrop": ("none", *v.BACKDROPS)}


def answers(scene: Scene) -> list[int]:
    """The scene's facts as numbers, in the order of ANSWERS."""
    truth = facts(scene)
    return [options.index(truth[name]) for name, options in ANSWERS.items()]


def said(scene: Scene) -> list[int]:
    """The numbers of `answers`, and that of the plain background's colour."""
    return [*answers(scene), SAID["backdrop"].index(scene.backdrop or "none")]


def rare_word(rng: np.random.Generator) -> str:
    """A string of 2 to 6 letters."""
    return "".join(rng.choice(list(LETTERS), int(rng.integers(2, 7))))


def training_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption as the world says it, one in five the full one, one in ten with a rare word."""
    text = full_caption(scene) if rng.random() < 0.2 else caption(scene, rng)
    if rng.random() < 0.1:
        words = text.split()
        words.insert(int(rng.integers(len(words) + 1)), rare_word(rng))
        text = " ".join(words)
    return text


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token numbers (n, 32), padded and cut as StableDiffusionPipeline does."""
    return tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=TEXT_LENGTH,
        return_tensors="pt",
    ).input_ids


class FactHeads(nn.Module):
    """Linear classifiers on (n, 32, 192) hidden states; only needed while learning to read."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: nn.Linear(TEXT_WIDTH, len(options)) for name, options in SAID.items()}
        )

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """Logits, one tensor (n, options) a fact."""
        return [head(hidden.mean(dim=1)) for head in self.heads.values()]


def train(
    folder: Path, tokenizer: CLIPTokenizer, seed: int, device: str, steps: int, batch: int = 96
) -> CLIPTextModel:
    """Train or continue; the checkpoint lies in `folder`."""
    torch.manual_seed(seed)
    model = make_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    model, heads = model.to(device), FactHeads().to(device)
    lr = 2e-3
    optims = optimizers(nn.ModuleDict({"model": model, "heads": heads}), lr)
    path = folder / "text.pt"
    first = load_state(path, {"model": model, "heads": heads}, optims)
    for step in range(first, steps):
        rng = np.random.default_rng([seed, 4, step])
        scenes = [pictures.scene_at(seed, int(n)) for n in rng.integers(0, 10_000, batch)]
        texts = [training_caption(scene, rng) for scene in scenes]
        mine = slice(parallel.rank(), None, parallel.world())
        scenes, texts = scenes[mine], texts[mine]
        truth = torch.tensor([said(scene) for scene in scenes], device=device)
        hidden = model(tokens(tokenizer, texts).to(device)).last_hidden_state
        logits = heads(hidden)
        losses = [F.cross_entropy(logit, truth[:, i]) for i, logit in enumerate(logits)]
        torch.stack(losses).sum().backward()
        parallel.average_gradients([*model.parameters(), *heads.parameters()])
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = lr * warmup_then_cosine(step, steps, warmup=20)
            optim.step()
            optim.zero_grad(set_to_none=True)
        if parallel.rank() == 0 and (step % 25 == 24 or step == steps - 1):
            right = [
                (logit.argmax(1) == truth[:, i]).float().mean() for i, logit in enumerate(logits)
            ]
            heard = ", ".join(f"{n} {float(r):.2f}" for n, r in zip(SAID, right, strict=True))
            print(f"text: step {step + 1}, {heard}", flush=True)
            save_state(path, step + 1, {"model": model, "heads": heads}, optims)
    return model.eval().requires_grad_(False)
